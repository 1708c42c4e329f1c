# diffusers types configs as dicts, optional layers as None and outputs as tuples
# pyright: reportAttributeAccessIssue=false
"""The decoder of uae-tiny, untrained: an SD3 transformer over 64 latent tokens; its projector."""

from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel

from uae.models.dit.decoder import Decoder
from uae.models.dit.sd3 import Sd3
from uae.models.projector import Projector

CONDITION_SIZE, POOLED_SIZE = 160, 16


def new_decoder(vae: AutoencoderKL, num_layers: int = 4) -> Decoder:
    """Build the untrained transformer around a trained vae."""
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=vae.config.latent_channels,
        out_channels=vae.config.latent_channels,
        num_layers=num_layers,
        attention_head_dim=32,
        num_attention_heads=5,
        joint_attention_dim=CONDITION_SIZE,
        caption_projection_dim=160,
        pooled_projection_dim=POOLED_SIZE,
        pos_embed_max_size=8,
        qk_norm="rms_norm",
    )
    return Decoder(Sd3(transformer, vae, FlowMatchEulerDiscreteScheduler(shift=1.0)))


def new_projector(hidden_size: int) -> Projector:
    """Build the untrained projector for an encoder of `hidden_size`."""
    return Projector(hidden_size, 4 * hidden_size, CONDITION_SIZE, POOLED_SIZE)
