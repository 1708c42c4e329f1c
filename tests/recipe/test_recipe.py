"""Recipes: the turns of the RL stage, and what does not fit together."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from uae.core.errors import UsageError
from uae.flow.schedule import sigmas
from uae.flow.sde import TRANSITIONS, check_window
from uae.recipe.decoder_rl import FlowGrpoConfig
from uae.recipe.loading import Setting, build
from uae.recipe.plan import Turn, turns
from uae.recipe.recipe import Recipe, check_divides

STEPS = st.integers(0, 12)


@pytest.mark.parametrize(
    ("schedule", "every", "expected"),
    [
        ("encoder", 0, [("encoder", 5)]),
        ("decoder", 0, [("decoder", 3)]),
        ("joint", 0, [("joint", 5)]),
        ("alternate", 0, [("encoder", 5), ("decoder", 3)]),
        (
            "alternate",
            2,
            [("encoder", 2), ("decoder", 2), ("encoder", 2), ("decoder", 1), ("encoder", 1)],
        ),
    ],
)
def test_turns_of_each_schedule(schedule, every, expected):
    assert turns(schedule, 5, 3, every) == [Turn(side, steps) for side, steps in expected]


@given(encoder=STEPS, decoder=STEPS, every=STEPS)
def test_alternating_turns_spend_exactly_the_steps_of_each_side(encoder, decoder, every):
    plan = turns("alternate", encoder, decoder, every)
    for side, steps in (("encoder", encoder), ("decoder", decoder)):
        sizes = [turn.num_steps for turn in plan if turn.side == side]
        assert sum(sizes) == steps
        assert all(0 < size <= (every or steps) for size in sizes)


@pytest.mark.parametrize("schedule", ["encoder", "decoder", "alternate", "joint"])
def test_no_steps_make_no_turns(schedule):
    assert turns(schedule, 0, 0) == []


@pytest.mark.parametrize("section", ["encoder_rl", "decoder_rl"])
def test_a_step_that_does_not_divide_is_refused_with_its_arithmetic(section):
    with pytest.raises(ValidationError) as caught:
        Recipe(**{section: {"num_images": 10, "micro_images": 4}})
    message = str(caught.value)
    assert f"{section}.num_images 10 is not a multiple of {section}.micro_images 4" in message
    assert "10 = 2 x 4 + 2" in message
    assert "set micro_images to 5 or num_images to 8" in message


@given(num_images=st.integers(1, 40), micro_images=st.integers(1, 40))
def test_the_proposed_settings_fit(num_images, micro_images):
    if num_images % micro_images == 0:
        check_divides("encoder_rl", num_images, micro_images)
        return
    with pytest.raises(ValueError, match="not a multiple") as caught:
        check_divides("encoder_rl", num_images, micro_images)
    words = str(caught.value).split()
    near, whole = int(words[-5]), int(words[-1])
    check_divides("encoder_rl", num_images, near)
    check_divides("encoder_rl", whole, micro_images)


@pytest.mark.parametrize(
    ("section", "key", "least"),
    [
        ("pretrain", "num_steps", 0),
        ("pretrain", "batch_size", 1),
        ("cold_start", "micro_batch", 1),
        ("encoder_rl", "num_images", 1),
        ("encoder_rl", "num_redraws", 1),
        ("encoder_rl", "num_updates", 1),
        ("decoder_rl", "micro_images", 1),
        ("decoder_rl", "num_sampling_steps", 1),
        ("evaluation", "num_scenes", 1),
        ("evaluation", "num_shown", 1),
        ("evaluation", "seed", 0),
        ("data", "num_scenes", 1),
        ("tune_encoder", "rank", 1),
    ],
)
def test_a_count_below_what_makes_sense_is_refused(section, key, least):
    with pytest.raises(ValidationError, match=rf"{section}\.{key}\n.* greater than"):
        Recipe(**{section: {key: least - 1}})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.prompt_share", 7.0),
        ("pretrain.condition_dropout", 2.0),
        ("pretrain.sigma_std", -1.0),
        ("encoder_rl.clip_low", 1.5),
        ("encoder_rl.clip_high", 0.0),
        ("encoder_rl.kl_beta", -0.1),
        ("encoder_rl.captioning.temperature", 0.0),
        ("encoder_rl.sampling.guidance_scale", -1.0),
        ("encoder_rl.optimizer.lr", -1.0),
        ("decoder_rl.clip", 0.0),
        ("decoder_rl.max_advantage", 0.0),
        ("decoder_rl.micro_redraws", -1),
        ("decoder_rl.objective.window", 0),
        ("decoder_rl.objective.window_starts", 0),
        ("decoder_rl.objective.noise_level", 0.0),
        ("decoder_rl.optimizer.max_grad_norm", -1.0),
        ("decoder_rl.optimizer.weight_decay", -1.0),
        ("reward.clip", -1.0),
    ],
)
def test_a_number_that_makes_no_sense_is_refused_by_name(key, value):
    with pytest.raises(UsageError, match=rf"{re.escape(key)} .*{value:g}"):
        build(Recipe, [Setting(key, value, "test")])


def test_a_reward_of_nothing_is_refused():
    for reward in ({}, {"clip": 0.0}):
        with pytest.raises(ValidationError, match="gives no reward; expected a backbone"):
            Recipe(reward=reward)


@pytest.mark.parametrize(
    ("side", "group"),
    [("encoder_rl", {"captioning": {"num_captions": 1}}), ("decoder_rl", {"num_redraws": 1})],
)
def test_a_group_of_one_is_refused_where_it_would_be_trained(side, group):
    key = "captioning.num_captions" if side == "encoder_rl" else "num_redraws"
    with pytest.raises(ValidationError, match=rf"{side}\.{key} 1: .* at least 2"):
        Recipe(**{side: {"num_steps": 1, **group}})
    other = "decoder" if side == "encoder_rl" else "encoder"
    Recipe(**{"schedule": other, side: {"num_steps": 1, **group}})


@pytest.mark.parametrize(
    ("objective", "num_sampling_steps", "said"),
    [
        (
            {"window": 3, "window_starts": 7},
            8,
            r"0 to 6 .* needs 9 noisy steps; .* 8 has 8: .* to 9 or",
        ),
        ({"window": 2}, 3, "window . window_starts to 4 or less"),
        ({"rule": "cps", "window": 6}, 8, "needs 8 noisy steps; .* 8 has 7: .* to 9 or more"),
        ({"rule": "cps", "noise_level": 1.5}, 8, "noise_level 1.5: .* at most 1"),
    ],
)
def test_a_window_that_the_sampler_does_not_have_is_refused(objective, num_sampling_steps, said):
    given = {"objective": objective, "num_sampling_steps": num_sampling_steps}
    with pytest.raises(ValidationError, match=said):
        Recipe(decoder_rl={"num_steps": 1} | given)
    Recipe(decoder_rl={"num_steps": 1} | given | {"objective": {"name": "awm"}})
    Recipe(decoder_rl=given)  # without steps of that side
    Recipe(schedule="encoder", encoder_rl={"num_steps": 1}, decoder_rl={"num_steps": 1} | given)
    joint = {"schedule": "joint", "encoder_rl": {"num_steps": 1}}
    with pytest.raises(ValidationError, match=said):
        Recipe(**joint, decoder_rl={"num_steps": 1} | given)


@given(
    steps=st.integers(1, 9),
    window=st.integers(1, 9),
    starts=st.integers(1, 9),
    rule=st.sampled_from(list(TRANSITIONS)),
)
def test_every_window_of_an_accepted_recipe_can_be_sampled(steps, window, starts, rule):
    config = FlowGrpoConfig(window=window, window_starts=starts, rule=rule)
    windows = [range(start, start + window) for start in range(starts)]
    schedule = sigmas(steps, 1.0)
    try:
        config.check(steps)
    except ValueError:
        with pytest.raises(ValueError, match="window"):
            check_window(windows[-1], schedule, config.noise_level, TRANSITIONS[rule])
        return
    for each in windows:
        check_window(each, schedule, config.noise_level, TRANSITIONS[rule])


def test_joint_with_unequal_steps_is_refused():
    steps = {"encoder_rl": {"num_steps": 3}, "decoder_rl": {"num_steps": 4}}
    with pytest.raises(ValidationError, match=r"encoder_rl\.num_steps is 3 and .* 4: set them"):
        Recipe(schedule="joint", **steps)
    assert Recipe(schedule="alternate", **steps).decoder_rl.num_steps == 4


def test_a_recipe_without_a_reward_is_refused():
    with pytest.raises(ValidationError, match="gives no reward"):
        Recipe(reward={})


@pytest.mark.parametrize(
    ("placement", "rounding"),
    [
        ({}, 0.0),
        ({"compile": True}, 2**-23),
        ({"frozen": "bfloat16"}, 2**-7),
        ({"frozen": "float8"}, 2**-7),
    ],
)
def test_arithmetic_in_float32_repeats_itself_to_the_bit(placement, rounding):
    assert Recipe(placement=placement).placement.rounding == rounding


def test_narrow_weights_and_compiled_blocks_do_not_go_together():
    with pytest.raises(ValidationError, match=r"compile: true and placement\.frozen: nf4"):
        Recipe(placement={"compile": True, "frozen": "nf4"})
