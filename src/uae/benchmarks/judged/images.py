"""Images by name, one file each: checked for completeness before a judge is loaded."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from uae.core.errors import UsageError
from uae.core.ranks import current
from uae.data.folder import SUFFIXES
from uae.report.format import listed
from uae.runs.first_look import faults_of

log = logging.getLogger(__name__)

_MAX_LISTED = 20


@dataclass(frozen=True, slots=True)
class ImageSet:
    """The images of a benchmark's items, those that are there, readable or not.

    `faults` says why an image cannot be judged; `shown` what messages call it instead of the item's
    name; `extra` are files of no item.
    """

    root: Path
    paths: Mapping[str, Path]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    faults: Mapping[str, str]
    shown: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether each item has an image that opens; files too many change nothing."""
        return not self.missing and not self.faults

    def by_kind(self) -> dict[str, Sequence[str]]:
        """Return what keeps the set from being complete, by kind."""
        missing = [self.shown.get(name, name) for name in self.missing]
        faults = [f"{self.shown.get(name, name)}: {fault}" for name, fault in self.faults.items()]
        return {"missing images": missing, "unreadable images": faults}

    def summary(self) -> str:
        """Say in words what is amiss."""
        return listed({**self.by_kind(), "files of no item": self.extra})


def files_of_no_item(
    root: Path, expected: Mapping[str, Path], id_of: Callable[[str], str] = str
) -> list[str]:
    """Return the names of a folder's image files, of any suffix, that are no item's."""
    entries = sorted(root.iterdir()) if root.is_dir() else []
    files = [p for p in entries if p.suffix.lower() in SUFFIXES and p.is_file()]
    by_item: dict[str, list[str]] = {name: [] for name in expected}
    for path in files:
        by_item.get(id_of(path.stem), []).append(path.name)
    doubled = [f"{item} ({' and '.join(of)})" for item, of in by_item.items() if len(of) > 1]
    if doubled:
        kinds = {"items with more than one file": doubled}
        raise UsageError(
            f"{root} holds two files of one item:\n{listed(kinds, _MAX_LISTED)}\nExpected one "
            "each; take the other away"
        )
    used = set(expected.values())
    return [path.name for path in files if path not in used]


def check_images(
    root: Path,
    expected: Mapping[str, Path | None],
    extra: Sequence[str] = (),
    *,
    allow_missing: bool = False,
    shown: Mapping[str, str] = MappingProxyType({}),
    fault_of: Callable[[Path], str] = lambda _: "",
) -> ImageSet:
    """Look for each item's image, and at its container, so that faults show at the start.

    What is not complete is refused, unless `allow_missing`; `fault_of` says what is wrong with an
    image whose container is sound, its size say.
    """
    paths = {name: path for name, path in expected.items() if path and path.is_file()}
    faults = faults_of(paths)
    faults |= {x: fault for x in paths.keys() - faults if (fault := fault_of(paths[x]))}
    images = ImageSet(
        root=root,
        paths=paths,
        missing=tuple(name for name in expected if name not in paths),
        extra=tuple(extra),
        faults={name: faults[name] for name in paths if name in faults},
        shown=shown,
    )
    if len(images.faults) == len(paths):
        raise UsageError(f"{root} holds no image to judge:\n{images.summary()}")
    if not images.is_complete and not allow_missing:
        raise UsageError(
            f"{root} is no complete set of {len(expected)} images:\n{images.summary()}\nAdd or "
            "repair them; or give --allow-missing, and the result will be marked"
        )
    if images.extra and images.is_complete and current().is_first:
        log.warning("%s holds more than the benchmark:\n%s", root, images.summary())
    return images
