"""A decoder family: a text-to-image model as training and sampling need it.

A family is one file of this folder and a line in `table.py`. Pixels are in [0, 1] at this border;
latents have about unit variance; the velocity is v = eps - x_0 (see `flow/path.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from uae.data.shapes import Size
from uae.models.conditions import Conditions
from uae.models.plain_text import PlainText
from uae.models.targets import Targets


@runtime_checkable
class DitFamily(Protocol):
    """A transformer with its schedule and its vae."""

    targets: Targets

    @property
    def pipeline_class(self) -> type[Any] | None:
        """The diffusers pipeline that reads the adapters as well; None without one."""
        ...

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a pipeline folder, `model_index.json` included."""
        ...

    @property
    def transformer(self) -> nn.Module:
        """What is trained."""
        ...

    def modules(self) -> Mapping[str, nn.Module]:
        """Its models by name: transformer, vae, and what reads captions if anything does."""
        ...

    @property
    def device(self) -> torch.device: ...

    def to(self, device: str) -> None:
        """Move all parts."""
        ...

    @property
    def size_px(self) -> int:
        """Side of a square image, where nothing else is said."""
        ...

    @property
    def step_px(self) -> int:
        """Heights and widths are multiples of it."""
        ...

    def latent_shape(self, size: Size) -> tuple[int, ...]:
        """Shape of the latents of one image of that height and width in pixels.

        Raises:
            UsageError: It draws no images of that size.
        """
        ...

    def sigmas(self, num_steps: int, latent_shape: tuple[int, ...]) -> Float[Tensor, " t"]:
        """Noise levels of a sampling run, from 1 to 0: `num_steps` + 1 values."""
        ...

    def velocity(
        self, latents: Float[Tensor, "n ..."], sigma: Float[Tensor, " n"], conditions: Conditions
    ) -> Float[Tensor, "n ..."]:
        """Predict the velocity, in float32, at noise levels `sigma` in [0, 1]."""
        ...

    def to_pixels(self, latents: Float[Tensor, "n ..."]) -> Float[Tensor, "n 3 y x"]:
        """Decode latents to pixels, NaN where the vae gave nothing finite."""
        ...

    def to_latents(self, pixels: Float[Tensor, "n 3 y x"]) -> Float[Tensor, "n ..."]:
        """Encode pixels to the mean of their latents."""
        ...


@runtime_checkable
class ReadsCaptions(Protocol):
    """A family with a text encoder of its own."""

    plain: PlainText
    """Its tokenizer."""
    max_tokens: int
    """Longest caption that it reads; the rest is cut off."""

    def encode(self, captions: Sequence[str]) -> Conditions:
        """Read captions, as plain text and without gradients."""
        ...


LoadFamily = Callable[[str | Path, torch.dtype], DitFamily]
"""Loads a folder that transformers or diffusers wrote."""
