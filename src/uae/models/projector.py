# diffusers declares `to` with an overload that pyright cannot bind
# pyright: reportArgumentType=false
"""The projector: an MLP from the encoder's hidden states to the decoder's text condition."""

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from uae.core.errors import UsageError
from uae.models.conditions import Conditions
from uae.models.dit.loading import read_config_of, read_index
from uae.models.dit.table import PIPELINES
from uae.models.loading import read_config
from uae.models.vlm.encoder import Encoder
from uae.models.vlm.family import Prompts
from uae.models.weightless import build, is_weightless


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
        embeds = self.linear_2(self.act(self.linear_1(hidden.to(self.linear_1.weight.dtype))))
        return Conditions(embeds, mask, self.pooled.expand(len(hidden), -1))


def load_projector(folder: str | Path, dtype: torch.dtype = torch.float32) -> Projector:
    """Load a projector saved by `save_pretrained`."""
    if is_weightless():
        return build(Projector, folder, dtype).eval()
    return Projector.from_pretrained(folder, dtype=dtype).eval()


def check_widths(projector: Path, encoder: Path, decoder: Path) -> None:
    """Compare what a projector reads and makes with what stands on either side of it.

    Raises:
        UsageError: A width differs; names both.
    """
    own = read_config_of(projector)
    theirs: dict[str, tuple[Path, int | None]] = {
        "hidden_size": (encoder, read_config(encoder).get_text_config().hidden_size)
    }
    if spec := PIPELINES.get(read_index(decoder)["_class_name"]):
        width = read_config_of(decoder / "transformer").get(spec.width)
        theirs["condition_size"] = (decoder, width)
    for key, (place, width) in theirs.items():
        if width is not None and own.get(key) != width:
            raise UsageError(
                f"{projector} has {key} {own.get(key)}, and {place} a width of {width}: a "
                "projector belongs to the encoder and the decoder that it was trained with"
            )


class Projected:
    """The paper's conditioner: the frozen encoder reads a caption, the projector learns.

    See `Conditioner`. A reading holds hidden states and no pooled vector.
    """

    def __init__(self, encoder: Encoder, projector: Projector) -> None:
        """Join both.

        Raises:
            UsageError: The encoder does not read captions as they are.
        """
        encoder.trained.check_reading()
        self.encoder = encoder
        self.projector = projector

    def num_tokens(self, caption: str) -> int:
        return self.encoder.num_tokens(caption)

    def head_of(self, caption: str, num_tokens: int) -> str:
        return self.encoder.head_of(caption, num_tokens)

    def __call__(self, captions: Sequence[str]) -> Conditions:
        return self.finish(self.read(captions))

    @torch.no_grad()
    def read(self, captions: Sequence[str]) -> Conditions:
        hidden, mask = self.encoder.read(captions)
        return Conditions(hidden, mask, hidden.new_zeros(len(hidden), 0))

    @torch.no_grad()
    def read_in_sight(
        self, prompts: Prompts, token_ids: Int[Tensor, "n t"], mask: Bool[Tensor, "n t"]
    ) -> Conditions:
        """Read captions in a pass that holds their images, one per prompt: no text bottleneck."""
        hidden = self.encoder.caption_states(prompts, token_ids)
        return Conditions(hidden, mask, hidden.new_zeros(len(hidden), 0))

    def finish(self, reading: Conditions) -> Conditions:
        return self.projector(reading.embeds, reading.mask)

    def trainable(self) -> dict[str, nn.Parameter]:
        """See `Conditioner`: the projector."""
        self.projector.requires_grad_(True)
        return {f"projector.{name}": p for name, p in self.projector.named_parameters()}
