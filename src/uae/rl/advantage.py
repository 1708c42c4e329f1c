"""Group-relative advantages: how much better a sample did than its siblings.

    A_i = (r_i - mean_group r) / (std r + epsilon)

Source: GRPO, arXiv 2402.03300, section 4.1.2. The divisor is the group's std as there, the std of
all samples as Flow-GRPO does (arXiv 2505.05470), or nothing (Dr.GRPO, arXiv 2503.20783), which does
not blow up groups that are almost equal.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

Scale = Literal["group", "global", "none"]


@dataclass(frozen=True, slots=True)
class Advantages:
    """Advantages of a step's samples, and which of them teach anything.

    Attributes:
        values: 0 where not kept.
        kept: In the update: a valid sample of a group with spread.
        num_groups: All groups.
        num_zero_spread_groups: Two valid samples or more, all of equal reward.
        num_small_groups: Fewer than two valid samples, so nothing to compare.
        num_excluded: Samples that were invalid or had a reward that is not finite.
    """

    values: Float32[Tensor, " n"]
    kept: Bool[Tensor, " n"]
    num_groups: int
    num_zero_spread_groups: int
    num_small_groups: int
    num_excluded: int


def group_advantages(
    rewards: Float[Tensor, " n"],
    group_id: Int[Tensor, " n"],
    valid: Bool[Tensor, " n"],
    *,
    scale: Scale,
    epsilon: float = 1e-4,
    min_spread: float = 1e-6,
    clip: float = float("inf"),
) -> Advantages:
    """Compare each sample with the valid samples of its group.

    Samples that are not valid or not finite influence nothing: the result for the others is, bit
    for bit, the one they would get if those samples were not there.

    Args:
        rewards: Higher is better; any value where not valid.
        group_id: Equal for samples that are compared; in any order, groups of any size.
        valid: False for a sample whose redraw or score failed.
        scale: What to divide by. Standard deviations are of samples (n - 1), as in TRL.
        epsilon: Added to the std; 1e-4 in TRL and Flow-GRPO.
        min_spread: A group whose rewards lie within this of one another has no spread. The default
            is the rounding of float32 similarities.
        clip: Largest magnitude of an advantage; Flow-GRPO uses 5.
    """
    rewards = rewards.double()
    valid = valid & rewards.isfinite()
    values = torch.zeros_like(rewards)
    kept = torch.zeros_like(valid)
    global_std = _std(rewards[valid])
    groups = {int(group) for group in group_id}
    num_zero_spread_groups = num_small_groups = 0
    for group in sorted(groups):
        members = valid & (group_id == group)
        r = rewards[members]
        if len(r) < 2:
            num_small_groups += 1
            continue
        if r.max() - r.min() <= min_spread:
            num_zero_spread_groups += 1
            continue
        divisor = {"group": _std(r) + epsilon, "global": global_std + epsilon, "none": 1.0}[scale]
        values[members] = (r - r.mean()) / divisor
        kept |= members
    return Advantages(
        values=values.clamp(-clip, clip).float(),
        kept=kept,
        num_groups=len(groups),
        num_zero_spread_groups=num_zero_spread_groups,
        num_small_groups=num_small_groups,
        num_excluded=int((~valid).sum()),
    )


def _std(r: Tensor) -> Tensor:
    """Sample standard deviation; 0 for fewer than two samples, where torch warns and gives NaN."""
    return r.std() if len(r) > 1 else r.new_zeros(())
