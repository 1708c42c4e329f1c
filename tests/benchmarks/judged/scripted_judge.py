"""A judge that needs no weights: it is told its answers, and counts its questions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from uae.backends.judge import JudgeStamp


@dataclass
class ScriptedJudge:
    """`p` and `words` get (mean color of the image, question).

    `p` tells the probability of the first answer, and all others have the rest; or those of all.
    """

    p: Callable[[tuple[int, ...], str], float | list[float]] = lambda _color, _question: 1.0
    words: Callable[[tuple[int, ...], str], str] = lambda _color, _question: ""
    name: str = "scripted"
    kind: str = "local"
    asked: list[str] = field(default_factory=list)
    forms: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def stamp(self) -> JudgeStamp:
        return JudgeStamp(kind=self.kind, name=self.name, dtype="float32")

    def reply(self, image: Image.Image, system: str, text: str, max_tokens: int) -> str:
        self.asked.append(text)
        return self.words(color_of(image), text)

    def p_of(
        self, image: Image.Image, question: str, answers: Sequence[Sequence[str]]
    ) -> list[float]:
        self.asked.append(question)
        self.forms.append(tuple(answers[0]))
        p = self.p(color_of(image), question)
        return p if isinstance(p, list) else [p, 1 - p]


def color_of(image: Image.Image) -> tuple[int, ...]:
    return tuple(int(x) for x in np.asarray(image).mean((0, 1)).round())
