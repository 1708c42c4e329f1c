"""What answers the questions."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from PIL import Image

from uae.errors import RunFailed


class AnswerFailed(RunFailed):
    """A model gave no answer to one question, a request that failed, say.

    The item is excluded and counted, and may be tried again.
    """


@runtime_checkable
class McqModel(Protocol):
    """A model that answers multiple-choice questions about images.

    reply = model.answer(images, question)
    likelihoods = model.option_log_probs(images, question, "ABCD")
    """

    def answer(self, images: Sequence[Image.Image], question: str) -> str:
        """Return the reply, as it is; without images the question is a chat of text alone.

        Raises:
            AnswerFailed: There is none; the next question may go well.
        """
        ...

    def option_log_probs(
        self, images: Sequence[Image.Image], question: str, letters: Sequence[str]
    ) -> Sequence[float]:
        """Return the log-probability that a reply begins with each letter.

        Raises:
            AnswerFailed: It cannot be told; the next question may go well.
        """
        ...
