"""Roles of a backend: it writes captions, draws them, or answers in a chat.

A class says which of these protocols it keeps by naming them as its bases; `load.BACKENDS` is the
table of all classes. Judging and multiple choice are functions over `Chat`, see `judge.py` and
`answers.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image

from uae.backends.failure import Failure
from uae.backends.first_token import FirstToken
from uae.backends.reference import Given, Spec
from uae.core.provenance import ModelStamp
from uae.data.folder import NamedImage
from uae.flow.noise import stream
from uae.runs.cut_captions import Reader

MAX_NEW_TOKENS = 1024
"""Longest caption of a model that is not ours."""


@dataclass(frozen=True, slots=True)
class Written:
    """A caption. It is truncated when it reached the captioner's limit without an end."""

    text: str
    is_truncated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of a captioner.

    Attributes:
        instruction: Added to the prompt, "" for the plain one.
        temperature: 0 takes the most probable words.
        draw: Which of several captions of an image; each has words of its own.
    """

    instruction: str = ""
    temperature: float = 0.0
    draw: int = 0


@dataclass(frozen=True, slots=True)
class Caption:
    """What a generator sees: the words, and what its noise hangs on besides the seed.

    Attributes:
        name: Of the image that the words describe, or of a sample of them.
        text: The words.
        key: Of the sample's noise; by default that of the image's redraws.
    """

    name: str
    text: str
    key: tuple[int | str, ...] = ()

    def noise(self, seed: int) -> torch.Generator:
        """Return where the noise comes from."""
        return stream(seed, *(self.key or ("draw", self.name)))


@dataclass(frozen=True, slots=True)
class ChatReply:
    """An answer in a chat.

    Attributes:
        text: As it came, blanks at both ends left out.
        first: Its first token's probabilities, where they are known.
        is_cut: Whether it reached the limit without an end.
        model: What answered, by its own account; empty on this machine.
    """

    text: str
    first: FirstToken | None = None
    is_cut: bool = False
    model: str = ""


@runtime_checkable
class Backend(Protocol):
    """What every kind of `KIND:NAME` has."""

    @classmethod
    def open(cls, spec: Spec, given: Given) -> Callable[[], Any]:
        """Return what loads it; a file, a folder and an address are checked at once.

        Raises:
            UsageError: There is no such file or address, or, when loaded, no such model.
        """
        ...

    @classmethod
    def stamp_of(cls, spec: Spec, given: Given) -> ModelStamp:
        """Say what its results depend on, without loading it.

        Raises:
            UsageError: It is not there.
        """
        ...


@runtime_checkable
class Captioner(Protocol):
    """Describes images."""

    in_batches: bool
    """Whether images are described together, so that a caption's last digits, and now and then a
    word, depend on which."""

    def write(self, items: Sequence[NamedImage], request: Request) -> Sequence[Written | Failure]:
        """Return a caption of each image, or why there is none."""
        ...


@runtime_checkable
class Generator(Protocol):
    """Draws captions. It gets words alone."""

    in_batches: bool
    """Whether captions are drawn together, so that a pixel's last digit depends on which."""
    reader: Reader | None = None
    """What it reads of captions, where that is known."""

    def draw(self, captions: Sequence[Caption]) -> Sequence[Image.Image | Failure]:
        """Return an image of each caption, or why there is none."""
        ...


@runtime_checkable
class Chat(Protocol):
    """Answers a turn of images and text with the most probable words."""

    def chat(
        self,
        images: Sequence[Image.Image],
        text: str,
        *,
        system: str = "",
        max_tokens: int,
        with_first: bool = False,
    ) -> ChatReply:
        """Return the answer.

        Args:
            images: Stand before the text, in their order; without any it is a chat of text.
            text: The user's turn.
            system: Text of the system turn; none if empty.
            max_tokens: What is longer is cut.
            with_first: Tell the first token's probabilities.

        Raises:
            BackendFailed: There is none; the next one may go well.
            NoLogProbs: It tells no probabilities at all; a reply without them says the same.
        """
        ...

    def begin(self, image: Image.Image, text: str) -> ChatReply:
        """Return the first token's probabilities alone; raises as `chat`."""
        ...


def written(text: str, is_truncated: bool) -> Written | Failure:
    """Return a caption; one without words is a failure."""
    return Written(text, is_truncated) if text else Failure("the caption is empty")
