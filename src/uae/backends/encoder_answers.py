"""Our encoder as a model that answers multiple-choice questions."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from transformers import AutoImageProcessor

from uae.backends.answers import MAX_NEW_TOKENS, McqReply
from uae.backends.letters import letter_log_probs, letter_tokens
from uae.core.provenance import ModelStamp, folder_digests
from uae.models.vlm.encoder import Encoder

_PARTS = ("encoder", "encoder_lora")


class EncoderAnswers:
    """Answers with the most probable words, one question at a time.

    Log-probabilities come from raw logits in float32, see `letters.py`.
    """

    def __init__(self, encoder: Encoder, max_new_tokens: int = MAX_NEW_TOKENS) -> None:
        """Hold the encoder.

        Args:
            encoder: Answers one question at a time.
            max_new_tokens: Longest reply; what is cut off is not read.
        """
        self.encoder = encoder
        self.max_new_tokens = max_new_tokens

    def reply(
        self, images: Sequence[Image.Image], question: str, letters: Sequence[str]
    ) -> McqReply:
        """Return the reply; see `McqModel.reply`."""
        log_probs = self.option_log_probs(images, question, letters) if letters else []
        return McqReply(self.answer(images, question), log_probs)

    def answer(self, images: Sequence[Image.Image], question: str) -> str:
        """Return the text of the reply."""
        prompts = self.encoder.prompts([list(images)], [question])
        return self.encoder.sample(prompts, None, max_new_tokens=self.max_new_tokens).texts[0]

    def option_log_probs(
        self, images: Sequence[Image.Image], question: str, letters: Sequence[str]
    ) -> list[float]:
        """Return the log-probability that a reply begins with each letter.

        Raises:
            UsageError: The tokenizer has no token for a letter.
        """
        tokens = letter_tokens(self.encoder.tokenizer, letters)
        log_p = self.encoder.next_log_probs(self.encoder.prompts([list(images)], [question]))[0]
        return letter_log_probs(log_p, tokens)


def encoder_stamp(name: str, folder: Path, max_new_tokens: int = MAX_NEW_TOKENS) -> ModelStamp:
    """Say what the answers of an encoder depend on, without loading its weights.

    Args:
        name: Of the model, as the user gave it.
        folder: Its folder, see `models/unified.py`; the decoder answers no questions and is left
            out.
        max_new_tokens: Longest reply.

    Raises:
        OSError: The folder holds no encoder.
    """
    parts = [part for part in _PARTS if (folder / part).is_dir()]
    image_processor = AutoImageProcessor.from_pretrained(folder / "encoder")
    return ModelStamp(
        name=name,
        dtype="float32",
        backend=f"transformers, {type(image_processor).__name__}",
        files={
            f"{part}/{file}": digest
            for part in parts
            for file, digest in folder_digests(folder / part).items()
        },
        options={"max_new_tokens": max_new_tokens},
    )
