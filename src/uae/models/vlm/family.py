"""An encoder family: a vision-language model as sampling, scoring and reading need it.

A family is one file of this folder and a line in `table.py`. All that depends on an architecture
stands there: how images become tokens, positions, the cache, and the weights that LoRA trains.
`causal.py` does what most have in common.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel

from uae.models.plain_text import PlainText
from uae.models.targets import Targets

Chat = Sequence[Mapping[str, Any]]
"""Messages as a chat template takes them, of roles and parts."""


Pixels = Mapping[str, Tensor]
"""What an image processor makes of images, as a model's forward pass takes it."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Chats, tokenised and left padded, with their images, if there are any.

    `prompts[2:4]` are those of two chats, as if they had been prepared alone.

    Attributes:
        token_ids: Ends where the reply begins.
        mask: True at tokens.
        images: Each by itself, in the order of the chats.
        num_images: Of each chat.
        features: What the vision tower makes of each image, once it has seen them.
    """

    token_ids: Int[Tensor, "p s"]
    mask: Bool[Tensor, "p s"]
    images: tuple[Pixels, ...]
    num_images: tuple[int, ...]
    features: tuple[Tensor, ...] | None = None

    def __len__(self) -> int:
        return len(self.token_ids)

    def __getitem__(self, rows: slice) -> "Prompts":
        starts = [0, *itertools.accumulate(self.num_images)]
        first, stop, _ = rows.indices(len(self))
        images = slice(starts[first], starts[stop])
        mask = self.mask[rows]
        padding = int(mask.any(0).int().argmax())
        return replace(
            self,
            token_ids=self.token_ids[rows, padding:],
            mask=mask[:, padding:],
            images=self.images[images],
            num_images=self.num_images[rows],
            features=None if self.features is None else self.features[images],
        )

    @property
    def pixels(self) -> Pixels:
        """All images together, as the model's forward pass takes them."""
        names = self.images[0] if self.images else ()
        return {name: torch.cat([image[name] for image in self.images]) for name in names}


@dataclass(frozen=True, slots=True)
class Prefix:
    """Prompts that have been run, ready for completions: one row for each completion.

    Attributes:
        cache: Keys and values; grows with each token that is run.
        hidden: Last hidden state, from which the first token of a completion is predicted.
        position: Where the first token of a completion stands.
        mask: The prompts' own.
    """

    cache: Any
    hidden: Float[Tensor, "n d"]
    position: Int[Tensor, " n"]
    mask: Bool[Tensor, "n s"]


@dataclass(frozen=True, slots=True)
class LikelyTokens:
    """One token of each of n completions by raw logits in float32, so at temperature 1.

    Attributes:
        log_probs: Of the token that was sampled.
        top_ids: The k likeliest tokens, the likeliest first.
        top_log_probs: Theirs; minus infinity for what the encoder can never say.
    """

    log_probs: Float[Tensor, " n"]
    top_ids: Int[Tensor, "n k"]
    top_log_probs: Float[Tensor, "n k"]


@dataclass(frozen=True, slots=True)
class SampledTokens:
    """One more token of each of n completions, as they are sampled.

    `mask` is False where the completion has ended before, `running` where it has ended now;
    `likely` is there if it was asked for.
    """

    token_ids: Int[Tensor, " n"]
    mask: Bool[Tensor, " n"]
    log_probs: Float[Tensor, " n"]
    entropies: Float[Tensor, " n"]
    running: Bool[Tensor, " n"]
    likely: LikelyTokens | None = None


@runtime_checkable
class VlmFamily(Protocol):
    """A vision-language model with its tokenizer and image processor, which writes captions."""

    @property
    def model(self) -> PreTrainedModel: ...

    tokenizer: Any
    image_processor: Any
    plain: PlainText
    end_id: int
    """The token that ends a reply in chats."""
    end_ids: Int[Tensor, " e"]
    """All that end one."""
    forbidden: Bool[Tensor, " v"]
    """Tokens that are never said, e.g. those that stand for images."""

    @property
    def max_tokens(self) -> int:
        """Tokens that it reads and writes in all."""
        ...

    def limit_pixels(self, max_pixels: int) -> None:
        """Show images at no more pixels than these, their shape kept.

        Raises:
            UsageError: It sees images at sizes of its own.
        """
        ...

    def prepare(self, chats: Sequence[Chat], images: Sequence[Image.Image]) -> Prompts:
        """Tokenise chats up to the next reply, and make pixels of images.

        Args:
            chats: Their texts are read as plain text.
            images: One for each image part of all chats, in their order.
        """
        ...

    def see(self, prompts: Prompts) -> Prompts:
        """Run the vision tower, without gradients, and keep what it made for later passes."""
        ...

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
        """Yield completions token by token; see `sampling.sample_tokens`."""
        ...

    def next_log_probs(self, prompts: Prompts) -> Float[Tensor, "p v"]:
        """Return the log-probabilities of a completion's first token, float32."""
        ...


@runtime_checkable
class TrainedFamily(VlmFamily, Protocol):
    """One that scores captions with gradients, and reads them for a decoder."""

    targets: Targets
    recomputes: bool
    """Whether `states` computes activations again in the backward pass."""
    is_compiled: bool
    """Whether layers are compiled for `states`; with a growing cache they run as they are."""

    @property
    def layers(self) -> nn.ModuleList:
        """Blocks of the language model."""
        ...

    @property
    def scores_whole(self) -> bool:
        """Whether captions are scored by `states`, as no gradients or activations outlive a cache.

        Old and new scores come by one path.
        """
        ...

    def recompute(self) -> None:
        """Compute activations again from now on, instead of keeping them."""
        ...

    def prefill(self, prompts: Prompts, num_completions: int = 1) -> Prefix:
        """Run prompts once, and fork each for so many completions."""
        ...

    def continue_(self, prefix: Prefix, token_ids: Int[Tensor, "n t"]) -> Float[Tensor, "n t d"]:
        """Run more tokens of the completions; return their last hidden states."""
        ...

    def states(self, prompts: Prompts, token_ids: Int[Tensor, "n t"]) -> Float[Tensor, "n t+1 d"]:
        """Return the last hidden states of a prompt's end and of its completion, without a cache.

        Completions of one prompt stand together. The same as `prefill` and `continue_` but for
        rounding; activations need not be kept for the backward pass.
        """
        ...

    def logits(self, hidden: Float[Tensor, "*n d"]) -> Float[Tensor, "*n v"]:
        """Return the scores of the next token."""
        ...

    def read(self, captions: Sequence[str]) -> tuple[Float[Tensor, "n s d"], Bool[Tensor, "n s"]]:
        """Return the last hidden states of captions, read as text alone, and their mask."""
        ...

    def check_reading(self) -> None:
        """Try whether captions are read as they are.

        Raises:
            UsageError: They are not: the chat template drops or changes them.
        """
        ...


LoadFamily = Callable[[str | Path, torch.dtype], VlmFamily]
"""Loads a folder that transformers or diffusers wrote."""
