"""The official rules on hand-made detections; boxes as (left, top, right, bottom)."""

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from uae.benchmarks.geneval.clauses import RELATIONS
from uae.benchmarks.geneval.decisions import (
    DecisionConfig,
    DetectedObject,
    Detections,
    box_overlap,
    confident_objects,
    held_relations,
    judge,
)
from uae.benchmarks.geneval.prompts import CLASS_NAMES, Clause, PromptLine

OFFICIAL = DecisionConfig()
MASK = np.ones((2, 2), dtype=bool)
CAT, DOG = CLASS_NAMES.index("cat"), CLASS_NAMES.index("dog")
OPPOSITE: dict[str, str] = dict(
    zip(RELATIONS, ("right of", "left of", "below", "above"), strict=True)
)


def seen(*found: tuple[int, float], boxes: Sequence[tuple[float, ...]] = ()) -> Detections:
    """Detections as (class, score)."""
    n = len(found)
    rows = np.array(boxes or [(0, 0, 1, 1)] * n, dtype=np.float32).reshape(n, 4)
    return Detections(
        np.array([class_id for class_id, _ in found], dtype=np.int64),
        np.array([score for _, score in found], dtype=np.float32),
        rows,
        np.ones((n, 2, 2), dtype=bool),
    )


def scores_of(detections: Detections, tag: str, config: DecisionConfig = OFFICIAL):
    objects = confident_objects(detections, tag, config)
    return {name: [round(o.score, 4) for o in found] for name, found in objects.items()}


def at(x: float, y: float, width: float = 2.0, height: float = 2.0) -> DetectedObject:
    """An object with its centre at (x, y)."""
    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return DetectedObject(0.9, box, MASK)


def asked(*include: Clause, exclude: tuple[Clause, ...] = ()) -> PromptLine:
    return PromptLine("position", include, exclude, "a photo")


def never(class_name: str, objects: Sequence[DetectedObject]) -> list[str]:
    raise AssertionError("no clause asks for a colour")


# -- which detections count ----------------------------------------------------------------------


def test_thresholds_are_strict_and_higher_for_counting():
    detections = seen((CAT, 0.3), (CAT, 0.31), (CAT, 0.9), (CAT, 0.91), (DOG, 0.2))
    assert scores_of(detections, "single_object") == {"cat": [0.91, 0.9, 0.31]}
    assert scores_of(detections, "counting") == {"cat": [0.91]}
    other = DecisionConfig(threshold=0.1, counting_threshold=0.3)
    assert scores_of(detections, "colors", other)["dog"] == [0.2]
    assert scores_of(detections, "counting", other) == {"cat": [0.91, 0.9, 0.31]}


def test_at_most_sixteen_of_a_class():
    detections = seen(*((CAT, 0.4 + i / 100) for i in range(20)), (DOG, 0.5))
    found = scores_of(detections, "two_object")
    assert found["cat"] == [round(0.59 - i / 100, 4) for i in range(16)]
    assert found["dog"] == [0.5]


def test_of_equal_scores_the_later_is_first():
    detections = seen((CAT, 0.5), (CAT, 0.5), boxes=[(0, 0, 1, 1), (5, 5, 9, 9)])
    objects = confident_objects(detections, "colors", OFFICIAL)
    assert [o.box for o in objects["cat"]] == [(5, 5, 9, 9), (0, 0, 1, 1)]


def test_suppression_is_off_by_default_and_comes_after_the_limit():
    boxes = [(0, 0, 9, 9), (0, 0, 9, 9), (50, 50, 59, 59)]
    detections = seen((CAT, 0.9), (CAT, 0.8), (CAT, 0.7), boxes=boxes)
    assert scores_of(detections, "colors")["cat"] == [0.9, 0.8, 0.7]
    some = DecisionConfig(max_overlap=0.5)
    assert scores_of(detections, "colors", some)["cat"] == [0.9, 0.7]
    # the overlapping box took the second place before it was suppressed
    two = DecisionConfig(max_overlap=0.5, max_objects=2)
    assert scores_of(detections, "colors", two)["cat"] == [0.9]


def test_a_suppressed_box_suppresses_nothing():
    boxes = [(0, 0, 99, 9), (60, 0, 159, 9), (120, 0, 219, 9)]  # each overlaps with the next by 1/4
    detections = seen((CAT, 0.9), (CAT, 0.8), (CAT, 0.7), boxes=boxes)
    assert scores_of(detections, "colors", DecisionConfig(max_overlap=0.25))["cat"] == [0.9, 0.7]
    assert len(scores_of(detections, "colors", DecisionConfig(max_overlap=0.26))["cat"]) == 3


def test_overlap_counts_both_edges():
    # 10 x 10 and 10 x 10, sharing 5 x 10; plain areas would give (4 x 9) / (2 x 81 - 4 x 9)
    box, other = np.array([0.0, 0, 9, 9]), np.array([5.0, 0, 14, 9])
    assert box_overlap(box, other) == pytest.approx(50 / 150)
    assert box_overlap(box, box) == 1
    assert box_overlap(box, np.array([10.0, 0, 14, 9])) == 0


