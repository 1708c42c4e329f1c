"""Fault 17: a reward that is NaN or infinite.

The sample must be left out and counted, and every other group must learn what it would have learnt:
in the advantages of random groups, and in a real training step of either side.
"""

import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from unittest import mock

import torch
from torch import Tensor

from faults.real_loop import (
    GROUP_SIZE,
    NUM_IMAGES,
    SIDES,
    Result,
    bitwise_equal,
    changed_rewards,
    recipe_of,
    result_of,
    train,
)
from faults.trials import Outcome, arguments, report
from uae.recipe.recipe import Schedule
from uae.rl.advantage import Advantages, Scale, group_advantages
from uae.train import decoder_rl, encoder_rl

BAD = (float("nan"), float("inf"), float("-inf"))
LOOPS = {"encoder": encoder_rl, "decoder": decoder_rl}


@dataclass(frozen=True, slots=True)
class Compared:
    """Rewards as a loop passed them to `group_advantages`, and what came back."""

    rewards: Tensor
    group_id: Tensor
    valid: Tensor
    options: dict[str, Any]
    result: Advantages


def compare(rewards: Tensor, group_id: Tensor, valid: Tensor, **options: Any) -> Compared:
    """Compute advantages and keep what they came from."""
    result = group_advantages(rewards, group_id, valid, **options)
    return Compared(rewards, group_id, valid, options, result)


def only_one_is_lost(clean: Compared, spoiled: Compared, bad: int) -> bool:
    """Check that sample `bad` is out, counted, and that nothing else has changed.

    The rest must be, bit for bit, as if the sample were not there; and groups other than its own as
    in the clean step, unless all are divided by one spread, which the sample was part of.
    """
    others = torch.arange(len(clean.rewards)) != bad
    absent = compare(
        clean.rewards[others], clean.group_id[others], clean.valid[others], **clean.options
    ).result
    foreign = clean.group_id != clean.group_id[bad]
    untouched = clean.options["scale"] == "global" or bitwise_equal(
        {"": clean.result.values[foreign]}, {"": spoiled.result.values[foreign]}
    )
    return (
        untouched
        and bitwise_equal({"": absent.values}, {"": spoiled.result.values[others]})
        and torch.equal(absent.kept, spoiled.result.kept[others])
        and not spoiled.result.kept[bad]
        and spoiled.result.values[bad].item() == 0
        and spoiled.result.num_excluded == absent.num_excluded + 1
    )


def random_groups(chance: random.Random, value: float) -> bool:
    """Spoil one sample of random groups, of any scale."""
    draws = torch.Generator().manual_seed(chance.getrandbits(32))
    num_groups, size = chance.randint(2, 8), chance.randint(2, 8)
    group_id = torch.arange(num_groups).repeat_interleave(size)
    group_id = group_id[torch.randperm(len(group_id), generator=draws)]
    rewards = torch.rand(len(group_id), generator=draws)
    valid = torch.rand(len(group_id), generator=draws) < 0.9
    bad = chance.randrange(len(rewards))
    valid[bad] = True
    spoiled = rewards.clone()
    spoiled[bad] = value
    options = {"scale": chance.choice(get_args(Scale))}
    clean = compare(rewards, group_id, valid, **options)
    return only_one_is_lost(clean, compare(spoiled, group_id, valid, **options), bad)


@contextmanager
def recorded(side: Schedule) -> Iterator[list[Compared]]:
    """Within this context, record what a loop compares."""
    seen: list[Compared] = []

    def record(rewards: Tensor, group_id: Tensor, valid: Tensor, **options: Any) -> Advantages:
        seen.append(compare(rewards, group_id, valid, **options))
        return seen[-1].result

    with mock.patch.object(LOOPS[side], "group_advantages", record):
        yield seen


def train_a_step(folder: Path, side: Schedule, seed: int) -> tuple[Result, Compared]:
    """Take one real training step of a side."""
    with recorded(side) as seen:
        train(folder, recipe_of(side, 1, seed))
    return result_of(folder), seen[0]


def training_step(folder: Path, side: Schedule, chance: random.Random, value: float) -> bool:
    """Spoil one reward of a real training step; compare with the same step unspoiled."""
    seed = chance.getrandbits(16)
    _, clean = train_a_step(folder / "clean", side, seed)
    bad = chance.choice(torch.nonzero(clean.valid).flatten().tolist())

    def spoil(rewards: Tensor) -> Tensor:
        return torch.where(torch.arange(len(rewards)) == bad, value, rewards)

    with changed_rewards(spoil):
        result, spoiled = train_a_step(folder / "spoiled", side, seed)
    return (
        only_one_is_lost(clean, spoiled, bad)
        and result.is_finite()
        and result.metrics[0]["group/excluded_samples"] == clean.result.num_excluded + 1
    )


def main() -> int:
    """Spoil random groups; and for every 100 of them, rounded up, a training step of each side."""
    given = arguments(1000)
    chance = random.Random(given.seed)
    found = sum(random_groups(chance, BAD[i % 3]) for i in range(given.trials))
    num_steps = 2 * -(-given.trials // 100)
    for i in range(num_steps):
        with tempfile.TemporaryDirectory() as folder:
            found += training_step(Path(folder), SIDES[i % 2], chance, BAD[i // 2 % 3])
    trials = given.trials + num_steps
    return report(
        Outcome(
            number=17,
            fault="NaN or Inf reward",
            how=f"NaN, Inf or -Inf for one sample: {given.trials} random sets of groups, "
            f"{num_steps} training steps of {NUM_IMAGES} groups of {GROUP_SIZE}, half of either "
            "side",
            trials=trials,
            detected=found,
            lost="that sample, which is counted; other groups' advantages bitwise unchanged, "
            "weights finite",
            passed=found == trials,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
