"""Evaluators, which measure a run: the interface, and what all of them share.

An evaluator observes a model once at each evaluation point, and scores what it saw as often as a
report is written. There are two: held-out scenes (`scenes/evaluator.py`), and held-out images of
the user's own (`train/own_images.py`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from einops import rearrange
from jaxtyping import Float, UInt8

from uae.data.sources import ImageSource
from uae.data.survey import Survey
from uae.models.unified import UnifiedAutoEncoder
from uae.report.audit import AuditSamples
from uae.report.pixel_audit import PixelAudit, audit_pixels
from uae.report.statistics import weighted
from uae.report.tables import Metric
from uae.rewards.reward import Reward
from uae.train.observe import Observations, ShowProgress


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
    redraws: UInt8[np.ndarray, "n h w 3"]
    metrics: tuple[Metric, ...]
    audit: AuditSamples
    gate: Gate | None
    """None where the evaluator has none."""


@runtime_checkable
class Evaluator(Protocol):
    """Measures a run on images that are held out.

    evaluator.check()                                          # before anything is made
    evaluator.observe(model, untrained, backbones, folder, show)
    point = evaluator.score(folder, "start")
    """

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

    def observe(
        self,
        model: UnifiedAutoEncoder,
        untrained: UnifiedAutoEncoder | None,
        backbones: Mapping[str, Reward],
        folder: Path,
        show: ShowProgress,
    ) -> None:
        """Write what the model makes of the held-out images, whole or not at all.

        Args:
            model: The model at this point.
            untrained: Redraws for the swap test; None leaves it out.
            backbones: Similarity backbones, and other rewards, by name.
            folder: Where to write; must not exist.
            show: Told of every batch.
        """
        ...

    def score(self, folder: Path, name: str) -> Point:
        """Score what `observe` wrote, as the point `name`."""
        ...

    def gate(self, folder: Path) -> Gate | None:
        """Hold what `observe` wrote against the gate before encoder RL; None without a gate."""
        ...

    def originals(self, size_px: int) -> UInt8[np.ndarray, "n h w 3"]:
        """Return the held-out images as the model sees them."""
        ...

    def names(self) -> Sequence[str]:
        """Return the names of the held-out images."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunImages:
    """Images that a run trains on, and what measures it on images that are held out."""

    source: Callable[[int, Survey | None], ImageSource]
    """Opens the training images, as squares of that many pixels; a folder's by what a first look
    at it showed."""
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
        named = (
            ("held_out", "held-out backbone", "by a backbone that is never a reward", True),
            ("reward", "reward backbone", "what RL maximises", False),
            ("swap", "swap test", "the captions redrawn by a decoder that RL never trained", False),
        )
        values = (self.held_out, self.reward, self.swap)
        for (key, name, note, is_headline), samples in zip(named, values, strict=True):
            if samples is not None:
                yield Metric(
                    key=f"reconstruction/{key}",
                    group="Reconstruction similarity",
                    name=name,
                    samples=samples,
                    kind="number",
                    note=note,
                    is_headline=is_headline,
                )


def pixel_audit(images: UInt8[np.ndarray, "n h w 3"]) -> PixelAudit:
    """Measure brightness, high frequencies and strokes of images."""
    return audit_pixels(rearrange(images, "n h w c -> n c h w").astype(np.float64) / 255)
