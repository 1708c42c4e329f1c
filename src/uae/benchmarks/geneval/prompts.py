"""GenEval's prompts, made again byte for byte, and prompt files of the same schema.

The file `prompts/evaluation_metadata.jsonl` of djghosh13/geneval@af4902f (arXiv 2310.11513) follows
from its class names, its colours and one random generator, so it needs no download. A line asks for
objects (`include`), forbids some (`exclude`) and says so in words (`prompt`).
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from uae.benchmarks.geneval.clauses import RELATIONS, TAGS, Clause
from uae.benchmarks.prompt_set import count_at, parse_order
from uae.core.errors import EnvironmentFault, UsageError
from uae.core.identity import text_digests
from uae.core.json_lines import read_lines

CLASS_NAMES = (  # COCO's 80 in COCO's order; 64 to 66 are named more clearly than there
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant",
    "bed", "dining table", "toilet", "tv", "laptop", "computer mouse", "tv remote",
    "computer keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator",
    "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
COLORS = (
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white",
)  # fmt: skip

OFFICIAL = "geneval"
NUM_PROMPTS = 553
OFFICIAL_SHA256 = "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13"

_SEED = 43
_NUM_DRAWS = 100  # per category but the first; repetitions are dropped, hence 80 to 100 prompts
_NUMBER_WORDS = {2: "two", 3: "three", 4: "four"}
_CLAUSE_KEYS = {"include": ("class", "count", "color", "position"), "exclude": ("class", "count")}


@dataclass(frozen=True, slots=True)
class PromptLine:
    """A prompt and what its image must show: every `include` clause and no `exclude` clause."""

    tag: str
    include: tuple[Clause, ...]
    exclude: tuple[Clause, ...]
    prompt: str

    @property
    def metadata(self) -> str:
        """The line as JSON: the content of a `metadata.jsonl`, and the prompt's key in results."""
        values: dict[str, Any] = {"tag": self.tag, "include": [c.values() for c in self.include]}
        if self.exclude:
            values["exclude"] = [c.values() for c in self.exclude]
        return json.dumps(values | {"prompt": self.prompt})


@dataclass(frozen=True, slots=True)
class PromptSet:
    """Prompts in order; a prompt's index names its image folder.

    A score without the name of its set says little: rewritten prompts score higher.
    """

    name: str
    """"geneval" for the official prompts whatever their file is called, else the file's name."""
    lines: tuple[PromptLine, ...]

    @property
    def text(self) -> str:
        return "".join(f"{line.metadata}\n" for line in self.lines)

    @property
    def digests(self) -> dict[str, str | None]:
        """The sha256 of each prompt's line, by the name of its folder."""
        return text_digests({f"{i:05d}": line.metadata for i, line in enumerate(self.lines)})

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@cache
def official_prompts() -> PromptSet:
    """Make the 553 official prompts.

    Raises:
        EnvironmentFault: This NumPy draws other random numbers.
    """
    rng = np.random.default_rng(_SEED)
    lines = [_single_object(i) for i in rng.choice(80, 80, replace=False).tolist()]
    for draw in (_two_object, _counting, _colors, _position, _color_attr):
        lines += [draw(rng) for _ in range(_NUM_DRAWS)]
    prompts = PromptSet(OFFICIAL, tuple(dict.fromkeys(lines)))
    if prompts.sha256 != OFFICIAL_SHA256:
        raise EnvironmentFault(
            f"NumPy {np.__version__} draws other prompts than GenEval's (sha256 {prompts.sha256}, "
            f"expected {OFFICIAL_SHA256}): give the official evaluation_metadata.jsonl instead"
        )
    return prompts


def _a(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _line(tag: str, subject: str, *include: Clause, exclude: tuple[Clause, ...] = ()) -> PromptLine:
    return PromptLine(tag, include, exclude, f"a photo of {subject}")


def _single_object(class_id: int) -> PromptLine:
    name = CLASS_NAMES[class_id]
    return _line("single_object", _a(name), Clause(name, 1))


def _two_object(rng: np.random.Generator) -> PromptLine:
    first, second = (CLASS_NAMES[i] for i in rng.choice(80, 2, replace=False))
    subject = f"{_a(first)} and {_a(second)}"
    return _line("two_object", subject, Clause(first, 1), Clause(second, 1))


def _counting(rng: np.random.Generator) -> PromptLine:
    name = CLASS_NAMES[rng.choice(80)]
    count = int(rng.integers(2, 4, endpoint=True))
    plural = f"{name}es" if name.endswith("s") else f"{name}s"  # "sheeps" is in the file
    return _line(
        "counting",
        f"{_NUMBER_WORDS[count]} {plural}",
        Clause(name, count),
        exclude=(Clause(name, count + 1),),
    )


def _colors(rng: np.random.Generator) -> PromptLine:
    name = CLASS_NAMES[(rng.choice(79) + 1) % 80]
    color = COLORS[rng.choice(10)]
    return _line("colors", f"{_a(color)} {name}", Clause(name, 1, color))


def _position(rng: np.random.Generator) -> PromptLine:
    subject, reference = (CLASS_NAMES[i] for i in rng.choice(80, 2, replace=False))
    relation = RELATIONS[rng.choice(4)]
    return _line(
        "position",
        f"{_a(subject)} {relation} {_a(reference)}",
        Clause(reference, 1),
        Clause(subject, 1, position=(relation, 0)),
    )


def _color_attr(rng: np.random.Generator) -> PromptLine:
    names = [CLASS_NAMES[i] for i in rng.choice(79, 2, replace=False) + 1]
    colors = [COLORS[i] for i in rng.choice(10, 2, replace=False)]
    pairs = list(zip(colors, names, strict=True))
    subject = " and ".join(f"{_a(color)} {name}" for color, name in pairs)
    return _line("color_attr", subject, *(Clause(name, 1, color) for color, name in pairs))


def read_prompts(path: str | Path) -> PromptSet:
    """Read a metadata file; a wrong line is a `UsageError` that names line and key."""
    path = Path(path)
    rows = read_lines(path, "a GenEval metadata file")
    lines = tuple(parse_line(text, where) for where, text in rows)
    return PromptSet(OFFICIAL if lines == official_prompts().lines else path.name, lines)


def parse_line(text: str, where: str) -> PromptLine:
    """Read one JSON object of the schema; raises `UsageError`, which begins with `where`."""
    tag, prompt, include, exclude = parse_order(text, where, _CLAUSE_KEYS, _clause, TAGS)
    return PromptLine(tag, include, exclude, prompt)


def _clause(values: dict[str, Any], index: int, where: str) -> Clause:
    name, color = values["class"], values.get("color")
    if name not in CLASS_NAMES:
        raise UsageError(f"{where}: class {name!r} is not one of COCO's 80 as GenEval names them")
    count = count_at(values, where)
    if color is not None and color not in COLORS:
        raise UsageError(f"{where}: color {color!r}: expected one of {', '.join(COLORS)}")
    match position := values.get("position"):
        case None:
            return Clause(name, count, color)
        case [str(relation), target] if relation in RELATIONS and target in range(index):
            return Clause(name, count, color, (relation, int(target)))
    raise UsageError(
        f"{where}: position {position!r}: expected [relation, index of an earlier clause], with a "
        f"relation out of {', '.join(RELATIONS)}"
    )
