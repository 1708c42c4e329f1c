# diffusers types configs as dicts, optional layers as None and outputs as tuples
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
"""The latent autoencoder of uae-tiny: diffusers' `AutoencoderKL`, 64 px to 16 x 16 x 8 latents."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from bases.fit import cosine, fit
from uae.flow.noise import stream
from uae.runs.run import Run
from uae.scenes.graph import scene_at
from uae.scenes.render import render


@dataclass(frozen=True, kw_only=True)
class VaeConfig:
    """How the vae is trained. The weights are small enough for a CPU."""

    num_steps: int = 12000
    batch_size: int = 8
    lr: float = 2e-3
    kl_weight: float = 3e-4
    foreground_weight: float = 4.0
    """Extra weight of pixels that differ from the background: small objects are few pixels."""
    seed: int = 11


def new_vae() -> AutoencoderKL:
    """Build the untrained model."""
    channels = (16, 32, 64)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def pixels_of(indices: range, seed: int) -> Tensor:
    """Render training scenes: float (b, 3, 64, 64) in [-1, 1]."""
    images = np.stack([render(scene_at(i, "train", seed)) for i in indices])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def build_vae(run: Run, folder: Path, config: VaeConfig) -> None:
    """Train the vae on rendered scenes; save it in diffusers' layout, latents scaled to std 1."""
    torch.manual_seed(config.seed)
    vae = new_vae()

    def loss_at(step: int) -> tuple[Tensor, dict[str, float]]:
        first = step * config.batch_size
        pixels = pixels_of(range(first, first + config.batch_size), config.seed)
        posterior = vae.encode(pixels).latent_dist
        latents = posterior.sample(stream(config.seed, "vae", step))
        redrawn = vae.decode(latents).sample
        background = pixels[:, :, :1, :1]
        foreground = ((pixels - background).abs().amax(1, keepdim=True) > 0.05).float()
        weight = 1 + config.foreground_weight * F.max_pool2d(foreground, 3, 1, 1)
        error = (redrawn - pixels).abs() + (redrawn - pixels).square()
        reconstruction = (weight * error).mean() / weight.mean()
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        loss = reconstruction + config.kl_weight * kl
        mse = (redrawn - pixels).square().mean()
        return loss, {"reconstruction": reconstruction.item(), "kl": kl.item(), "mse": mse.item()}

    optimizer = cosine(config.lr, config.num_steps, muon=False)
    fit(run, "vae", vae, loss_at, config.num_steps, optimizer)
    with torch.no_grad():
        pixels = pixels_of(range(10**9, 10**9 + 256), config.seed)
        latents = torch.cat([vae.encode(p).latent_dist.mean for p in pixels.split(32)])
    vae.register_to_config(
        scaling_factor=1 / latents.std().item(), shift_factor=latents.mean().item()
    )
    vae.save_pretrained(folder)
