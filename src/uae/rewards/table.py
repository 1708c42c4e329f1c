"""The rewards there are, by kind."""

from uae.rewards.clip import load_clip
from uae.rewards.dino import load_dinov2, load_dinov3
from uae.rewards.dreamsim import load_dreamsim
from uae.rewards.reward import LoadReward
from uae.rewards.siglip import load_siglip, refuse_naflex

REWARDS: dict[str, LoadReward] = {
    "clip": load_clip,
    "siglip": load_siglip,
    "siglip2": refuse_naflex,
    "dinov2": load_dinov2,
    "dinov3_vit": load_dinov3,
    "dreamsim": load_dreamsim,
}
"""The kind of a place is what stands before its colon, as in dreamsim:ensemble, or else the
`model_type` of its config."""
