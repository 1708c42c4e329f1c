"""Drawability of photos: the words of a caption that the encoder reads again in its redraw.

Of photos no truth is known, so the gate asks the encoder, before RL has touched it. A word counts
where the caption has it and the encoder's own reading of the photo has it too. How many of these
does it read in the redraw? Two figures say what to expect: how many it reads in the photo a second
time, and how many in the redraw of another photo, by chance.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from uae.report.format import interval_text, value_text
from uae.report.statistics import estimate, paired_difference
from uae.report.tables import Metric
from uae.report.text_audit import FUNCTION_WORDS, words
from uae.train.evaluator import Gate

LEAST_KEPT = 0.5
"""Share of the way from chance to a second reading of the photo that redraws must reach. A
convention of ours, not derived."""


@dataclass(frozen=True, slots=True)
class Readings:
    """Texts of some held-out images, row by row.

    Attributes:
        captions: What was drawn.
        photos: The encoder's reading of the photo.
        photos_again: Another, of another seed.
        redraws: Its reading of the caption's redraw.
    """

    captions: list[str]
    photos: list[str]
    photos_again: list[str]
    redraws: list[str]


@dataclass(frozen=True, slots=True)
class WordsKept:
    """Shares of the words that a caption and the reading of its photo have in common, by photo.

    NaN where there are none.
    """

    again: Float[np.ndarray, " n"]
    redraw: Float[np.ndarray, " n"]
    chance: Float[np.ndarray, " n"]

    @classmethod
    def of(cls, readings: Readings) -> "WordsKept":
        """Count the words; the redraw of another photo is the next one's."""
        rows = zip(readings.captions, readings.photos, strict=True)
        wanted = [_content(caption) & _content(photo) for caption, photo in rows]
        others = [*readings.redraws[1:], *readings.redraws[:1]]
        return cls(
            *(
                np.array([_share(w, text) for w, text in zip(wanted, texts, strict=True)])
                for texts in (readings.photos_again, readings.redraws, others)
            )
        )

    def metrics(self) -> tuple[Metric, ...]:
        """Return them as metrics."""
        return tuple(
            Metric(
                key=f"drawability/{key}",
                group="Words of captions that the encoder reads again",
                name=name,
                samples=samples,
            )
            for key, name, samples in (
                ("redraw", "in the redraw", self.redraw),
                ("photo", "in the photo, a second time", self.again),
                ("chance", "in the redraw of another photo", self.chance),
            )
        )

    def gate(self) -> Gate:
        """Hold redraws against the share to keep, and against chance, beyond its interval.

        A share not measured (NaN) fails.
        """
        above = self.redraw - self.chance
        is_enough = estimate(above - LEAST_KEPT * (self.again - self.chance)).value >= 0
        redraw, again, chance = (estimate(x) for x in (self.redraw, self.again, self.chance))
        return Gate(
            failing=()
            if is_enough and paired_difference(self.chance, self.redraw).rises
            else ("words",),
            finding=(
                f"of a caption's words that it reads in a photo, the encoder reads "
                f"{value_text(redraw.value, 'share')} ({interval_text(redraw, 'share')}) in the "
                f"redraw, {value_text(again.value, 'share')} in the photo a second time, and "
                f"{value_text(chance.value, 'share')} in the redraw of another photo"
            ),
            consequence=(
                "encoder RL will forget words that the decoder does not draw: train pretrain "
                "longer first, or take another decoder"
            ),
        )


def _content(text: str) -> set[str]:
    return set(words(text)) - FUNCTION_WORDS


def _share(wanted: set[str], text: str) -> float:
    return len(wanted & _content(text)) / len(wanted) if wanted else float("nan")
