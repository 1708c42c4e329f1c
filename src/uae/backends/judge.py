"""Judges of images: models that answer a question about one, in words or by probability."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from uae.backends.failure import BackendFailed
from uae.backends.first_token import NoLogProbs
from uae.backends.roles import Chat, ChatReply
from uae.core.errors import UsageError
from uae.core.memory import left_out_if_too_large

log = logging.getLogger(__name__)

REMEDY = "take a judge that does, or --judge local:FOLDER; this benchmark is scored by them"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeStamp:
    """What a judge's answers depend on; it stands in the settings of every run.

    Attributes:
        kind: "local" for weights on this machine, "endpoint" for a model behind an address, of a
            backend of one's own its kind.
        name: Folder or hub id; behind an address the model's name there.
        dtype: Of weights and arithmetic; "unknown" behind an address.
        weights: sha256 of the weights; empty behind an address.
        options: Anything else, the address say.
    """

    kind: str
    name: str
    dtype: str
    weights: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """What two runs must share to be compared."""
        return self.weights or f"{self.kind} {self.name}"

    def values(self) -> dict[str, Any]:
        """Return the stamp as plain values."""
        return asdict(self)


MIN_ANSWERED = 0.1
"""Least probability that a reply begins as any answer; below it the judge says something else."""


def check_answered(question: str, p: Sequence[float]) -> None:
    """Refuse a reply that is no answer, such as "I cannot" or "Sorry".

    Args:
        question: What was asked.
        p: Probabilities of all answers that it may have, see `Judge.p_of`.

    Raises:
        BackendFailed: Next to none of the probability is on them.
    """
    if sum(p) < MIN_ANSWERED:
        detail = f"{question!r}: a reply begins as an answer with probability {sum(p):.2g} alone"
        raise BackendFailed("judge: no verdict", detail)


@runtime_checkable
class Judge(Protocol):
    """A model that answers questions about one image.

    reply = judge.reply(image, "You check images.", "Is the bus red? Answer in JSON.", 200)
    p_yes, p_no = judge.p_of(image, "Is the bus red? Answer in one word.", [["Yes"], ["No"]])
    """

    @property
    def stamp(self) -> JudgeStamp: ...

    def reply(self, image: Image.Image, system: str, text: str, max_tokens: int) -> str:
        """Return the most probable reply, of at most `max_tokens` tokens.

        Args:
            image: Any size.
            system: Text of the system turn; none if empty.
            text: Stands after the image in the user's turn.
            max_tokens: What is longer is cut.

        Raises:
            BackendFailed: There is none; the next question may go well.
        """
        ...

    def p_of(
        self, image: Image.Image, question: str, answers: Sequence[Sequence[str]]
    ) -> list[float]:
        """Return the probability, in [0, 1], that a reply begins as each answer does.

        It comes from raw logits: no temperature, no penalty. A token that several forms begin with
        counts once, for the first of the answers.

        Args:
            image: Any size.
            question: The user's turn, after the image.
            answers: The forms of each answer, of which the first token counts.

        Raises:
            BackendFailed: It cannot be told; the next question may go well.
            UsageError: This judge tells no probabilities at all.
        """
        ...


@runtime_checkable
class Judging(Chat, Protocol):
    """A chat that says what its answers depend on."""

    @property
    def judge_stamp(self) -> JudgeStamp: ...


class ChatJudge:
    """A `Judge` over anything that chats."""

    def __init__(self, model: Judging) -> None:
        """Hold the model."""
        self.model = model
        self._names: set[str] = set()

    @property
    def stamp(self) -> JudgeStamp:
        """Say what the answers depend on, as far as it is known."""
        return self.model.judge_stamp

    def reply(self, image: Image.Image, system: str, text: str, max_tokens: int) -> str:
        """Return the reply; see `Judge.reply`."""
        return self._ask(
            lambda: self.model.chat([image], text, system=system, max_tokens=max_tokens)
        ).text

    def p_of(
        self, image: Image.Image, question: str, answers: Sequence[Sequence[str]]
    ) -> list[float]:
        """Return the mass of the forms; see `Judge.p_of`."""
        first = self._ask(lambda: self.model.begin(image, question)).first
        if first is None:
            raise UsageError(f"{self.stamp.name} tells no probabilities: {REMEDY}")
        masses = first.masses(answers)
        if not all(map(math.isfinite, masses)):
            raise BackendFailed("judge: not finite", f"probabilities {masses}", can_retry=False)
        return masses

    def _ask(self, ask: Callable[[], ChatReply]) -> ChatReply:
        try:
            with left_out_if_too_large(BackendFailed):
                reply = ask()
        except BackendFailed as failure:
            reason = f"judge: {failure.reason}"
            raise BackendFailed(reason, failure.detail, can_retry=failure.can_retry) from failure
        except NoLogProbs as error:
            raise UsageError(f"{error}: {REMEDY}") from error
        if reply.model and reply.model not in self._names:
            self._names.add(reply.model)
            log.info("the judge %s calls itself %s", self.stamp.name, reply.model)
        return reply
