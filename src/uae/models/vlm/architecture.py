# transformers types sub-configs as dicts and token ids as unions
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
"""What sets classes of vision-language models apart, and what their checkpoints say of themselves.

All that they have in common is in `causal.py`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from uae.core.errors import UsageError
from uae.models.targets import Targets
from uae.models.vlm.family import Pixels

LANGUAGE_MODEL = Targets(
    # the vision tower stays frozen (arXiv 2509.09666 Fig. 9); the last two are of linear attention
    lora=r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"
    r"|in_proj_\w+|out_proj)",
    full=r".*language_model\..*",
)
"""What is trained, by the names that transformers gives it everywhere."""
_OPEN_THOUGHTS = ("<think>", "<|channel>thought")
_NO_TEXT = re.compile(
    r"(image|video|audio|vision_start|vision_end|boi|eoi|boa|eoa)_token_(id|index)"
)
"""Names in configs of tokens that stand for what is not text."""


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What is the same for all checkpoints of a class."""

    end: str
    """The token that ends a reply in its chats."""
    pixels: tuple[str, ...] = ("pixel_values",)
    """What of the image processor's output the model takes."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """For the image processor, where the library's own processor gives them too."""
    never_said: tuple[str, ...] = ()
    """Tokens around images that configs do not name."""
    num_axes: int = 1
    """Of positions: 1, or 3 for frames, rows and columns."""
    is_tiled: bool = False
    """Whether an image is several inputs of the vision tower."""


class Architecture(Protocol):
    """A class of models; made of a model, its tokenizer and image processor."""

    traits: ClassVar[Traits]
    placeholder: str
    """What the chat template writes for an image."""
    cap: float | None
    """Soft bound of its logits."""

    def shown(self, pixels: Pixels) -> str:
        """Return the text that stands for an image in its place."""
        ...

    def arguments(
        self, token_ids: Int[Tensor, "n t"], is_image: Bool[Tensor, "n t"]
    ) -> dict[str, Any]:
        """Return what the whole model must be told besides embeddings that hold features.

        Nothing, where its language model alone will do.
        """
        ...

    def limit_pixels(self, max_pixels: int) -> None:
        """See `VlmFamily`."""
        ...


def ends_of(model: Any, tokenizer: Any, own: int) -> list[int]:
    """Return the tokens that end a reply: a family's own, and those of the generation config."""
    others = model.generation_config.eos_token_id
    others = others if isinstance(others, list) else [others]
    return sorted({own, *(x for x in others if x is not None and x < len(tokenizer))})


def forbidden_of(model: Any, tokenizer: Any, *names: str) -> Bool[Tensor, " v"]:
    """Mark the tokens that no reply may hold: `names`, those of images, and those of no text."""
    size = model.config.get_text_config().vocab_size
    forbidden = torch.zeros(size, dtype=torch.bool, device=model.device)
    forbidden[len(tokenizer) :] = True
    in_config = [x for key, x in model.config.to_dict().items() if _NO_TEXT.fullmatch(key)]
    for token in (*in_config, *tokenizer.convert_tokens_to_ids([*names])):
        if token is not None and token < size:
            forbidden[token] = True
    return forbidden


def check_answering(folder: str | Path, prompt: str) -> None:
    """Refuse a chat template that begins each reply with thinking.

    Raises:
        UsageError: It does.
    """
    if prompt.rstrip().endswith(_OPEN_THOUGHTS):
        raise UsageError(
            f"{folder}: its chat template begins each reply with thinking, which would stand in "
            "captions: expected one that knows enable_thinking, or a model that answers"
        )
