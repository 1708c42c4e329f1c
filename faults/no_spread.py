"""Fault 20: groups whose rewards are all equal, or differ by rounding alone.

In a real training step of either side, they must send no gradient at all, while the others do.
"""

import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from faults.real_loop import (
    GROUP_SIZE,
    NUM_IMAGES,
    SIDES,
    changed_rewards,
    recipe_of,
    result_of,
    train,
)
from faults.trials import Outcome, arguments, report
from uae.recipe.recipe import Schedule
from uae.rl.decoder import ratios
from uae.train import encoder_rl

LOSSES = {"encoder": (encoder_rl, "token_loss"), "decoder": (ratios, "flow_loss")}


@contextmanager
def gradients_by_sample(side: Schedule) -> Iterator[list[list[Tensor]]]:
    """Within this context, keep what a loss is computed from, with its gradients.

    Yields:
        Of each micro-batch the log-probabilities, and the decoder's KL, which is the loss's other
        way to the weights.
    """
    module, name = LOSSES[side]
    plain, seen = getattr(module, name), []

    def kept(log_probs: Tensor, *args: Any, kl: Tensor | None = None, **options: Any) -> Any:
        ways = [log_probs] if kl is None else [log_probs, kl]
        for way in ways:
            way.retain_grad()
        seen.append(ways)
        return plain(log_probs, *args, **options, **({} if kl is None else {"kl": kl}))

    with mock.patch.object(module, name, kept):
        yield seen


def flat_groups_teach_nothing(folder: Path, side: Schedule, chance: random.Random) -> bool:
    """Make some groups of a training step flat; check the gradients of every sample."""
    flat = torch.zeros(NUM_IMAGES, dtype=torch.bool)
    flat[chance.sample(range(NUM_IMAGES), chance.randint(1, NUM_IMAGES))] = True
    flat_rows = flat.repeat_interleave(GROUP_SIZE)
    value, rounding = chance.uniform(-1, 1), chance.choice((0.0, 1e-7))
    ramp = torch.arange(len(flat_rows)) / len(flat_rows)  # equal captions have equal rewards

    def flatten(rewards: Tensor) -> Tensor:
        equal = value + rounding * (rewards - rewards.mean()).sign()
        return torch.where(flat_rows, equal, rewards + ramp)

    with changed_rewards(flatten), gradients_by_sample(side) as seen:
        train(folder, recipe_of(side, 1, chance.getrandbits(16)))
    result = result_of(folder)
    ways = [torch.cat([part[i].grad.abs() for part in seen]) for i in range(len(seen[0]))]
    pull = torch.stack([way.flatten(1).sum(1) for way in ways]).sum(0)
    line = result.metrics[0]
    return (
        bool((pull[flat_rows] == 0).all())
        and bool(flat.all()) == (line["optim/grad_norm"] == 0)
        and bool(flat.all()) == (pull.sum().item() == 0)
        and line["group/zero_spread_share"] == flat.float().mean().item()
        and result.is_finite()
    )


def main() -> int:
    """Try either side in turn, with a random choice of flat groups."""
    given = arguments(40)
    chance = random.Random(given.seed)
    found = 0
    for trial in range(given.trials):
        with tempfile.TemporaryDirectory() as folder:
            found += flat_groups_teach_nothing(Path(folder) / "run", SIDES[trial % 2], chance)
    return report(
        Outcome(
            number=20,
            fault="groups without spread",
            how=f"rewards of 1 to {NUM_IMAGES} of {NUM_IMAGES} groups equal, or equal but for "
            "1e-7, in a training step of either side",
            trials=given.trials,
            detected=found,
            lost="their gradient is exactly 0, the others' is not; no NaN; share of groups counted",
            passed=found == given.trials,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
