# vaes of diffusers share no type that knows their settings
# pyright: reportAttributeAccessIssue=false, reportUnknownMemberType=false, reportUnknownVariableType=false
"""From pixels to latents, by vae class; the way back is the pipelines' own."""

from collections.abc import Callable, Mapping
from typing import Any

from einops import rearrange
from jaxtyping import Float
from torch import Tensor


def _kl(vae: Any, pixels: Tensor) -> Tensor:
    mean = vae.encode(pixels).latent_dist.mean.float()
    return (mean - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor


def _qwen_image(vae: Any, pixels: Tensor) -> Tensor:
    latents = vae.encode(pixels[:, :, None]).latent_dist.mean[:, :, 0].float()
    mean, std = (
        latents.new_tensor(values)[:, None, None]
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return (latents - mean) / std


def _flux2(vae: Any, pixels: Tensor) -> Tensor:
    mean = vae.encode(pixels).latent_dist.mean.float()
    latents = rearrange(mean, "n c (h p) (w q) -> n (c p q) h w", p=2, q=2)
    variance = vae.bn.running_var.float() + vae.config.batch_norm_eps
    return (latents - vae.bn.running_mean[:, None, None]) / variance.sqrt()[:, None, None]


def _dc(vae: Any, pixels: Tensor) -> Tensor:
    return vae.encode(pixels).latent.float() * vae.config.scaling_factor


_BY_CLASS: Mapping[str, Callable[[Any, Tensor], Tensor]] = {
    "AutoencoderKL": _kl,
    "AutoencoderKLQwenImage": _qwen_image,
    "AutoencoderKLFlux2": _flux2,
    "AutoencoderDC": _dc,
}


def to_latents(vae: Any, pixels: Float[Tensor, "n 3 y x"]) -> Float[Tensor, "n c h w"]:
    """Encode pixels in [-1, 1] to the mean of their latents, float32, of about unit variance."""
    return _BY_CLASS[type(vae).__name__](vae, pixels.to(vae.dtype))
