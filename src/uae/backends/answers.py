"""What answers the questions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from PIL import Image

from uae.core.errors import RunFailed

MAX_NEW_TOKENS = 128
"""Longest reply, unless asked for another; what is cut off is not read."""

ASKED = "model"
"""What the reasons of its failures begin with."""


class AnswerFailed(RunFailed):
    """A model gave no answer to one question, a request that failed, say.

    The item is excluded and counted; with `can_retry` it may be tried again.
    """

    def __init__(self, reason: str, detail: str, *, can_retry: bool = True) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.can_retry = can_retry


@dataclass(frozen=True, slots=True)
class McqReply:
    """A reply, as it is, and the log-probability that it begins with each of the letters."""

    text: str
    log_probs: Sequence[float] = ()


@runtime_checkable
class McqModel(Protocol):
    """A model that answers multiple-choice questions about images.

    reply = model.reply(images, question, "ABCD")
    """

    def reply(
        self, images: Sequence[Image.Image], question: str, letters: Sequence[str]
    ) -> McqReply:
        """Return the reply.

        Args:
            images: Stand before the question, in their order; without any it is a chat of text.
            question: The text of the user's turn.
            letters: Whose log-probabilities are told; none if empty.

        Raises:
            AnswerFailed: There is none; the next question may go well.
            UsageError: This model tells no log-probabilities at all.
        """
        ...
