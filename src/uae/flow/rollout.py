"""What a rollout keeps so that its samples can be scored again: the base of both kinds."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
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


AnyRollout = TypeVar("AnyRollout", bound=Rollout)


def rows_of(rollout: AnyRollout, index: slice | Tensor) -> AnyRollout:
    """The samples at `index`, e.g. one micro-batch of an update."""
    return replace(rollout, **{name: getattr(rollout, name)[index] for name in _tensors(rollout)})


def concatenate(parts: Sequence[AnyRollout]) -> AnyRollout:
    """Join the micro-batches of one rollout, in their order."""
    versions = {part.policy_version for part in parts}
    assert len(versions) == 1, f"one rollout comes from one policy, got versions {versions}"
    first = parts[0]
    joined = {k: torch.cat([getattr(part, k) for part in parts]) for k in _tensors(first)}
    return replace(first, **joined)


def _tensors(rollout: Rollout) -> list[str]:
    return [f.name for f in fields(rollout) if isinstance(getattr(rollout, f.name), Tensor)]
