"""A model behind an OpenAI-compatible address as one that answers multiple-choice questions."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from uae.backends.answers import ASKED, MAX_NEW_TOKENS, AnswerFailed, McqReply
from uae.backends.endpoint import Endpoint, EndpointFailure, TopToken

REMEDY = "leave the likelihood out (--no-likelihood), in a new folder"


class EndpointAnswers:
    """Asks at temperature 0, once for reply and log-probabilities.

    A letter's probability is that of all tokens among the most probable ones that are the letter
    but for blanks; a letter that is not among them has the log-probability minus infinity.
    """

    def __init__(self, endpoint: Endpoint, max_new_tokens: int = MAX_NEW_TOKENS) -> None:
        """Hold the endpoint.

        Args:
            endpoint: Its config says what is asked.
            max_new_tokens: Longest reply; what is cut off is not read.
        """
        self._endpoint = endpoint
        self._max_new_tokens = max_new_tokens

    def reply(
        self, images: Sequence[Image.Image], question: str, letters: Sequence[str]
    ) -> McqReply:
        """Return the reply; see `McqModel.reply`.

        Raises:
            AnswerFailed: No answer, or an empty one.
            UsageError: The address tells no log-probabilities, or refuses the key or the model.
        """
        try:
            reply = self._endpoint.chat(
                [*images, question], max_tokens=self._max_new_tokens, logprobs=bool(letters)
            )
        except EndpointFailure as failure:
            if letters and self._endpoint.refuses_logprobs:  # a reasoning model may say nothing
                raise self._endpoint.without_logprobs(REMEDY) from failure
            raise AnswerFailed(f"{ASKED}: {failure.reason}", failure.detail) from failure
        if not reply.text:
            detail = f"empty, finish reason {reply.finish_reason!r}"
            raise AnswerFailed(f"{ASKED}: no answer", detail)
        if letters and not reply.top_logprobs:
            raise self._endpoint.without_logprobs(REMEDY)
        return McqReply(reply.text, [_log_prob(reply.top_logprobs, letter) for letter in letters])


def _log_prob(top: Sequence[TopToken], letter: str) -> float:
    found = [x.log_prob for x in top if x.token.strip() == letter]
    return float(np.logaddexp.reduce(found)) if found else -np.inf
