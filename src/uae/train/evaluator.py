"""Evaluators, which measure a run: the interface, and what all of them share.

A model is observed once at each evaluation point, and scored as often as a report is written. There
are two evaluators: held-out scenes (`scenes/evaluator.py`), and held-out images of the user's own
(`train/own_images.py`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from einops import rearrange
from jaxtyping import Float, UInt8

from uae.data.shapes import Shapes, Size
from uae.data.sources import ImageSource
from uae.data.survey import Survey
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.recipe import EvaluationConfig
from uae.report.audit import AuditSamples
from uae.report.pixel_audit import PixelAudit, audit_pixels
from uae.report.statistics import weighted
from uae.report.tables import Metric
from uae.report.text_audit import audit_captions
from uae.train.observe import Observations, ShowProgress, Subjects


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Whether the decoder can draw what encoder RL would be rewarded for.

    Attributes:
        failing: Names of what falls short; empty where the gate is passed.
        finding: What the redraws kept, in words that end a sentence.
        consequence: What encoder RL would do to captions, in words.
    """

    failing: tuple[str, ...]
    finding: str
    consequence: str

    @property
    def passed(self) -> bool:
        return not self.failing


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A scored evaluation point."""

    name: str
    observations: Observations
    redraws: Sequence[UInt8[np.ndarray, "_ _ 3"]]
    metrics: tuple[Metric, ...]
    audit: AuditSamples
    gate: Gate | None
    """None where the evaluator has none."""


@runtime_checkable
class Evaluator(Protocol):
    """Measures a run on images that are held out.

    evaluator.check()                                          # before anything is made
    subjects = evaluator.subjects(model, show)                 # written to a folder by `observe`
    point = evaluator.score(folder, "start")
    """

    @property
    def config(self) -> EvaluationConfig:
        """How much is evaluated, and the seed."""
        ...

    @property
    def headlines(self) -> tuple[str, ...]:
        """Keys of the metrics that go into metrics.jsonl; the report has all of them."""
        ...

    @property
    def note(self) -> str:
        """What the figures rest on: images, their number, seeds."""
        ...

    def check(self) -> None:
        """Refuse settings that cannot be evaluated.

        Raises:
            UsageError: Names the keys.
        """
        ...

    def subjects(self, model: UnifiedAutoEncoder, show: ShowProgress) -> Subjects:
        """Return what a model is observed on; `show` is told of every batch of replies."""
        ...

    def score(self, folder: Path, name: str) -> Point:
        """Score what `observe` wrote to a folder, as the point `name`, its gate included."""
        ...

    def originals(self, sizes: Sequence[Size]) -> list[UInt8[np.ndarray, "_ _ 3"]]:
        """Return the held-out images, each in the height and width in which it was redrawn."""
        ...

    def names(self) -> Sequence[str]:
        """Return the names of the held-out images."""
        ...

    def num_drawn(self) -> int:
        """Return how many images a point draws at most."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunImages:
    """Images that a run trains on, and what measures it on images that are held out."""

    source: Callable[[Shapes, Survey | None], ImageSource]
    """Opens the training images in a decoder's shapes; a folder's by what a first look at it
    showed."""
    evaluator: Evaluator


@dataclass(frozen=True, slots=True, kw_only=True)
class Similarities:
    """Similarity of each held-out image and its redraw; NaN where a caption or redraw failed."""

    reward: Float[np.ndarray, " n"]
    held_out: Float[np.ndarray, " n"]
    """By backbones that are never a reward."""
    swap: Float[np.ndarray, " n"] | None
    """Held out, when a decoder that RL never trained redraws the captions."""

    @classmethod
    def of(cls, seen: Observations, reward: Mapping[str, float]) -> "Similarities":
        """Join an observation's backbones: the rewarded by weight, the others equally."""
        others = {name: 1.0 for name in seen.similarities if name not in reward}
        has_swap = bool(seen.swap_similarities)
        return cls(
            reward=weighted(seen.similarities, reward),
            held_out=weighted(seen.similarities, others),
            swap=weighted(seen.swap_similarities, others) if has_swap else None,
        )

    def metrics(self) -> Iterator[Metric]:
        """Yield them as metrics."""
        for key, samples, name, note in (
            (
                "held_out",
                self.held_out,
                "held-out backbone",
                "by a backbone that is never a reward",
            ),
            ("reward", self.reward, "reward backbone", "what RL maximises"),
            ("swap", self.swap, "swap test", SWAP_NOTE),
        ):
            if samples is not None:
                yield similarity_metric(key, name, samples, note, is_headline=key == "held_out")


SWAP_NOTE = "the captions redrawn by a decoder that RL never trained"


def similarity_metric(
    key: str, name: str, samples: Float[np.ndarray, " n"], note: str, *, is_headline: bool = False
) -> Metric:
    """Make a metric of the similarity of redraws."""
    return Metric(
        key=f"reconstruction/{key}",
        group="Reconstruction similarity",
        name=name,
        samples=samples,
        kind="number",
        note=note,
        is_headline=is_headline,
    )


def audit_samples(
    seen: Observations,
    redraws: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    similarities: Similarities,
    max_caption_tokens: int,
    vocabulary: Set[str] | None = None,
) -> AuditSamples:
    """Measure what can be audited without a truth; `vocabulary` has the known words, if any."""
    return AuditSamples(
        reward_similarity=similarities.reward,
        held_out_similarity=similarities.held_out,
        text=audit_captions(
            seen.captions,
            num_tokens=seen.num_tokens,
            max_tokens=max_caption_tokens,
            truncated=seen.truncated,
            vocabulary=vocabulary,
        ),
        redraws=pixel_audit(redraws),
        swap_similarity=similarities.swap,
    )


def pixel_audit(images: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> PixelAudit:
    """Measure brightness, high frequencies and strokes of images."""
    return audit_pixels([rearrange(x, "h w c -> c h w").astype(np.float64) / 255 for x in images])


def sizes_of(point: Point) -> list[Size]:
    """Return the height and width in which each held-out image was redrawn."""
    return [(redraw.shape[0], redraw.shape[1]) for redraw in point.redraws]
