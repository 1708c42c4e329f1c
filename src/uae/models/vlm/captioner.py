# transformers types sub-configs as dicts and token ids as unions
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
"""Any other vision-language model of transformers: it writes captions, by the library's `generate`.

Nothing is known of its cache or its states, so it does not learn, and reads no captions for a
projector.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, GenerationConfig

from uae.core.errors import EnvironmentFault, UsageError
from uae.models.loading import load_whole, read_config
from uae.models.vlm.architecture import check_answering, ends_of, forbidden_of
from uae.models.vlm.chat_processor import ChatProcessor
from uae.models.vlm.chooser import Chooser, together
from uae.models.vlm.family import Chat, Pixels, Prompts, SampledTokens


class Captioner:
    """See `VlmFamily`. An "image" of its prompts is all inputs of a chat."""

    def __init__(self, model: Any, processor: ChatProcessor) -> None:
        """Hold the parts."""
        self.model = model
        self.tokenizer = processor.tokenizer
        self.image_processor = processor.processor
        self.plain = processor.plain
        self._processor = processor
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.end_id: int = self.tokenizer.eos_token_id
        self.end_ids = torch.tensor(
            ends_of(model, self.tokenizer, self.end_id), device=model.device
        )
        self.forbidden = forbidden_of(model, self.tokenizer)

    @classmethod
    def from_pretrained(cls, folder: str | Path, dtype: torch.dtype) -> "Captioner":
        """Load a plain transformers folder.

        Raises:
            UsageError: Weights do not fit, there is no chat template, or it begins with thinking.
            EnvironmentFault: Its processor needs a package that is not installed.
        """
        try:
            processor = ChatProcessor.from_pretrained(folder, read_config(folder))
        except (ImportError, ValueError) as error:
            text = " ".join(str(error).split())
            if isinstance(error, ImportError) or "torchvision" in text:  # for videos
                raise EnvironmentFault(f"{folder} needs a package: {text}") from error
            raise UsageError(f"{folder}: {text}") from error
        check_answering(folder, processor.filled([{"role": "user", "content": "a red circle"}]))
        return cls(load_whole(AutoModelForImageTextToText, folder, dtype=dtype).eval(), processor)

    @property
    def max_tokens(self) -> int:
        return self.model.config.get_text_config().max_position_embeddings

    def limit_pixels(self, max_pixels: int) -> None:
        """See `VlmFamily`."""
        raise UsageError(
            f"max_pixels = {max_pixels}: a {self.model.config.model_type!r} model sees images at "
            "sizes of its own: leave it out"
        )

    def prepare(self, chats: Sequence[Chat], images: Sequence[Image.Image]) -> Prompts:
        """See `VlmFamily`."""
        left = iter(images)
        rows = [self._processor.inputs(chat, [*islice(left, _count(chat))]) for chat in chats]
        width = max(row["input_ids"].shape[1] for row in rows)
        token_ids, mask = (
            torch.cat([F.pad(row[name], (width - row[name].shape[1], 0)) for row in rows])
            for name in ("input_ids", "attention_mask")
        )
        inputs = tuple({name: self._placed(x) for name, x in row.items()} for row in rows)
        token_ids, mask = self._placed(token_ids), self._placed(mask).bool()
        return Prompts(token_ids, mask, inputs, num_images=(1,) * len(rows))

    def _placed(self, x: Tensor) -> Tensor:
        return x.to(self.model.device, self.model.dtype if x.is_floating_point() else None)

    def see(self, prompts: Prompts) -> Prompts:
        """See `VlmFamily`: `generate` looks by itself."""
        return prompts

    @torch.no_grad()
    def next_log_probs(self, prompts: Prompts) -> Float[Tensor, "p v"]:
        """See `VlmFamily`."""
        choosers = [Chooser(self, None) for _ in prompts.images]
        for inputs, chooser in zip(prompts.images, choosers, strict=True):
            self._generate(inputs, chooser, 1, 1)
        return torch.cat([chooser.log_p for chooser in choosers])

    @torch.no_grad()
    def sample_tokens(
        self,
        prompts: Prompts,
        uniforms: Float[Tensor, "n t"] | None,
        *,
        num_captions: int = 1,
        temperature: float = 1.0,
        max_new_tokens: int = 512,
        num_top: int | None = None,
    ) -> Iterator[SampledTokens]:
        """See `sampling.sample_tokens`; all come at the end, one prompt after the other."""
        choosers = []
        for i, inputs in enumerate(prompts.images):
            rows = slice(i * num_captions, (i + 1) * num_captions)
            draws = None if uniforms is None else uniforms[rows]
            choosers.append(Chooser(self, draws, temperature, num_top))
            self._generate(inputs, choosers[-1], num_captions, max_new_tokens)
        for t in range(max(len(chooser.tokens) for chooser in choosers)):
            yield together([chooser.at(t) for chooser in choosers])

    def _generate(self, inputs: Pixels, chooser: Chooser, num_captions: int, limit: int) -> None:
        own = self.model.generation_config
        # the folder's penalties and temperatures would change what is chosen from
        self.model.generation_config = GenerationConfig(
            eos_token_id=self.end_ids.tolist(), pad_token_id=self.tokenizer.pad_token_id
        )
        several = {"num_return_sequences": num_captions, "do_sample": num_captions > 1, "top_k": 0}
        try:
            self.model.generate(
                **inputs, **several, max_new_tokens=limit, logits_processor=[chooser]
            )
        finally:
            self.model.generation_config = own


def _count(chat: Chat) -> int:
    parts = [
        part
        for message in chat
        if not isinstance(message["content"], str)
        for part in message["content"]
    ]
    return sum(part["type"] == "image" for part in parts)
