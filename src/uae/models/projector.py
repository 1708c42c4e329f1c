"""The projector: an MLP from the encoder's hidden states to the decoder's text condition."""

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the decoder sees of n captions. Padding is right and masked."""

    embeds: Float[Tensor, "n s d"]
    mask: Bool[Tensor, "n s"]
    pooled: Float[Tensor, "n p"]

    def __len__(self) -> int:
        return len(self.embeds)

    def __getitem__(self, rows: slice | Tensor) -> "Conditions":
        return Conditions(self.embeds[rows], self.mask[rows], self.pooled[rows])

    def repeat_interleave(self, repeats: int) -> "Conditions":
        """Repeat each row, keeping copies of one caption together."""
        return Conditions(
            self.embeds.repeat_interleave(repeats, 0),
            self.mask.repeat_interleave(repeats, 0),
            self.pooled.repeat_interleave(repeats, 0),
        )


class Projector(ModelMixin, ConfigMixin):
    """Linear, GELU, Linear with biases and no norm (PKU-YuanGroup/UAE `denoise_projector`).

    The pooled vector is a constant for every caption, the negative one included: in the paper the
    pooled CLIP embedding of the empty string, here a buffer beside the weights.
    """

    @register_to_config
    def __init__(
        self, hidden_size: int, inner_size: int, condition_size: int, pooled_size: int
    ) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(hidden_size, inner_size)
        self.act = nn.GELU()
        self.linear_2 = nn.Linear(inner_size, condition_size)
        self.register_buffer("pooled", torch.zeros(pooled_size))

    def forward(self, hidden: Float[Tensor, "n s d"], mask: Bool[Tensor, "n s"]) -> Conditions:
        """Project hidden states at all positions."""
        embeds = self.linear_2(self.act(self.linear_1(hidden)))
        return Conditions(embeds, mask, self.pooled.expand(len(hidden), -1))


def load_projector(folder: str | Path, dtype: torch.dtype = torch.float32) -> Projector:
    """Load a projector saved by `save_pretrained`."""
    return Projector.from_pretrained(folder, torch_dtype=dtype).eval()
