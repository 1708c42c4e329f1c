"""A benchmark as an object: the flags it takes, and from them the plan of a run.

`table.BENCHMARKS` names the objects, and `uae eval NAME` and `uae eval NAME-images` are made from
them. These modules are imported for every help text, so what is heavy stands in their methods.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeVar, runtime_checkable

from cyclopts import Parameter

if TYPE_CHECKING:
    from uae.backends.answers import McqModel
    from uae.backends.judge import Judge
    from uae.benchmarks.results.result import BenchResult
    from uae.benchmarks.results.scores import Score
    from uae.core.provenance import BenchSettings, ModelStamp
    from uae.runs.rows import ItemRow

O_contra = TypeVar("O_contra", contravariant=True)

SWITCH = Parameter(negative="", show_default=False)
"""A flag that takes no value and has no opposite."""

AllowMissing = Annotated[
    bool, SWITCH, Parameter(help="Score what is there; the result is marked as incomplete.")
]
"""The flag `allow_missing` of benchmarks over images that may lack some."""

Asked = Literal["judge", "model"]
"""Who answers in a benchmark; the verb has its flags."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a run is given besides the flags of its benchmark.

    Attributes:
        out: Run folder.
        device: Of networks: "auto", "cpu", "cuda" or "cuda:1".
        judge: Loads the judge of a benchmark that asks one.
        model: Returns what loads the model of a benchmark that asks one, and what its answers
            depend on.
    """

    out: Path
    device: str
    judge: "Callable[[], Judge]"
    model: "Callable[[], tuple[Callable[[], McqModel], ModelStamp]]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A row to be made.

    Attributes:
        make: Makes it from the rows that are there, those of its group's earlier works at least.
        image: What is measured, for the row to name; None where it names pictures itself.
        group: The same for works that need each other's rows; by default it needs none.
        is_asked: Whether it is measured, not computed from other rows: progress counts it.
    """

    item: str
    make: "Callable[[Mapping[str, ItemRow]], ItemRow]"
    image: Path | None = None
    group: str = ""
    is_asked: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """A run to be made.

    Attributes:
        settings: What the numbers depend on; another name, version or option is another run.
        works: In an order in which each finds the rows it needs.
        scores: Tells from the rows what is computed.
        text: Writes what else the folder gets, and says the result in lines; by default its scores.
        incomplete: Says why the result is no score of the benchmark; "" if it is one.
        measured: Names of the works that are asked, where `works` can be gone through only once.
        asked: Who answers; reasons of rows that it gave no answer begin so, "judge: timed out".
        is_answered: Whether a row has an answer.
    """

    settings: "BenchSettings"
    works: Iterable[Work]
    scores: "Callable[[Sequence[ItemRow]], Sequence[Score]]"
    text: "Callable[[BenchResult], str] | None" = None
    incomplete: "Callable[[BenchResult], str]" = lambda _: ""
    measured: Collection[str] | None = None
    asked: Asked = "judge"
    is_answered: "Callable[[ItemRow], bool]" = lambda row: bool(row.samples)


@dataclass(frozen=True, slots=True)
class Picture:
    """A file to be drawn, .png or .jpg: one sample of a prompt, or a square grid of several.

    Of each sample, row by row, `keys` has what its noise depends on besides the seed.
    """

    path: Path
    prompt: str
    keys: tuple[tuple[int | str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSet:
    """A benchmark's prompts, to be drawn into a folder.

    Attributes:
        pictures: The files that the folder should hold.
        prepare: Writes what it holds besides images, before the first is drawn.
        table: Writes and returns what the scorer is given; by default the folder itself.
    """

    name: str
    sha256: str
    pictures: Callable[[Path], Sequence[Picture]]
    prepare: Callable[[Path], None] = lambda _: None
    table: Callable[[Path], Path] = lambda folder: folder


@runtime_checkable
class PromptImages(Protocol[O_contra]):
    """The images of a benchmark, drawn by a generator. The docstring is the help of the verb.

    Attributes:
        options: Dataclass of its flags, with `Parameter(name="*")`.
        after: The next command, with IMAGES for the folder.
    """

    options: type[Any]
    after: str

    def read(self, options: O_contra) -> PictureSet:
        """Read the prompts; raises `UsageError` where a file is missing or wrong."""
        ...


@runtime_checkable
class Benchmark(Protocol[O_contra]):
    """What measures images or a model. The docstring is the help of the verb.

    Attributes:
        given: Name and help of its one argument, a path.
        options: Dataclass of its flags, with `Parameter(name="*")`.
        unit: What progress counts, "image" say.
        asked: Whom it asks, whose flags the verb then has; None for networks of its own.
        images: Draws what is scored; None for a benchmark without prompts of its own.
    """

    given: Parameter
    options: type[Any]
    unit: str

    @property
    def asked(self) -> Asked | None: ...

    @property
    def images(self) -> PromptImages[Any] | None: ...

    def plan(self, given: Path, options: O_contra, means: Means) -> Plan:
        """Read and check what is given, load what measures it, and plan the run.

        Raises:
            UsageError: Something is missing or wrong.
        """
        ...
