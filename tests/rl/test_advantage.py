"""Group-relative advantages: closed forms, properties, and samples that must influence nothing."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trl.trainer.utils import nanstd

from uae.rl.advantage import Scale, group_advantages

SCALES: list[Scale] = ["group", "global", "none"]
REWARDS = torch.tensor([0.1, 0.4, 0.7, 0.2, 0.9, 0.9, 0.3, 0.5])
GROUPS = torch.tensor([7, 7, 7, 2, 2, 2, 2, 2])


def advantages(rewards=REWARDS, groups=GROUPS, valid=None, scale: Scale = "group", **settings):
    valid = torch.ones_like(groups, dtype=torch.bool) if valid is None else valid
    return group_advantages(rewards, groups, valid, scale=scale, **settings)


@st.composite
def steps(draw, min_size: int = 1):
    """Rewards on a grid (so that no spread is mere rounding), in interleaved groups."""
    n = draw(st.integers(min_size, 24))
    rewards = draw(st.lists(st.integers(-50, 50), min_size=n, max_size=n))
    groups = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    return torch.tensor(rewards) / 16, torch.tensor(groups)


def test_closed_form_group():
    result = advantages(torch.tensor([1.0, 2.0, 3.0]), torch.zeros(3, dtype=torch.long))
    expected = torch.tensor([-1.0, 0.0, 1.0]) / (1 + 1e-4)  # the sample std of 1, 2, 3 is 1
    torch.testing.assert_close(result.values, expected)


def test_closed_form_global_and_none():
    centred = REWARDS - torch.tensor([REWARDS[:3].mean()] * 3 + [REWARDS[3:].mean()] * 5)
    torch.testing.assert_close(advantages(scale="none").values, centred)
    torch.testing.assert_close(advantages(scale="global").values, centred / (REWARDS.std() + 1e-4))


def test_equals_trl():
    """trl GRPOTrainer, scale_rewards="group": nan-aware mean and std, epsilon 1e-4."""
    rewards = torch.tensor([0.3, 0.1, 0.8, 0.6, 0.2, 0.2, math.nan, 0.9])
    grouped = rewards.view(2, 4)
    theirs = (grouped - grouped.nanmean(1, keepdim=True)) / (
        nanstd(grouped, dim=1).view(2, 1) + 1e-4
    )
    ours = advantages(rewards, torch.arange(8) // 4)
    torch.testing.assert_close(ours.values, theirs.nan_to_num(0).flatten())


@settings(deadline=None, max_examples=60)
@given(step=steps(), scale=st.sampled_from(SCALES))
def test_sums_to_zero_in_every_group(step, scale: Scale):
    rewards, groups = step
    result = advantages(rewards, groups, scale=scale)
    for group in groups.unique():
        # 1e-4: float32 values up to 1e2 after division by a small std
        assert abs(result.values[groups == group].sum().item()) < 1e-4


@settings(deadline=None, max_examples=60)
@given(step=steps(), scale=st.sampled_from(SCALES), shift=st.integers(-8, 8))
def test_ignores_a_shift_of_the_rewards(step, scale: Scale, shift: int):
    rewards, groups = step
    torch.testing.assert_close(
        advantages(rewards + shift, groups, scale=scale).values,
        advantages(rewards, groups, scale=scale).values,
    )


@settings(deadline=None, max_examples=60)
@given(step=steps(), scale=st.sampled_from(SCALES), seed=st.integers(0, 99))
def test_follows_a_permutation(step, scale: Scale, seed: int):
    rewards, groups = step
    order = torch.randperm(len(rewards), generator=torch.Generator().manual_seed(seed))
    moved, plain = (
        advantages(rewards[order], groups[order], scale=scale),
        advantages(rewards, groups, scale=scale),
    )
    torch.testing.assert_close(moved.values, plain.values[order])
    assert torch.equal(moved.kept, plain.kept[order])


@pytest.mark.parametrize("scale", SCALES)
def test_equal_rewards_teach_nothing(scale: Scale):
    result = advantages(torch.full((8,), 0.7), scale=scale)
    assert torch.equal(result.values, torch.zeros(8))
    assert not result.kept.any()
    assert (result.num_groups, result.num_zero_spread_groups) == (2, 2)


def test_rounding_is_no_spread():
    rewards = torch.full((8,), 0.7)
    rewards[0] += 1e-7
    assert advantages(rewards).num_zero_spread_groups == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("scale", ["group", "none"])
def test_a_bad_reward_leaves_other_groups_bitwise_unchanged(bad: float, scale: Scale):
    clean = advantages(scale=scale)
    rewards = REWARDS.clone()
    rewards[1] = bad
    result = advantages(rewards, scale=scale)
    assert torch.equal(result.values[3:], clean.values[3:])
    assert result.values.isfinite().all()
    assert result.num_excluded == 1
    assert result.values[1] == 0
    assert not result.kept[1]


@settings(deadline=None, max_examples=60)
@given(step=steps(), scale=st.sampled_from(SCALES), data=st.data())
def test_excluded_samples_might_as_well_not_exist(step, scale: Scale, data):
    rewards, groups = step
    n = len(rewards)
    valid = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    poisoned = rewards.clone()
    poisoned[~valid] = data.draw(st.sampled_from([math.nan, math.inf, 1e30, 0.0]))
    result = advantages(poisoned, groups, valid, scale=scale)
    without = advantages(rewards[valid], groups[valid], scale=scale)
    assert torch.equal(result.values[valid], without.values)
    assert torch.equal(result.kept[valid], without.kept)
    assert not result.values[~valid].any()
    assert not result.kept[~valid].any()
    assert result.num_excluded == int((~valid).sum())


def test_a_group_of_one_valid_sample_is_small():
    valid = torch.tensor([True, False, False, True, True, True, True, True])
    result = advantages(valid=valid)
    assert (result.num_small_groups, result.num_zero_spread_groups) == (1, 0)
    assert result.kept.tolist() == [False] * 3 + [True] * 5


def test_no_valid_sample_at_all():
    result = advantages(torch.full((8,), math.nan), scale="global")
    assert not result.values.any()
    assert (result.num_excluded, result.num_small_groups) == (8, 2)


def test_clip():
    plain, clipped = advantages(), advantages(clip=0.9)
    assert plain.values.abs().max() > 0.9
    assert torch.equal(clipped.values, plain.values.clamp(-0.9, 0.9))
