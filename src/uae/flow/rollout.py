"""A rollout, with what it takes to score its samples again: the base of both kinds."""

from dataclasses import dataclass

from jaxtyping import Float32, Int
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """n samples with w scored terms each.

    Attributes:
        log_probs: Of each term under the policy that sampled it, reduced over latent dimensions.
        group_id: Which samples are compared with one another.
        policy_version: The step of the stage whose policy sampled.
    """

    log_probs: Float32[Tensor, "n w"]
    group_id: Int[Tensor, " n"]
    policy_version: int
