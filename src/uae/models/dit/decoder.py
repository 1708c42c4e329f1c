"""The decoder: a text-to-image model of any family, which draws images from conditions.

Pixels are in [0, 1]; what depends on the model's architecture is its family's (`family.py`).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from uae.core.errors import UsageError
from uae.data.shapes import MAX_ASPECT, Shapes, Size
from uae.flow.noise import gaussian
from uae.flow.ode import ode_sample
from uae.models.compiled import compile_blocks
from uae.models.conditions import Conditions
from uae.models.dit.family import DitFamily
from uae.recipe.sampling import SamplingConfig


class Decoder:
    """A family's model, and the shapes of its images.

    latents = decoder.sample(conditions, noise, config)
    pixels = decoder.to_pixels(latents)
    """

    def __init__(
        self, family: DitFamily, size_px: int | None = None, *, own_shapes: bool = False
    ) -> None:
        """Hold a family's model.

        Args:
            family: Draws.
            size_px: Side of its images, which are squares; by default the family's own.
            own_shapes: A redraw has about the shape of its image, and as many pixels as a square.

        Raises:
            UsageError: The family draws no images of that size.
        """
        self.family = family
        self.shapes = Shapes(size_px or family.size_px, family.step_px, own_shapes)
        if self.size_px < family.step_px or self.size_px % family.step_px:
            raise UsageError(
                f"size_px = {self.size_px}: {type(family.transformer).__name__} draws multiples of "
                f"{family.step_px} pixels"
            )
        self.is_compiled = False
        self.vae_batch = 0
        """Images that the vae takes at once; 0 for all."""
        for aspect in (1, MAX_ASPECT):
            family.latent_shape(self.shapes.of(aspect, 1))

    @property
    def size_px(self) -> int:
        """Side of a square image."""
        return self.shapes.size_px

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that plain diffusers loads."""
        self.family.save_pretrained(folder)

    @property
    def transformer(self) -> nn.Module:
        return self.family.transformer

    @property
    def device(self) -> torch.device:
        return self.family.device

    def to(self, device: str) -> None:
        """Move all parts."""
        self.family.to(device)

    def keep_no_activations(self) -> None:
        """Compute activations again in the backward pass instead of keeping them."""
        self.family.transformer.enable_gradient_checkpointing()  # pyright: ignore[reportCallIssue]

    def compile(self) -> None:
        """Compile the transformer's blocks when they are first run."""
        self.is_compiled = True
        compile_blocks(self.family.transformer)

    def latent_shape(self, size: Size | None = None) -> tuple[int, ...]:
        """Return the shape of one image's latents; by default of a square's."""
        return self.family.latent_shape(size or self.shapes.square)

    def sigmas(self, num_steps: int, latent_shape: Sequence[int]) -> Float[Tensor, " t"]:
        """Noise levels of a sampling run, from 1 to 0: `num_steps` + 1 values."""
        return self.family.sigmas(num_steps, tuple(latent_shape))

    def velocity(
        self, latents: Float[Tensor, "n ..."], sigma: Float[Tensor, " n"], conditions: Conditions
    ) -> Float[Tensor, "n ..."]:
        """Predict the velocity at noise levels `sigma` in [0, 1]."""
        return self.family.velocity(latents, sigma, conditions)

    def repeatable_velocity(
        self, latents: Float[Tensor, "n ..."], sigma: Float[Tensor, " n"], conditions: Conditions
    ) -> Float[Tensor, "n ..."]:
        """Predict with the same arithmetic with and without gradients, compiled or not."""
        is_learning = torch.is_grad_enabled()
        with torch.set_grad_enabled(is_learning or self.is_compiled):
            velocity = self.velocity(latents, sigma, conditions)
        return velocity if is_learning else velocity.detach()

    def guided_velocity(
        self,
        latents: Float[Tensor, "n ..."],
        sigma: Float[Tensor, " n"],
        conditions: Conditions,
        negative: Conditions | None,
        guidance_scale: float,
    ) -> Float[Tensor, "n ..."]:
        """Predict with classifier-free guidance; a scale of 1 costs one forward pass."""
        positive = self.velocity(latents, sigma, conditions)
        if negative is None or guidance_scale == 1.0:
            return positive
        unguided = self.velocity(latents, sigma, negative)
        return unguided + guidance_scale * (positive - unguided)

    def sample(
        self,
        conditions: Conditions,
        noise: Float[Tensor, "n ..."],
        config: SamplingConfig,
        negative: Conditions | None = None,
    ) -> Float[Tensor, "n ..."]:
        """Draw latents by the deterministic Euler sampler; gradients flow if they are enabled."""

        def field(x: Tensor, sigma: Tensor) -> Tensor:
            return self.guided_velocity(x, sigma, conditions, negative, config.guidance_scale)

        return ode_sample(field, noise, self.sigmas(config.num_steps, noise.shape[1:]))

    def noise(
        self, generators: Sequence[torch.Generator], size: Size | None = None
    ) -> Float[Tensor, "n ..."]:
        """Return starting noise, one image per generator; made on the CPU, alike on all devices.

        Args:
            generators: On the CPU.
            size: Height and width of the images in pixels; by default squares.
        """
        return gaussian(generators, self.latent_shape(size)).to(self.device)

    def to_pixels(self, latents: Float[Tensor, "n ..."]) -> Float[Tensor, "n 3 y x"]:
        """Decode latents to pixels in [0, 1], NaN where the vae gave nothing finite."""
        return self._in_parts(self.family.to_pixels, latents)

    def to_latents(self, pixels: Float[Tensor, "n 3 y x"]) -> Float[Tensor, "n ..."]:
        """Encode pixels in [0, 1] to the mean of their latents."""
        return self._in_parts(self.family.to_latents, pixels)

    def _in_parts(self, work: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        parts = images.split(self.vae_batch or max(1, len(images)))
        return work(images) if len(parts) == 1 else torch.cat([work(part) for part in parts])