def test_limits_are_checked():
    with pytest.raises(ValidationError, match="max_objects"):
        DecisionConfig(max_objects=0)


detections_strategy = st.lists(
    st.tuples(st.sampled_from([CAT, DOG, 79]), st.integers(0, 1000)), max_size=40, unique=True
).map(lambda rows: [(c, s / 1000) for c, s in rows])


@given(detections_strategy, st.sampled_from(["counting", "colors"]), st.randoms())
def test_what_counts_is_sorted_limited_and_free_of_order(rows, tag, random):
    found = scores_of(seen(*rows), tag)
    threshold = np.float32(0.9 if tag == "counting" else 0.3)
    for name, scores in found.items():
        expected = sorted(
            (round(s, 4) for c, s in rows if CLASS_NAMES[c] == name and np.float32(s) > threshold),
            reverse=True,
        )
        assert scores == expected[:16]
        assert scores
    random.shuffle(rows)
    assert scores_of(seen(*rows), tag) == found


boxes_strategy = st.lists(
    st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(0, 20)] * 2), min_size=1, max_size=12
).map(lambda rows: [(x, y, x + w, y + h) for x, y, w, h in rows])


@given(boxes_strategy, st.floats(0.05, 0.95))
def test_suppression_leaves_no_overlap_and_drops_for_a_reason(boxes, limit):
    rows = [(CAT, 0.9 - i / 100) for i in range(len(boxes))]
    detections = seen(*rows, boxes=boxes)
    config = DecisionConfig(max_overlap=limit)
    kept = [o.box for o in confident_objects(detections, "colors", config)["cat"]]
    assert kept[0] == boxes[0]
    arrays = [np.array(box, dtype=float) for box in kept]
    assert all(box_overlap(a, b) < limit for i, a in enumerate(arrays) for b in arrays[:i])
    for box in set(boxes) - set(kept):
        assert any(box_overlap(np.array(box, dtype=float), k) >= limit for k in arrays)


# -- positions -----------------------------------------------------------------------------------


def test_a_horizontal_offset_must_exceed_a_fifth_of_both_widths():
    # r = |o| - 0.1 (w_a + w_b), and r / |o| > 1/2 where |o| > 0.2 (w_a + w_b) = 2.4
    assert held_relations(at(2.41, 0, 10), at(0, 0, 2)) == ("right of",)
    assert held_relations(at(2.39, 0, 10), at(0, 0, 2)) == ()
    assert held_relations(at(-2.41, 0, 10), at(0, 0, 2)) == ("left of",)
    # y grows downwards; the height counts for y only
    assert held_relations(at(0, -2.41, 50, 10), at(0, 0)) == ("above",)
    assert held_relations(at(0, 2.41, 50, 10), at(0, 0)) == ("below",)


def test_directions_more_than_sixty_degrees_off_do_not_count_and_a_diagonal_is_both():
    for degrees, expected in ((31, ("right of", "below")), (29, ("right of",)), (61, ("below",))):
        x, y = 1e6 * np.cos(np.radians(degrees)), 1e6 * np.sin(np.radians(degrees))
        assert held_relations(at(x, y), at(0, 0)) == expected


def test_the_share_is_of_the_original_offset():
    # r = (3, 1) of o = (5, 3): 3 / |o| = 0.51; of |r| = 3.16 it would be 0.95, and 1 / |r| = 0.32
    assert held_relations(at(5, 3, 10, 10), at(0, 0, 10, 10)) == ("right of",)
    # r = (2.9, 1): 2.9 / |(4.9, 3)| = 0.505; r = (2.8, 1): 2.8 / |(4.8, 3)| = 0.495
    assert held_relations(at(4.9, 3, 10, 10), at(0, 0, 10, 10)) == ("right of",)
    assert held_relations(at(4.8, 3, 10, 10), at(0, 0, 10, 10)) == ()


def test_no_offset_is_no_relation():
    assert held_relations(at(3, 4), at(3, 4)) == ()
    assert held_relations(at(0.0009, 0, 0, 0), at(0, 0, 0, 0)) == ()
    assert held_relations(at(0.0011, 0, 0, 0), at(0, 0, 0, 0)) == ("right of",)


places = st.tuples(st.integers(-400, 400), st.integers(-400, 400), *[st.integers(1, 200)] * 2)


@given(places, places, st.integers(-500, 500), st.integers(-500, 500))
def test_relations_turn_round_and_do_not_depend_on_place(a, b, dx, dy):
    first, second = at(*a), at(*b)
    held = held_relations(first, second)
    assert set(held_relations(second, first)) == {OPPOSITE[name] for name in held}
    assert len(held) <= 2
    moved = [at(x + dx, y + dy, w, h) for x, y, w, h in (a, b)]
    assert held_relations(moved[0], moved[1]) == held


# -- clauses -------------------------------------------------------------------------------------


