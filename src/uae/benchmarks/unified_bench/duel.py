"""Unified-Bench's second protocol: a judge looks at an image and at two captions of it.

Each pair is judged in both orders, as judges prefer a place. Source: arXiv 2509.09666, protocol 2
(scores of 1 to 10, then a choice); its prompt is not published, and this one is ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from uae.backends.failure import BackendFailed, Failure
from uae.backends.files import CaptionsFile
from uae.backends.judge import Judge
from uae.backends.replies import json_objects
from uae.benchmarks.benchmark import Plan, Work
from uae.benchmarks.judged.rows import failed_row
from uae.benchmarks.results.scores import Score
from uae.benchmarks.unified_bench.run import summary_text
from uae.core.errors import UsageError
from uae.core.identity import file_digest, text_digests
from uae.core.provenance import BenchSettings, ModelStamp, image_digests, images_stamp
from uae.data.opening import open_image
from uae.data.untrusted.file import UnreadableImage
from uae.report.format import listed
from uae.runs.rows import ItemRow

RULES = "uae-caption-duel-1"
"""Of the prompt and of how replies are read; a change of them needs another name."""
MAX_TOKENS = 200
SYSTEM = (
    "You compare two captions of one image. Judge what they say of this image and nothing else: "
    "their length and their order do not count."
)
QUESTION = """Caption A: {first}

Caption B: {second}

Score each caption from 1 (worst) to 10 (best) on three points: completeness (what the image shows \
is said, and what is said is there), fluency, and insight (what the image means is understood). \
Then choose the better caption. Answer with one JSON object and nothing else:
{{"A": {{"completeness": 1, "fluency": 1, "insight": 1}}, "B": {{"completeness": 1, "fluency": 1, \
"insight": 1}}, "choice": "A"}}"""
_MAX_LISTED = 20


class Points(BaseModel, frozen=True):
    """Scores of one caption, 1 to 10."""

    completeness: float = Field(ge=1, le=10)
    fluency: float = Field(ge=1, le=10)
    insight: float = Field(ge=1, le=10)


class Verdict(BaseModel, frozen=True):
    """What a judge says of caption A and caption B."""

    A: Points
    B: Points
    choice: Literal["A", "B"]


SCORES = (
    Score(name="second preferred", sample="second_preferred"),
    Score(name="orders agree", sample="agree"),
    Score(name="first place preferred", sample="first_place"),
    *(
        Score(name=f"{which} {point}", sample=f"{which}_{point}")
        for which in ("first", "second")
        for point in Points.model_fields
    ),
)


@dataclass(frozen=True, slots=True)
class Duel:
    """Two captions of one image."""

    name: str
    path: Path
    first: str
    second: str


def read_verdict(reply: str) -> Verdict:
    """Read a judge's reply: its first JSON object."""
    values = next(json_objects(reply), None)
    if values is None:
        raise BackendFailed(
            "judge: not the form asked for",
            "the reply: no JSON object found, expected one with A, B and choice",
        )
    try:
        return Verdict.model_validate(values)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"])) or "the reply"
        raise BackendFailed("judge: not the form asked for", f"{where}: {fault['msg']}") from error


def pair_up(
    images: Mapping[str, Path], first: Path, second: Path
) -> tuple[dict[str, Duel], list[CaptionsFile]]:
    """Pair the captions of each image; return the pairs, and both files."""
    given = [CaptionsFile(path, images) for path in (first, second)]
    for captions in given:
        missing = [name for name in images if name not in captions.texts]
        if missing:
            gaps = listed({"images without a caption": missing}, _MAX_LISTED)
            raise UsageError(
                f"{captions.path}: not all of {len(images)} images have a caption:\n{gaps}\n"
                "Add what is missing: a duel needs two captions of each image"
            )
    duels = {
        name: Duel(name, path, *(captions.texts[name] for captions in given))
        for name, path in images.items()
    }
    return duels, given


def plan_of(
    judge: Judge,
    duels: Mapping[str, Duel],
    first: Path,
    second: Path,
    gaps: Mapping[str, Any] | None = None,
) -> Plan:
    """Plan to judge each pair in both orders; one without two verdicts is excluded and counted.

    The captions of `second` are what is measured; `gaps` are options that say which images do not
    open.
    """
    images = image_digests({name: duel.path for name, duel in duels.items()})
    settings = BenchSettings(
        benchmark="caption-duel",
        version=RULES,
        model=ModelStamp(
            name=str(second),
            dtype="none",
            backend="captions",
            files={"captions": file_digest(second)},
        ),
        data={
            **images_stamp(second, images).files,
            "first captions": file_digest(first),
            "judge": judge.stamp.identity,
        },
        options={"first": str(first), "judge": judge.stamp.values(), **(gaps or {})},
        inputs={
            "image": images,
            "first caption": text_digests({name: duel.first for name, duel in duels.items()}),
            "second caption": text_digests({name: duel.second for name, duel in duels.items()}),
        },
    )
    works = [
        Work(item=name, make=lambda _, duel=duel: _row(judge, duel)) for name, duel in duels.items()
    ]
    return Plan(settings, works, lambda _: SCORES, text=summary_text)


def _row(judge: Judge, duel: Duel) -> ItemRow:
    replies: list[str] = []
    try:
        image = open_image(duel.path)
        verdicts = []
        for pair in ((duel.first, duel.second), (duel.second, duel.first)):
            question = QUESTION.format(first=pair[0], second=pair[1])
            replies.append(judge.reply(image, SYSTEM, question, MAX_TOKENS))
            verdicts.append(read_verdict(replies[-1]))
    except UnreadableImage as error:
        return failed_row(ItemRow(item=duel.name), Failure("unreadable image", str(error)))
    except BackendFailed as error:
        return failed_row(ItemRow(item=duel.name, details={"replies": replies}), error)
    return ItemRow(
        item=duel.name,
        samples=samples_of(*verdicts),
        details={
            "first": duel.first,
            "second": duel.second,
            "replies": replies,
            "pictures": {"image": str(duel.path.resolve())},
        },
    )


def samples_of(forth: Verdict, back: Verdict) -> dict[str, float]:
    """Return a pair's samples: the first caption was shown as A `forth`, and as B `back`."""
    second_wins = [forth.choice == "B", back.choice == "A"]
    points = {"first": (forth.A, back.B), "second": (forth.B, back.A)}
    return {
        "second_preferred": sum(second_wins) / 2,
        "agree": float(second_wins[0] == second_wins[1]),
        "first_place": ((forth.choice == "A") + (back.choice == "A")) / 2,
        **{
            f"{which}_{key}": sum(getattr(x, key) for x in both) / 2
            for which, both in points.items()
            for key in Points.model_fields
        },
    }
