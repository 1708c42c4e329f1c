"""Recipes: the turns of the RL stage, and what does not fit together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from uae.recipe import Recipe, Turn, check_divides, turns

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


@pytest.mark.parametrize("key", ["num_images", "micro_images"])
def test_an_empty_step_is_refused(key):
    with pytest.raises(ValueError, match=f"encoder_rl.{key} 0 is not positive"):
        check_divides("encoder_rl", **{"num_images": 4, "micro_images": 4, key: 0})


def test_joint_with_unequal_steps_is_refused():
    steps = {"encoder_rl": {"num_steps": 3}, "decoder_rl": {"num_steps": 4}}
    with pytest.raises(ValidationError, match=r"encoder_rl\.num_steps is 3 and .* 4: set them"):
        Recipe(schedule="joint", **steps)
    assert Recipe(schedule="alternate", **steps).decoder_rl.num_steps == 4


def test_a_recipe_without_a_reward_is_refused():
    with pytest.raises(ValidationError, match="gives no reward"):
        Recipe(reward={})
