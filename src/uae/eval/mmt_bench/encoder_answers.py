"""Our encoder as a model that answers multiple-choice questions."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from uae.errors import UsageError
from uae.eval.results.stamp import ModelStamp, folder_digests
from uae.models.encoder import Encoder

_PARTS = ("encoder", "encoder_lora")


class EncoderAnswers:
    """Answers with the most probable words, one question at a time.

    The first token's probability of a letter is that of "A" and " A" together, where these are
    single tokens, from raw logits in float32.
    """

    def __init__(self, encoder: Encoder, max_new_tokens: int = 128) -> None:
        """Hold the encoder.

        Args:
            encoder: Answers one question at a time.
            max_new_tokens: Longest reply; what is cut off is not read.
        """
        self.encoder = encoder
        self.max_new_tokens = max_new_tokens

    def stamp(self, name: str, folder: Path) -> ModelStamp:
        """Say what the answers depend on.

        Args:
            name: Of the model, as the user gave it.
            folder: Its folder, see `models/unified.py`; the decoder answers no questions and is
                left out.
        """
        parts = [part for part in _PARTS if (folder / part).is_dir()]
        return ModelStamp(
            name=name,
            dtype=str(self.encoder.model.dtype).removeprefix("torch."),
            backend=f"transformers, {type(self.encoder.image_processor).__name__}",
            files={
                f"{part}/{file}": digest
                for part in parts
                for file, digest in folder_digests(folder / part).items()
            },
            options={"max_new_tokens": self.max_new_tokens},
        )

    def answer(self, images: Sequence[Image.Image], question: str) -> str:
        """Return the reply."""
        prompts = self.encoder.prompts([list(images)], [question])
        return self.encoder.sample(prompts, None, max_new_tokens=self.max_new_tokens).texts[0]

    def option_log_probs(
        self, images: Sequence[Image.Image], question: str, letters: Sequence[str]
    ) -> list[float]:
        """Return the log-probability that a reply begins with each letter.

        Raises:
            UsageError: The tokenizer has no token for a letter.
        """
        tokens = [self._tokens(letter) for letter in letters]
        log_p = self.encoder.next_log_probs(self.encoder.prompts([list(images)], [question]))[0]
        return [float(torch.logsumexp(log_p[ids], dim=0)) for ids in tokens]

    def _tokens(self, letter: str) -> list[int]:
        forms = [self.encoder.tokenizer(form)["input_ids"] for form in (letter, f" {letter}")]
        single = sorted({ids[0] for ids in forms if len(ids) == 1})
        if not single:
            raise UsageError(
                f"the tokenizer has no single token for the letter {letter}: leave the likelihood "
                "out"
            )
        return single
