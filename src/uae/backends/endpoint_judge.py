"""A judge behind an OpenAI-compatible address."""

import logging
import math
from collections.abc import Sequence

from PIL import Image

from uae.backends.endpoint import Endpoint, EndpointFailure, Reply
from uae.backends.judge import JudgeFailed, JudgeStamp

log = logging.getLogger(__name__)

REMEDY = "take a judge that does, or --judge local:FOLDER; this benchmark is scored by them"


class EndpointJudge:
    """A `Judge` that is asked at temperature 0.

    Its probabilities cover the most probable first tokens alone, and a form counts only where it is
    one token there: what is left out makes them smaller, never larger.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        """Hold the endpoint, whose config says what is asked."""
        self.endpoint = endpoint
        self._seen: set[str] = set()

    @property
    def stamp(self) -> JudgeStamp:
        """Say what the answers depend on, as far as it is known."""
        config = self.endpoint.config
        return JudgeStamp(
            kind="endpoint",
            name=config.model,
            dtype="unknown",
            options={"base_url": config.base_url},
        )

    def reply(self, image: Image.Image, system: str, text: str, max_tokens: int) -> str:
        """Return the reply; see `Judge.reply`."""
        return self._ask(image, text, system=system, max_tokens=max_tokens).text

    def p_of(
        self, image: Image.Image, question: str, answers: Sequence[Sequence[str]]
    ) -> list[float]:
        """Return the mass of the forms; see `Judge.p_of`.

        Raises:
            JudgeFailed: No answer.
            UsageError: The address tells no log-probabilities.
        """
        top = self._ask(image, question, max_tokens=1, logprobs=True).top_logprobs
        if not top:
            raise self.endpoint.without_logprobs(REMEDY)
        counted: set[str] = set()
        masses = []
        for forms in answers:
            accepted = set(forms) - counted
            counted |= accepted
            mass = math.fsum(math.exp(x.log_prob) for x in top if x.token in accepted)
            masses.append(min(1.0, mass))
        return masses

    def _ask(
        self,
        image: Image.Image,
        text: str,
        *,
        system: str = "",
        max_tokens: int,
        logprobs: bool = False,
    ) -> Reply:
        try:
            reply = self.endpoint.chat(
                [image, text], system=system, max_tokens=max_tokens, logprobs=logprobs
            )
        except EndpointFailure as failure:
            if logprobs and self.endpoint.refuses_logprobs:  # a reasoning model may say nothing
                raise self.endpoint.without_logprobs(REMEDY) from failure
            raise JudgeFailed(f"judge: {failure.reason}", failure.detail) from failure
        if reply.model not in self._seen:
            self._seen.add(reply.model)
            log.info("the judge %s calls itself %s", self.endpoint.config.model, reply.model)
        return reply
