"""The audits: a figure, its words, its bad direction, and how much of it would matter.

A margin is the change that a reader would notice in the pictures or captions: 0.01 of a cosine
similarity, 2 points of an accuracy. A bad change beyond its interval is a warning below the margin.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped

from uae.report.format import Kind
from uae.report.pixel_audit import PixelAudit, distance_from, excess_over
from uae.report.text_audit import TextAudit

Direction = Literal["rise", "fall"]


@dataclass(frozen=True, slots=True)
class AuditSamples:
    """One evaluation on the fixed held-out images, row i for image i; NaN: something failed."""

    reward_similarity: Float[np.ndarray, " n"]
    """Redraw against original, by the backbone that is the reward."""
    held_out_similarity: Float[np.ndarray, " n"]
    """The same by a backbone that is never a reward."""
    text: TextAudit
    redraws: PixelAudit
    swap_similarity: Float[np.ndarray, " n"] | None = None
    """Held-out similarity when a decoder that RL never trained redraws the same captions."""
    caption_precision: Float[np.ndarray, " n"] | None = None
    """Share of what a caption claims that is true of its image."""
    shape_accuracy: Float[np.ndarray, " n"] | None = None
    """Share of the objects a caption names whose shape is right."""
    understanding: Shaped[np.ndarray, " m"] | None = None
    """1 where a multiple-choice question was answered rightly; rows are questions."""
    text_skills: Shaped[np.ndarray, " t"] | None = None
    """The same of questions without an image; where none was asked there is no such audit."""


Values = Callable[[AuditSamples, PixelAudit], Shaped[np.ndarray, " n"] | None]


@dataclass(frozen=True, slots=True)
class Check:
    """A figure to compare, and what its bad direction would mean."""

    name: str
    kind: Kind
    bad: Direction
    margin: float
    subject: str
    meaning: str
    """What it means when the bad direction is taken."""
    values: Values
    """The figure, from an evaluation and the measures of the images themselves."""


HELD_OUT = Check(
    "Held-out similarity", "number", "fall", 0.01,
    "Similarity by the backbone that is never a reward",
    "What the reward's backbone gained, another one does not see.",
    lambda samples, _: samples.held_out_similarity,
)  # fmt: skip
SWAP = Check(
    "Swap test", "number", "fall", 0.01,
    "Similarity when a decoder that RL never trained redraws the same captions",
    "The captions are worth less to a stranger.",
    lambda samples, _: samples.swap_similarity,
)  # fmt: skip
PRECISION = Check(
    "Caption precision", "share", "fall", 0.02,
    "The true share of what captions claim", "Captions say more that is not in the image.",
    lambda samples, _: samples.caption_precision,
)  # fmt: skip
TEXT_SKILLS = Check(
    "Text skills", "share", "fall", 0.02,
    "Accuracy on multiple-choice questions without an image",
    "The encoder pays for its captions with what it knew of language.",
    lambda samples, _: samples.text_skills,
)  # fmt: skip
OF_ENCODER = (
    PRECISION,
    Check("Shape accuracy", "share", "fall", 0.02,
          "The share of named objects with the right shape",
          "What the decoder cannot draw, the encoder forgets.",
          lambda samples, _: samples.shape_accuracy),
    Check("Understanding", "share", "fall", 0.02,
          "Accuracy on multiple-choice questions",
          "The encoder pays for its captions with what it understood.",
          lambda samples, _: samples.understanding),
)  # fmt: skip
OF_TEXT = (
    Check("Repetition", "share", "rise", 0.05,
          "The share of repeated three-word sequences", "Captions repeat themselves.",
          lambda samples, _: samples.text.repetition),
    Check("Unknown words", "share", "rise", 0.02,
          "The share of words outside the known vocabulary",
          "Captions drift away from words that people know.",
          lambda samples, _: samples.text.unknown),
    Check("Script", "share", "rise", 0.01,
          "The share of letters outside the Latin script", "Captions change their script.",
          lambda samples, _: samples.text.non_latin),
    Check("Fluency", "share", "rise", 0.08,
          "The share of words that are not function words",
          "Captions turn from sentences into keyword lists.",
          lambda samples, _: samples.text.content_words),
)  # fmt: skip
OF_PIXELS = (
    Check("Painted text", "share", "rise", 0.01,
          "The share of pixels on thin strokes that the original lacks (a proxy, not OCR)",
          "Redraws may carry writing; look at the pictures.",
          lambda samples, originals: excess_over(originals.strokes, samples.redraws.strokes)),
    Check("High frequencies", "number", "rise", 0.01,
          "The distance of the redraws' fine texture from their originals'",
          "Redraws drift towards grids, checkers or noise.",
          lambda samples, originals: distance_from(
              originals.high_frequency, samples.redraws.high_frequency)),
    Check("Brightness", "number", "rise", 0.02,
          "The distance of the redraws' mean luminance from their originals'",
          "Redraws drift in brightness.",
          lambda samples, originals: distance_from(
              originals.brightness, samples.redraws.brightness)),
)  # fmt: skip
