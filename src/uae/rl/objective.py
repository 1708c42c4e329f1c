"""The clipped policy objective, for tokens of a caption and for steps of a flow alike.

    L = 1 / D sum_terms [ -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A) + beta KL ]
    r = exp(log p - log p_old)

Source: PPO, arXiv 1707.06347, equation 7; GRPO, arXiv 2402.03300. D is never a sequence's own
length, which would make words of long captions count less. It is a number of the whole step,
the same for all its micro-batches, so that their losses add up to the loss of the whole:

    D = all tokens of the step        DAPO, arXiv 2503.14476, equation 8
    D = sequences x token limit       Dr.GRPO, arXiv 2503.20783
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from uae.core.errors import RunFailed
from uae.rl.kl import k1, k3

Normalization = Literal["tokens", "constant"]


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """Figures of the objective; detached, averaged over its terms.

    Attributes:
        ratio_mean: Exactly 1 before the first update.
        ratio_max_deviation: max |r - 1|; exactly 0 before the first update.
        clipped_share_low: Terms whose gradient is cut because r < 1 - clip_low and A < 0.
        clipped_share_high: The same for r > 1 + clip_high and A > 0.
        k1: KL(p_old || p) estimated by k1: how far the policy has moved since the rollout.
        k3: The same by k3.
        kl: The KL to the reference policy that beta multiplies; 0 without a reference.
        num_terms: Tokens or steps averaged over.
    """

    ratio_mean: Float[Tensor, ""]
    ratio_max_deviation: Float[Tensor, ""]
    clipped_share_low: Float[Tensor, ""]
    clipped_share_high: Float[Tensor, ""]
    k1: Float[Tensor, ""]
    k3: Float[Tensor, ""]
    kl: Float[Tensor, ""]
    num_terms: int


_SLACK = 256
"""Roundings by which a log-probability may differ where kernels do: in float32 those of uae-tiny's
tokens are apart by up to 61 where they are sampled and where they are scored."""

_MEANS = ("ratio_mean", "clipped_share_low", "clipped_share_high", "k1", "k3", "kl")


def token_denominator(
    mask: Bool[Tensor, "n t"], normalization: Normalization, max_tokens: int
) -> int:
    """D of a whole step.

    Args:
        mask: Completion tokens of *all* captions of the step that are in the update.
        normalization: Which D.
        max_tokens: Limit on a completion's tokens.
    """
    terms = int(mask.sum()) if normalization == "tokens" else len(mask) * max_tokens
    return max(terms, 1)  # a step in which every group was dropped has no terms and no loss


def token_loss(
    log_probs: Float[Tensor, "n t"],
    old_log_probs: Float[Tensor, "n t"],
    advantages: Float[Tensor, " n"],
    mask: Bool[Tensor, "n t"],
    denominator: int,
    *,
    clip_low: float,
    clip_high: float,
    ref_log_probs: Float[Tensor, "n t"] | None = None,
    beta: float = 0.0,
) -> tuple[Float[Tensor, ""], Diagnostics]:
    """Loss of a micro-batch of captions, with the k3 estimate as KL.

    Args:
        log_probs: Of the sampled tokens under the policy, at the sampling temperature, float32.
        old_log_probs: The same under the policy that sampled them.
        advantages: Of whole captions.
        mask: True on completion tokens, the end token included.
        denominator: From `token_denominator` of the whole step.
        clip_low: r is clipped below at 1 - clip_low.
        clip_high: r is clipped above at 1 + clip_high; larger than clip_low in DAPO.
        ref_log_probs: Under the reference policy; needed where beta > 0.
        beta: Weight of the KL to the reference.
    """
    assert ref_log_probs is not None or beta == 0, "beta > 0 needs ref_log_probs"
    # padding may hold anything, -inf included: it must reach neither loss nor gradient
    log_probs = log_probs.masked_fill(~mask, 0)
    old_log_probs = old_log_probs.masked_fill(~mask, 0)
    kl = torch.zeros_like(log_probs)
    if ref_log_probs is not None:
        kl = k3(log_probs, ref_log_probs.masked_fill(~mask, 0))
    objective, diagnostics = _clipped(
        log_probs, old_log_probs, advantages, mask, clip_low, clip_high, kl
    )
    return _sum(beta * kl - objective, mask) / denominator, diagnostics


def flow_loss(
    log_probs: Float[Tensor, "n w"],
    old_log_probs: Float[Tensor, "n w"],
    advantages: Float[Tensor, " n"],
    denominator: int,
    *,
    clip_low: float,
    clip_high: float,
    kept: Bool[Tensor, " n"] | None = None,
    kl: Float[Tensor, "n w"] | None = None,
    beta: float = 0.0,
) -> tuple[Float[Tensor, ""], Diagnostics]:
    """Loss of a micro-batch of stochastic sampling steps.

    Args:
        log_probs: Of the stored x_next under the policy (`flow.sde.log_prob`).
        old_log_probs: `Trajectory.log_probs`, or recomputed at this micro-batch's shape.
        advantages: Of whole images.
        denominator: Steps of all samples in the update, n w of the whole step.
        clip_low: r is clipped below at 1 - clip_low; 1e-4 in Flow-GRPO, for "mean" log-probs.
        clip_high: r is clipped above at 1 + clip_high.
        kept: `Advantages.kept`: False takes an image out of the loss, its KL included.
        kl: KL of each step to the reference policy (`kl.transition_kl`); needed where beta > 0.
        beta: Weight of the KL to the reference.
    """
    assert kl is not None or beta == 0, "beta > 0 needs kl"
    kl = torch.zeros_like(log_probs) if kl is None else kl
    mask = torch.ones_like(log_probs, dtype=torch.bool)
    if kept is not None:
        mask = mask & kept.unsqueeze(1)
    objective, diagnostics = _clipped(
        log_probs, old_log_probs, advantages, mask, clip_low, clip_high, kl
    )
    return _sum(beta * kl - objective, mask) / denominator, diagnostics


def _clipped(
    log_probs: Float[Tensor, "n t"],
    old_log_probs: Float[Tensor, "n t"],
    advantages: Float[Tensor, " n"],
    mask: Bool[Tensor, "n t"],
    clip_low: float,
    clip_high: float,
    kl: Float[Tensor, "n t"],
) -> tuple[Float[Tensor, "n t"], Diagnostics]:
    """min(r A, clip(r) A) of each term, and the diagnostics over the terms in `mask`."""
    ratio = (log_probs - old_log_probs).exp()
    advantages = advantages.unsqueeze(1)
    clipped_ratio = ratio.clamp(1 - clip_low, 1 + clip_high)

    def mean(values: Tensor) -> Tensor:
        return _sum(values.detach(), mask) / mask.sum().clamp(min=1)

    diagnostics = Diagnostics(
        ratio_mean=mean(ratio),
        ratio_max_deviation=(ratio.detach() - 1).abs().masked_fill(~mask, 0).max(),
        clipped_share_low=mean(((ratio < 1 - clip_low) & (advantages < 0)).float()),
        clipped_share_high=mean(((ratio > 1 + clip_high) & (advantages > 0)).float()),
        k1=mean(k1(old_log_probs, log_probs)),  # the samples are p_old's
        k3=mean(k3(old_log_probs, log_probs)),
        kl=mean(kl),
        num_terms=int(mask.sum()),
    )
    return torch.min(ratio * advantages, clipped_ratio * advantages), diagnostics


def _sum(values: Float[Tensor, "n t"], mask: Bool[Tensor, "n t"]) -> Float[Tensor, ""]:
    return values.masked_fill(~mask, 0).sum()


def merged(parts: Sequence[Diagnostics]) -> Diagnostics:
    """Diagnostics of a whole step from those of its micro-batches."""
    num_terms = sum(part.num_terms for part in parts)
    weights = [part.num_terms / max(num_terms, 1) for part in parts]
    columns = {name: [getattr(part, name) for part in parts] for name in _MEANS}
    return Diagnostics(
        **{
            name: torch.stack([w * v for w, v in zip(weights, values, strict=True)]).sum()
            for name, values in columns.items()
        },
        ratio_max_deviation=torch.stack([part.ratio_max_deviation for part in parts]).max(),
        num_terms=num_terms,
    )


def ratio_bound(rounding: float, clip: float) -> float:
    """Return how far from 1 a ratio may be before the first update of a rollout.

    Where kernels differ a log-probability is off by some roundings, and the ratio with it. At the
    clip range that ends: clipping would act on rounding alone.

    Args:
        rounding: Relative precision of the arithmetic; 0 where it is repeated to the bit.
        clip: Of the ratio, on its nearer side.
    """
    return min(_SLACK * rounding, clip)


def ratio_metrics(
    side: str, parts: Sequence[Diagnostics], *, clip: float, rounding: float | None
) -> dict[str, float]:
    """Metrics of an update from what its micro-batches saw, named as in `docs/metrics.md`.

    Args:
        side: The policy's name, for messages.
        parts: Of all micro-batches.
        clip: The ratio is clipped at this distance from 1, on its nearer side.
        rounding: See `ratio_bound`; None after the first update of a rollout, before which the
            ratio must be 1.

    Raises:
        RunFailed: It is not: the policy that would be updated is not the one that was scored.
    """
    seen = merged(parts)
    gap = seen.ratio_max_deviation.item()
    if rounding is not None and gap > (bound := ratio_bound(rounding, clip)):
        raise RunFailed(
            f"{side}: the ratio differs from 1 by {gap:.3g}, {gap / clip:.2g} clip ranges, before "
            f"the first update of a rollout, where {bound:.3g} is allowed; sampling and training "
            "do not agree (batch shape, precision or guidance), so the update was not made"
        )
    return {
        "policy/ratio_mean": seen.ratio_mean.item(),
        "policy/ratio_gap": gap / clip,
        "policy/clipped_share": (seen.clipped_share_low + seen.clipped_share_high).item(),
        "kl/reference": seen.kl.item(),
        "kl/old_k1": seen.k1.item(),
        "kl/old_k3": seen.k3.item(),
    }
