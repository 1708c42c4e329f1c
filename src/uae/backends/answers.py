"""Multiple-choice questions, answered by anything that chats."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from PIL import Image

from uae.backends.failure import BackendFailed
from uae.backends.first_token import NoLogProbs
from uae.backends.roles import Chat
from uae.core.errors import UsageError

MAX_NEW_TOKENS = 128
"""Longest reply, unless asked for another; what is cut off is not read."""

ASKED = "model"
"""What the reasons of its failures begin with."""

REMEDY = "leave the likelihood out (--no-likelihood), in a new folder"


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
            BackendFailed: There is none; the next question may go well.
            UsageError: This model tells no log-probabilities at all.
        """
        ...


@dataclass(frozen=True, slots=True)
class ChatAnswers:
    """Answers with the most probable words, one question at a time, without a system turn.

    Attributes:
        model: What chats.
        max_new_tokens: Longest reply; what is cut off is not read.
    """

    model: Chat
    max_new_tokens: int = MAX_NEW_TOKENS

    def reply(
        self, images: Sequence[Image.Image], question: str, letters: Sequence[str]
    ) -> McqReply:
        """Return the reply; see `McqModel.reply`."""
        try:
            reply = self.model.chat(
                images, question, max_tokens=self.max_new_tokens, with_first=bool(letters)
            )
            if letters and reply.first is None:
                raise NoLogProbs("the model tells no probabilities")
            return McqReply(reply.text, reply.first.letters(letters) if reply.first else [])
        except BackendFailed as failure:
            reason = f"{ASKED}: {failure.reason}"
            raise BackendFailed(reason, failure.detail, can_retry=failure.can_retry) from failure
        except NoLogProbs as error:
            raise UsageError(f"{error}: {REMEDY}") from error