def test_fewer_than_asked_for():
    prompt = asked(Clause("cat", 3), Clause("dog", 1))
    verdict = judge(prompt, {"cat": [at(0, 0)] * 2}, never, held_relations)
    assert not verdict.correct
    assert verdict.reason == "expected cat>=3, found 2\nexpected dog>=1, found 0"


def test_more_than_asked_for_is_tolerated_unless_excluded():
    objects = {"cat": [at(0, 0)] * 4}
    assert judge(asked(Clause("cat", 3)), objects, never, held_relations).correct
    counting = asked(Clause("cat", 3), exclude=(Clause("cat", 4),))
    verdict = judge(counting, objects, never, held_relations)
    assert (verdict.correct, verdict.reason) == (False, "expected cat<4, found 4")
    assert judge(counting, {"cat": objects["cat"][:3]}, never, held_relations).correct


def test_only_the_most_confident_objects_are_looked_at():
    objects = {"cat": [at(0, 0), at(1, 1), at(2, 2)]}
    asked_for = []

    def colors_of(class_name, found):
        asked_for.append((class_name, list(found)))
        return ["red", "blue"][: len(found)]

    verdict = judge(asked(Clause("cat", 1, "blue")), objects, colors_of, held_relations)
    assert verdict.reason == "expected blue cat>=1, found 0 blue; and 1 red"
    assert asked_for == [("cat", objects["cat"][:1])]
    assert judge(asked(Clause("cat", 1, "red")), objects, colors_of, held_relations).correct


def test_colours_are_counted_in_the_official_order():
    objects = {"cat": [at(0, 0)] * 4}
    prompt = asked(Clause("cat", 4, "red"))
    verdict = judge(prompt, objects, lambda *_: ["white", "red", "blue", "red"], held_relations)
    assert verdict.reason == "expected red cat>=4, found 2 red; and 2 red, 1 blue, 1 white"
    assert judge(prompt, objects, lambda *_: ["red"] * 4, held_relations).correct


def test_too_few_objects_are_not_asked_for_their_colour():
    verdict = judge(asked(Clause("cat", 2, "red")), {"cat": [at(0, 0)]}, never, held_relations)
    assert verdict.reason == "expected cat>=2, found 1"


LEFT_OF_CAT = asked(Clause("cat", 1), Clause("dog", 1, position=("left of", 0)))


@pytest.mark.parametrize(
    ("dog", "reason"),
    [
        (at(-50, 0), ""),
        (at(50, 0), "expected dog left of target, found right of target"),
        (at(50, 40), "expected dog left of target, found right of and below target"),
        (at(0, 0), "expected dog left of target, found  target"),
    ],
)
def test_a_position(dog, reason):
    verdict = judge(LEFT_OF_CAT, {"cat": [at(0, 0)], "dog": [dog]}, never, held_relations)
    assert (verdict.correct, verdict.reason) == (not reason, reason)


def test_every_object_must_stand_so_to_every_target_and_the_first_failure_is_named():
    prompt = asked(Clause("cat", 2), Clause("dog", 2, position=("left of", 0)))
    cats, dogs = [at(0, 0), at(0, 100)], [at(-500, 0), at(-500, 100)]
    assert judge(prompt, {"cat": cats, "dog": dogs}, never, held_relations).correct
    verdict = judge(prompt, {"cat": [cats[0], at(-900, 50)], "dog": dogs}, never, held_relations)
    assert verdict.reason == "expected dog left of target, found right of target"
    verdict = judge(prompt, {"cat": cats, "dog": [dogs[0], at(0, 900)]}, never, held_relations)
    assert verdict.reason == "expected dog left of target, found below target"


def test_an_unmatched_target():
    verdict = judge(LEFT_OF_CAT, {"dog": [at(-50, 0)]}, never, held_relations)
    assert verdict.reason == "expected cat>=1, found 0\nno target for dog to be left of"
    # the target is there, but of another colour
    prompt = asked(Clause("cat", 1, "red"), Clause("dog", 1, position=("left of", 0)))
    objects = {"cat": [at(0, 0)], "dog": [at(-50, 0)]}
    verdict = judge(prompt, objects, lambda *_: ["blue"], held_relations)
    assert verdict.reason.endswith("and 1 blue\nno target for dog to be left of")


def test_a_position_is_not_looked_at_where_the_colour_is_wrong():
    prompt = asked(Clause("cat", 1), Clause("dog", 1, "red", ("left of", 0)))
    verdict = judge(
        prompt, {"cat": [at(0, 0)], "dog": [at(50, 0)]}, lambda *_: ["blue"], held_relations
    )
    assert verdict.reason == "expected red dog>=1, found 0 red; and 1 blue"


@given(st.integers(1, 5), st.integers(0, 7))
def test_counting_is_exact(count, num_found):
    prompt = asked(Clause("cat", count), exclude=(Clause("cat", count + 1),))
    objects = {"cat": [at(0, 0)] * num_found} if num_found else {}
    assert judge(prompt, objects, never, held_relations).correct == (num_found == count)


def test_the_rules_need_no_torch():
    code = "import sys, uae.benchmarks.geneval.decisions; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
