"""The numbers that both RL loops log, named as in `docs/metrics.md`; a loss has its own."""

from jaxtyping import Float
from torch import Tensor

from uae.models.vlm.encoder import Captions
from uae.recipe.encoder_rl import EncoderRLConfig
from uae.rl.advantage import Advantages


def reward_metrics(rewards: Float[Tensor, " n"], advantages: Advantages) -> dict[str, float]:
    """Rewards of the valid samples, and how many groups and samples taught nothing."""
    valid = rewards[rewards.isfinite()]
    numbers = {} if len(valid) == 0 else {"reward/mean": valid.mean().item()}
    return numbers | {
        "reward/std": valid.std().item() if len(valid) > 1 else 0.0,
        "group/zero_spread_share": advantages.num_zero_spread_groups / advantages.num_groups,
        "group/excluded_samples": float(advantages.num_excluded),
    }


def caption_metrics(captions: Captions) -> dict[str, float]:
    """Length and entropy of the rollout's captions; truncated means without an end token."""
    num_tokens = captions.mask.sum().clamp(min=1)
    return {
        "caption/entropy": (captions.entropies.sum() / num_tokens).item(),
        "caption/num_tokens": captions.num_tokens.float().mean().item(),
        "caption/truncated_share": captions.truncated.float().mean().item(),
    }


def sampling_metrics(
    captions: Captions, scored: Float[Tensor, "n t"], config: EncoderRLConfig
) -> dict[str, float]:
    """Return how far sampling and scoring are apart, at the token where they differ most."""
    gap = (captions.log_probs - scored).abs().masked_fill(~captions.mask, 0.0).max().item()
    return {
        "policy/sampling_gap": gap,
        "policy/sampling_gap_clips": gap / min(config.clip_low, config.clip_high),
    }
