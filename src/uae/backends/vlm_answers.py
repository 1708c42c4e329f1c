"""Any image-text-to-text model of transformers as one that answers multiple-choice questions."""

from collections.abc import Sequence

from PIL import Image

from uae.backends.answers import (
    ASKED,
    MAX_NEW_TOKENS,
    AnswerFailed,
    McqReply,
)
from uae.backends.letters import letter_log_probs, letter_tokens
from uae.backends.local_vlm import LocalVlm


class VlmAnswers:
    """Answers with the most probable words, one question at a time.

    Log-probabilities come from raw logits in float32, see `letters.py`.
    """

    def __init__(self, vlm: LocalVlm, max_new_tokens: int = MAX_NEW_TOKENS) -> None:
        """Hold the model.

        Args:
            vlm: Asked in one turn of its own chat template, without a system turn of ours.
            max_new_tokens: Longest reply; what is cut off is not read.
        """
        self._vlm = vlm
        self._max_new_tokens = max_new_tokens

    def reply(
        self, images: Sequence[Image.Image], question: str, letters: Sequence[str]
    ) -> McqReply:
        """Return the reply; see `McqModel.reply`.

        Raises:
            AnswerFailed: The probabilities of the reply's first token are not finite.
            UsageError: The tokenizer has no token for a letter.
        """
        tokens = letter_tokens(self._vlm.processor.tokenizer, letters)
        text, logits = self._vlm.reply_with_logits(images, question, self._max_new_tokens)
        log_p = logits.log_softmax(-1)
        if log_p.isnan().any():
            detail = "the first token's probabilities are NaN; try another --dtype"
            raise AnswerFailed(f"{ASKED}: not finite", detail, can_retry=False)
        return McqReply(text, letter_log_probs(log_p, tokens))
