import re

import numpy as np
import pytest

from uae.scenes.drawability import (
    THRESHOLDS,
    consequence_in_words,
    drawability_gate,
    drawability_samples,
    shares_in_words,
)
from uae.scenes.graph import Scene, SceneObject, scene_at
from uae.scenes.parser import ParsedScene, parse
from uae.scenes.render import render

SCENES = [scene_at(i, "test") for i in range(40)]


def repainted(scene: Scene, **changes: str) -> Scene:
    objects = tuple(
        SceneObject(
            changes.get("shape", o.shape),
            changes.get("color", o.color),
            changes.get("size", o.size),
            o.x,
            o.y,
        )
        for o in scene.objects
    )
    return Scene(scene.background, objects)


def samples_of(scenes: list[Scene]):
    return drawability_samples(SCENES, [parse(render(s)) for s in scenes])


def test_the_truth_passes():
    samples = samples_of(SCENES)
    gate = drawability_gate(samples)
    assert gate.passed
    assert gate.failing == ()
    assert {name: share.value for name, share in gate.shares.items()} == dict.fromkeys(
        THRESHOLDS, 1.0
    )
    num_objects = sum(len(s.objects) for s in SCENES)
    assert gate.shares["shape"].n == len(samples.scene_index) == num_objects
    assert gate.shares["count"].n == len(SCENES)
    assert samples.background.mean() == 1


@pytest.mark.parametrize(
    ("attribute", "value"), [("shape", "circle"), ("color", "red"), ("size", "medium")]
)
def test_what_is_not_drawn_fails_by_name(attribute: str, value: str):
    gate = drawability_gate(samples_of([repainted(s, **{attribute: value}) for s in SCENES]))
    assert gate.failing == (attribute,)
    assert not gate.passed
    truth = [getattr(o, attribute) == value for s in SCENES for o in s.objects]
    assert gate.shares[attribute].value == pytest.approx(np.mean(truth))


def test_lost_objects_fail_everything():
    gate = drawability_gate(samples_of([Scene(s.background, s.objects[1:]) for s in SCENES]))
    assert gate.failing == tuple(THRESHOLDS)


def test_wrong_places_fail_by_name():
    moved = [
        Scene(
            s.background,
            tuple(SceneObject(o.shape, o.color, o.size, 1 - o.x, 1 - o.y) for o in s.objects),
        )
        for s in SCENES
    ]
    assert "position" in drawability_gate(samples_of(moved)).failing


def test_the_shape_has_its_own_threshold():
    scenes = [Scene("gray", (SceneObject("bar", "red", "small", 0.5, 0.5),))] * 100
    wrong = [Scene("gray", (SceneObject("cross", "red", "small", 0.5, 0.5),))] * 14
    images = [ParsedScene("gray", s.objects, (0.0,), ()) for s in [*wrong, *scenes[14:]]]
    gate = drawability_gate(drawability_samples(scenes, images))
    assert gate.shares["shape"].value == pytest.approx(0.86)
    assert gate.passed


def test_a_failure_is_said_with_share_threshold_and_consequence():
    gate = drawability_gate(samples_of([repainted(s, shape="circle") for s in SCENES]))
    said = shares_in_words(gate, gate.failing)
    assert re.fullmatch(r"shape \d+\.\d % \(at least 85\.0 %\)", said)
    assert shares_in_words(gate).startswith("color 100.0 % (at least 90.0 %), position ")
    assert consequence_in_words(gate).startswith("encoder RL will forget the words for shape: ")


def test_nothing_measured_does_not_pass():
    assert drawability_gate(drawability_samples([], [])).failing == tuple(THRESHOLDS)
