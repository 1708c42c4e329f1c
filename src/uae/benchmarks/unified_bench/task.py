"""What a run of Unified-Bench is: images, models that are loaded when needed, and files.

RUN/captions/plain.jsonl, cut-16.jsonl ...   captions
RUN/images/plain/NAME.png, cut-16/ ...       redraws
RUN/settings.json, items.jsonl, result.json  see `eval.results.run`
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from uae.backends.failure import Failure
from uae.backends.roles import Captioner, Generator, Request
from uae.benchmarks.unified_bench.budgets import PLAIN, Budget, Method, Tokens
from uae.core.disks import folded, result_path
from uae.core.errors import UsageError
from uae.data.captions import CaptionRow, read_rows
from uae.data.folder import NamedImage
from uae.data.opening import open_image
from uae.data.untrusted.file import UnreadableImage
from uae.rewards.similarity import Similarity


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Which rate-distortion curves are measured.

    Attributes:
        methods: How captions are kept short; none for no curve.
        sizes: Budgets in tokens.
        num_samples: Captions to choose from by the method `sample`.
    """

    methods: tuple[Method, ...] = ()
    sizes: tuple[int, ...] = ()
    num_samples: int = 8

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """Every size of every method."""
        return tuple(Budget(method, size) for method in self.methods for size in self.sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is measured. The loaders are called once, and only where there is work for them.

    Attributes:
        images: Path of each image by its name, see `commands.inputs.find_images`.
        out: Run folder.
        captioner: Loads what writes.
        generator: Loads what draws.
        backbones: Loads what compares, by name.
        tokens: Counts a caption's tokens; needed for a curve.
        plain: Asks for the plain captions.
        curve: Budgets.
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
        """The plain captions, then every budget."""
        return (PLAIN, *(budget.name for budget in self.curve.budgets))

    def captions_path(self, variant: str) -> Path:
        """Return the file of a variant's captions."""
        return self.out / "captions" / f"{variant}.jsonl"

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
    """Refuse two images whose redraws would be one file.

    Raises:
        UsageError: Names both.
    """
    seen: dict[str, str] = {}
    for name in images:
        stem = Path(name).with_suffix("").as_posix()
        if stem in seen:
            raise UsageError(
                f"{seen[stem]} and {name} have the same name but for its end: expected one image "
                "of each name"
            )
        seen[stem] = name


def opened(task: Task, names: Sequence[str]) -> tuple[list[NamedImage], dict[str, Failure]]:
    """Open images; those that do not open are failures."""
    items, failures = [], {}
    for name in names:
        try:
            items.append(NamedImage(name, open_image(task.images[name])))
        except UnreadableImage as error:
            failures[name] = Failure("unreadable image", str(error))
    return items, failures


def read_captions(task: Task, variant: str) -> dict[str, CaptionRow]:
    """Return a variant's captions by image."""
    path = task.captions_path(variant)
    return {row.image: row for row in read_rows(path)} if path.exists() else {}
