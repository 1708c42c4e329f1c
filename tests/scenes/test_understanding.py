import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uae.scenes.graph import Scene, SceneObject, scene_at
from uae.scenes.language import long_caption, short_caption
from uae.scenes.matching import INFORMATION, matched_pairs
from uae.scenes.questions import CATEGORIES, Question
from uae.scenes.reading import ATTRIBUTES, ObjectClaim, full_claim, read_caption
from uae.scenes.understanding import (
    CaptionScore,
    answer_samples,
    caption_samples,
    question_set,
    score_caption,
)

# A small red circle top left, a large blue bar on the right.
SCENE = Scene(
    "gray",
    (
        SceneObject("circle", "red", "small", 1 / 6, 1 / 6),
        SceneObject("bar", "blue", "large", 5 / 6, 0.5),
    ),
)


def score(caption: str) -> CaptionScore:
    return score_caption(SCENE, read_caption(caption))


@given(st.integers(0, 200), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_objects_match_themselves_in_any_order(index: int, random):
    objects = scene_at(index, "train").objects
    order = list(range(len(objects)))
    random.shuffle(order)
    pairs = matched_pairs(objects, [full_claim(objects[i]) for i in order])
    assert sorted((i, order[k]) for i, k in pairs) == [(i, i) for i in range(len(objects))]


def test_half_of_the_information_makes_a_match():
    (circle, _) = SCENE.objects
    assert INFORMATION["cell"] + INFORMATION["shape"] > sum(INFORMATION.values()) / 2
    assert matched_pairs([circle], [ObjectClaim("circle", "blue", "large", "top left")])
    assert INFORMATION["color"] + INFORMATION["size"] < sum(INFORMATION.values()) / 2
    assert not matched_pairs([circle], [ObjectClaim("bar", "red", "small", "right")])
    assert not matched_pairs([circle], [])


def test_a_true_full_caption_scores_all():
    rng = np.random.default_rng(0)
    for i in range(100):
        scene = scene_at(i, "train")
        s = score_caption(scene, read_caption(long_caption(scene, rng)))
        n = len(scene.objects)
        assert (
            s.num_objects == s.num_mentions == s.num_matched == s.num_whole == s.num_faithful == n
        )
        assert s.stated == s.correct == dict.fromkeys(ATTRIBUTES, n)
        assert s.size_objects == s.size_covered
        assert s.background_right
        assert s.count_right
        assert s.num_claims == s.num_claims_right
        assert s.num_relations == s.num_relations_right


def test_what_is_newly_told_does_not_count_in_the_change_of_accuracy():
    """The second caption tells one more object, wrongly: precision falls, accuracy does not."""
    before, after = (
        caption_samples([score(text)])
        for text in (
            "A red circle in the top left.",
            "A red circle in the top left and a large bar in the bottom left.",
        )
    )
    assert before.accuracy["cell"][0] == after.accuracy["cell"][0] == 1
    told = np.isfinite(before.accuracy["cell"] + after.accuracy["cell"])
    assert told.sum() == 1
    assert np.nanmean(after.accuracy["cell"]) == 0.5
    assert after.precision["cell"] == 0.5
    assert list(after.scene_index) == [0] * len(SCENE.objects)


def test_accuracy_has_a_row_for_each_object_and_no_value_where_nothing_is_told():
    samples = caption_samples([score("A blue circle in the top left."), score("")])
    num = len(SCENE.objects)
    assert len(samples.accuracy["color"]) == len(samples.scene_index) == 2 * num
    assert np.isnan(samples.accuracy["color"][num:]).all()
    by_size = [np.nansum(x) for x in samples.faithful_by_size.values()]
    assert sum(by_size) == 0  # its one mention is wrong in colour
    assert sum(np.isfinite(x).sum() for x in samples.faithful_by_size.values()) == 1


def test_a_true_short_caption_is_precise():
    rng = np.random.default_rng(0)
    scenes = [scene_at(i, "train") for i in range(200)]
    scores = [score_caption(s, read_caption(short_caption(s, rng))) for s in scenes]
    assert all(s.num_claims == s.num_claims_right for s in scores)
    samples = caption_samples(scores)
    small, large = (np.nanmean(samples.coverage_by_size[size]) for size in ("small", "large"))
    assert small < 0.35
    assert large > 0.9
    assert np.nanmean(samples.hallucinated) == 0


def test_wrong_attributes_count_against_precision():
    s = score("A small blue circle in the top left and a large bar on the right.")
    assert (s.num_mentions, s.num_matched, s.num_hallucinated) == (2, 2, 0)
    assert s.stated == {"shape": 2, "color": 1, "size": 2, "cell": 2}
    assert s.correct == {"shape": 2, "color": 0, "size": 2, "cell": 2}
    assert s.num_whole == 0
    assert s.num_faithful == 1  # the bar: open in colour, wrong in nothing
    assert (s.num_claims, s.num_claims_right) == (7, 6)


def test_what_is_not_there_is_hallucinated():
    s = score("A red circle in the top left and a green cross at the bottom.")
    assert (s.num_matched, s.num_hallucinated) == (1, 1)
    assert s.stated == {"shape": 2, "color": 2, "size": 0, "cell": 2}
    assert s.correct == {"shape": 1, "color": 1, "size": 0, "cell": 1}
    assert s.size_objects == {"small": 1, "medium": 0, "large": 1}
    assert s.size_covered == {"small": 1, "medium": 0, "large": 0}


def test_said_twice_is_one_too_many():
    s = score("A red circle in the top left and a red circle in the top left.")
    assert (s.num_matched, s.num_hallucinated) == (1, 1)


@pytest.mark.parametrize(
    ("caption", "claims", "right"),
    [
        ("This is a gray picture with two shapes in it.", 2, 2),
        ("This is a teal picture with three shapes in it.", 2, 0),
        ("a photo of a circle left of a bar", 2 + 1, 2 + 1),
        ("a photo of a circle above a bar", 2 + 1, 2 + 0),
        ("", 0, 0),
    ],
)
def test_other_claims(caption: str, claims: int, right: int):
    s = score(caption)
    assert (s.num_claims, s.num_claims_right) == (claims, right)


def test_relations_need_two_objects():
    pair = Scene(
        "gray",
        (
            SceneObject("circle", "red", "small", 0.2, 0.5),
            SceneObject("circle", "red", "small", 0.8, 0.5),
        ),
    )
    text = "There are two red circles. The red circle lies {} the red circle."
    for name, right in (("to the left of", 1), ("to the right of", 1), ("above", 0)):
        s = score_caption(pair, read_caption(text.format(name)))
        assert (s.num_relations, s.num_relations_right) == (1, right)


def test_samples_are_shares_of_each_caption():
    samples = caption_samples([score("A red circle in the top left and a green cross."), score("")])
    np.testing.assert_array_equal(samples.coverage, [0.5, 0])
    np.testing.assert_array_equal(samples.coverage_by_size["medium"], [np.nan, np.nan])
    np.testing.assert_array_equal(samples.coverage_by_size["small"], [1, 0])
    np.testing.assert_array_equal(samples.recall["cell"], [0.5, 0])
    np.testing.assert_array_equal(samples.precision["cell"], [1, np.nan])
    np.testing.assert_array_equal(samples.precision["shape"], [0.5, np.nan])
    np.testing.assert_array_equal(samples.hallucinated, [0.5, np.nan])
    np.testing.assert_array_equal(samples.whole_recall, [0, 0])
    np.testing.assert_array_equal(samples.whole_precision, [0.5, np.nan])
    np.testing.assert_allclose(samples.claim_precision, [3 / 5, np.nan])
    np.testing.assert_array_equal(samples.background, [0, 0])


# -- questions ----------------------------------------------------------------------------------


def test_a_question_set_is_complete_and_fixed():
    scenes = [scene_at(i, "train") for i in range(40)]
    asked = question_set(scenes, 10, seed=1)
    assert asked == question_set(scenes, 10, seed=1)
    assert [a.question.category for a in asked] == [c for c in CATEGORIES for _ in range(10)]
    assert len({(a.scene_index, a.question.category) for a in asked}) == len(asked)
    with pytest.raises(ValueError, match="41 questions of 'small_object_detection' asked for"):
        question_set(scenes, 41, seed=1)


def test_answers_count_unparsed_apart():
    questions = [
        Question("?", ("red", "blue"), "A", "color_recognition", "visual_recognition"),
        Question("?", ("red", "blue"), "A", "color_recognition", "visual_recognition"),
        Question("?", ("bar", "cross"), "B", "shape_recognition", "visual_recognition"),
    ]
    samples = answer_samples(questions, ["A", "who knows", "B."])
    np.testing.assert_array_equal(samples.correct, [1, 0, 1])
    np.testing.assert_array_equal(samples.is_parsed, [True, False, True])
    assert samples.num_unparsed == 1
    np.testing.assert_array_equal(samples.by_category["color_recognition"], [1, 0])
    np.testing.assert_array_equal(samples.by_category["shape_recognition"], [1])
