"""The audits: a figure's words, its bad direction, and how much of it would matter.

A margin is the change that a reader would notice in the pictures or captions: 0.01 of a cosine
similarity, 2 points of an accuracy. A bad change beyond its interval is a warning below the margin.
"""

from dataclasses import dataclass
from typing import Literal

from uae.report.format import Kind

Direction = Literal["rise", "fall"]


@dataclass(frozen=True, slots=True)
class Check:
    """A figure to compare, and what its bad direction would mean."""

    name: str
    subject: str
    bad: Direction
    margin: float
    meaning: str
    """What it means when the bad direction is taken."""
    kind: Kind = "number"


HELD_OUT = Check(
    "Held-out similarity",
    "Similarity by the backbone that is never a reward",
    "fall",
    0.01,
    "What the reward's backbone gained, another one does not see.",
)
SWAP = Check(
    "Swap test",
    "Similarity when a decoder that RL never trained redraws the same captions",
    "fall",
    0.01,
    "The captions are worth less to a stranger.",
)
PRECISION = Check(
    "Caption precision",
    "The true share of what captions claim",
    "fall",
    0.02,
    "Captions say more that is not in the image.",
    "share",
)
SHAPES = Check(
    "Shape accuracy",
    "The share of named objects with the right shape",
    "fall",
    0.02,
    "What the decoder cannot draw, the encoder forgets.",
    "share",
)
UNDERSTANDING = Check(
    "Understanding",
    "Accuracy on multiple-choice questions",
    "fall",
    0.02,
    "The encoder pays for its captions with what it understood.",
    "share",
)
TEXT_SKILLS = Check(
    "Text skills",
    "Accuracy on multiple-choice questions without an image",
    "fall",
    0.02,
    "The encoder pays for its captions with what it knew of language.",
    "share",
)
TEXT = {
    "repetition": Check(
        "Repetition",
        "The share of repeated three-word sequences",
        "rise",
        0.05,
        "Captions repeat themselves.",
        "share",
    ),
    "unknown": Check(
        "Unknown words",
        "The share of words outside the known vocabulary",
        "rise",
        0.02,
        "Captions drift away from words that people know.",
        "share",
    ),
    "non_latin": Check(
        "Script",
        "The share of letters outside the Latin script",
        "rise",
        0.01,
        "Captions change their script.",
        "share",
    ),
    "content_words": Check(
        "Fluency",
        "The share of words that are not function words",
        "rise",
        0.08,
        "Captions turn from sentences into keyword lists.",
        "share",
    ),
}
STROKES = Check(
    "Painted text",
    "The share of pixels on thin strokes that the original lacks (a proxy, not OCR)",
    "rise",
    0.01,
    "Redraws may carry writing; look at the pictures.",
    "share",
)
HIGH_FREQUENCY = Check(
    "High frequencies",
    "The distance of the redraws' fine texture from their originals'",
    "rise",
    0.01,
    "Redraws drift towards grids, checkers or noise.",
)
BRIGHTNESS = Check(
    "Brightness",
    "The distance of the redraws' mean luminance from their originals'",
    "rise",
    0.02,
    "Redraws drift in brightness.",
)
