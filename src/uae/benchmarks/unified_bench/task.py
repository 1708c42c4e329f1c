"""A run of Unified-Bench: its images, its models, which are loaded when needed, and its files.

RUN/captions/plain.jsonl, cut-16.jsonl ...   captions
RUN/images/plain/NAME.png, cut-16/ ...       redraws
RUN/settings.json, items.jsonl, result.json  see `benchmarks.results.run`
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from uae.backends.roles import Captioner, Generator, Request
from uae.benchmarks.unified_bench.budgets import PLAIN, Curve, Tokens
from uae.core.disks import folded, result_path
from uae.core.errors import UsageError
from uae.data.captions import CaptionRow, read_rows
from uae.rewards.similarity import Similarity


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is measured. The loaders are called once, and only where there is work for them.

    Attributes:
        images: Path of each image by its name, the path below the folder that holds all of them.
        tokens: Counts a caption's tokens; needed for a curve.
        plain: Asks for the plain captions.
        batch_size: Images at once; changes speed and memory alone.
        counted: Names of the paper's backbones, whose mean is the overall score and which others
            change nothing of; without them every backbone counts, and it is another benchmark.
    """

    images: Mapping[str, Path]
    out: Path
    captioner: Callable[[], Captioner]
    generator: Callable[[], Generator]
    backbones: Callable[[], Mapping[str, Similarity]]
    tokens: Tokens | None = None
    plain: Request = field(default_factory=Request)
    curve: Curve = field(default_factory=Curve)
    batch_size: int = 16
    counted: tuple[str, ...] = ()
    _redraws: dict[str, str] = field(init=False, repr=False, default_factory=dict)

    @property
    def variants(self) -> tuple[str, ...]:
        """The plain captions, then every budget of every method."""
        curve = self.curve
        return (PLAIN, *(x for method in curve.methods for x in curve.variants(method).values()))

    def captions_path(self, variant: str) -> Path:
        """Return the file of a variant's captions."""
        return self.out / "captions" / f"{variant}.jsonl"

    def captions(self, variant: str) -> dict[str, CaptionRow]:
        """Read a variant's captions, by image."""
        path = self.captions_path(variant)
        return {row.image: row for row in read_rows(path)} if path.exists() else {}

    def redraw_path(self, variant: str, name: str) -> Path:
        """Return the place of an image's redraw."""
        if not self._redraws:
            taken: set[str] = set()
            for image in sorted(self.images):
                wanted = Path(image).with_suffix(".png").as_posix()
                self._redraws[image] = result_path(wanted, taken)
                taken.add(folded(self._redraws[image]))
        return self.out / "images" / variant / self._redraws[name]


def check_stems(images: Mapping[str, Path]) -> None:
    """Refuse two images whose redraws would be one file."""
    seen: dict[str, str] = {}
    for name in images:
        stem = Path(name).with_suffix("").as_posix()
        if stem in seen:
            raise UsageError(
                f"{seen[stem]} and {name} have the same name but for its end: expected one image "
                "of each name"
            )
        seen[stem] = name
