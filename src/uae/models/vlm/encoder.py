"""The encoder: a vision-language model that captions images, and reads captions for the decoder.

What depends on the model's architecture is its family's (`family.py`), sampling and scoring are
`sampling.py` and `log_probs.py`. The condition is read from the caption's *text* in a pass that
holds no image.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel

from uae.core.errors import UsageError
from uae.models.compiled import compile_blocks
from uae.models.vlm.family import Chat, Prompts, SampledTokens, TrainedFamily, VlmFamily
from uae.models.vlm.log_probs import log_probs
from uae.models.vlm.table import vlm_loader

ONLY_CAPTIONS = (
    "this encoder writes captions and no more: it neither learns nor reads captions for a projector"
)


@dataclass(frozen=True, slots=True)
class Captions:
    """Sampled captions, in groups of one image each.

    `log_probs` are those of the sampling policy at the sampling temperature, float32, 0 at padding;
    `entropies`, in nats, those of its distributions. A caption is truncated when it holds no end
    token, never because of its length.
    """

    texts: list[str]
    token_ids: Int[Tensor, "n t"]
    mask: Bool[Tensor, "n t"]
    log_probs: Float[Tensor, "n t"]
    entropies: Float[Tensor, "n t"]
    truncated: Bool[Tensor, " n"]
    group_id: Int[Tensor, " n"]
    policy_version: int

    @property
    def num_tokens(self) -> Int[Tensor, " n"]:
        return self.mask.sum(1)


class Encoder:
    """A vision-language model and its captioning prompt.

    captions = encoder.sample(encoder.prompts(images), num_captions=8, ...)
    hidden, mask = encoder.read(captions.texts)
    """

    def __init__(self, family: VlmFamily, caption_prompt: str) -> None:
        self.family = family
        self.caption_prompt = caption_prompt

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, caption_prompt: str, dtype: torch.dtype = torch.float32
    ) -> "Encoder":
        """Load a plain transformers folder (model, tokenizer, image processor).

        Raises:
            UsageError: Its model is of no family there is, or lacks weights.
        """
        return cls(vlm_loader(folder)(folder, dtype), caption_prompt)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that plain transformers loads."""
        for part in (self.model, self.tokenizer, self.family.image_processor):
            part.save_pretrained(folder)

    @property
    def trained(self) -> TrainedFamily:
        """The family, where it is one that learns and reads.

        Raises:
            UsageError: It writes captions and no more.
        """
        if not isinstance(self.family, TrainedFamily):
            raise UsageError(ONLY_CAPTIONS)
        return self.family

    @property
    def model(self) -> PreTrainedModel:
        return self.family.model

    @property
    def tokenizer(self) -> Any:
        return self.family.tokenizer

    @property
    def end_id(self) -> int:
        return self.family.end_id

    @property
    def device(self) -> torch.device:
        return self.model.device

    def to(self, device: str) -> None:
        """Move the model."""
        torch.nn.Module.to(self.model, device)
        self.family.forbidden = self.family.forbidden.to(device)
        self.family.end_ids = self.family.end_ids.to(device)

    def keep_no_activations(self) -> None:
        """Compute activations again in the backward pass instead of keeping them."""
        if isinstance(self.family, TrainedFamily):
            self.family.recompute()

    @property
    def is_compiled(self) -> bool:
        return isinstance(self.family, TrainedFamily) and self.family.is_compiled

    def compile(self) -> None:
        """Compile the language model's layers for scoring, when it is first done."""
        if isinstance(self.family, TrainedFamily):
            self.family.is_compiled = True
            compile_blocks(self.family.layers)

    # -- texts --------------------------------------------------------------------------------

    def token_ids(self, text: str) -> list[int]:
        """Return the tokens of a caption, without the chat format around it."""
        return self.family.plain.token_ids(text)

    def num_tokens(self, text: str) -> int:
        """Count the tokens of a caption, without the chat format around it."""
        return len(self.token_ids(text))

    def head_of(self, text: str, num_tokens: int) -> str:
        """Return the text of a caption's first tokens."""
        return self.family.plain.head_of(text, num_tokens)

    def decode(self, token_ids: Int[Tensor, "n t"]) -> list[str]:
        """Turn completions into text; special tokens leave no trace."""
        return [
            text.strip()
            for text in self.tokenizer.batch_decode(token_ids.tolist(), skip_special_tokens=True)
        ]

    # -- prompts ------------------------------------------------------------------------------

    def prompts(
        self,
        images: Sequence[Image.Image | Sequence[Image.Image]],
        questions: Sequence[str] | None = None,
    ) -> Prompts:
        """Build one user turn per image: the captioning prompt, or a question about the image.

        The captioning prompt stands before the image (PKU-YuanGroup/UAE), a question after it. Of
        an entry with several images all stand in its turn, in their order.
        """
        turns = [[x] if isinstance(x, Image.Image) else list(x) for x in images]
        chats = []
        for i, turn in enumerate(turns):
            pictures = [{"type": "image"}] * len(turn)
            if questions is None:
                parts = [{"type": "text", "text": self.caption_prompt}, *pictures]
            else:
                parts = [*pictures, {"type": "text", "text": questions[i]}]
            chats.append([{"role": "user", "content": parts}])
        return self.chat_prompts(chats, list(itertools.chain(*turns)))

    def chat_prompts(self, chats: Sequence[Chat], images: Sequence[Image.Image]) -> Prompts:
        """Build prompts that ask for the next reply of chats; see `VlmFamily.prepare`."""
        return self.family.prepare(chats, images)

    # -- completions --------------------------------------------------------------------------

    def sample(
        self,
        prompts: Prompts,
        uniforms: Float[Tensor, "n t"] | None,
        *,
        num_captions: int = 1,
        temperature: float = 1.0,
        max_new_tokens: int = 512,
        policy_version: int = 0,
    ) -> Captions:
        """Sample `num_captions` completions for each prompt, of one `group_id`.

        See `sampling.sample_tokens`; `policy_version` is recorded with the captions.
        """
        sampled = list(
            self.sample_tokens(
                prompts,
                uniforms,
                num_captions=num_captions,
                temperature=temperature,
                max_new_tokens=max_new_tokens,
            )
        )
        token_ids = torch.stack([tokens.token_ids for tokens in sampled], 1)
        return Captions(
            texts=self.decode(token_ids),
            token_ids=token_ids,
            mask=torch.stack([tokens.mask for tokens in sampled], 1),
            log_probs=torch.stack([tokens.log_probs for tokens in sampled], 1),
            entropies=torch.stack([tokens.entropies for tokens in sampled], 1),
            truncated=sampled[-1].running,
            group_id=torch.arange(len(prompts)).repeat_interleave(num_captions),
            policy_version=policy_version,
        )

    def sample_tokens(
        self, prompts: Prompts, uniforms: Float[Tensor, "n t"] | None, **options: Any
    ) -> Iterator[SampledTokens]:
        """Yield completions token by token; see `sampling.sample_tokens`."""
        return self.family.sample_tokens(prompts, uniforms, **options)

    @torch.no_grad()
    def next_log_probs(self, prompts: Prompts) -> Float[Tensor, "p v"]:
        """Return the log-probabilities of a completion's first token, float32."""
        return self.family.next_log_probs(prompts)

    def log_probs(
        self,
        prompts: Prompts,
        token_ids: Int[Tensor, "n t"],
        mask: Bool[Tensor, "n t"],
        temperature: float = 1.0,
    ) -> Float[Tensor, "n t"]:
        """Return the log-probabilities of given completions; see `log_probs.log_probs`."""
        return log_probs(self.trained, prompts, token_ids, mask, temperature)

    def caption_states(
        self, prompts: Prompts, token_ids: Int[Tensor, "n t"]
    ) -> Float[Tensor, "n t d"]:
        """Return the last hidden states of completions in a pass that holds the image.

        Not a text bottleneck: only the paper's cold start uses it. One completion per prompt.
        """
        return self.trained.continue_(self.trained.prefill(prompts), token_ids)

    def read(self, captions: Sequence[str]) -> tuple[Float[Tensor, "n s d"], Bool[Tensor, "n s"]]:
        """Return the last hidden states of captions, as text alone, and their mask."""
        return self.trained.read(captions)
