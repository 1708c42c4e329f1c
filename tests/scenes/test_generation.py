import numpy as np
import pytest

from uae.benchmarks.geneval.clauses import TAGS, Clause
from uae.scenes.generation import generation_samples, judge
from uae.scenes.graph import SHAPES, Scene, SceneObject
from uae.scenes.parser import ParsedScene, parse
from uae.scenes.prompts import GenerationPrompt, generation_prompts
from uae.scenes.reading import full_claim, read_caption
from uae.scenes.render import render

PROMPTS = generation_prompts(8, seed=0)
EMPTY = Scene("gray", ())


def drawn(*objects: tuple[str, str, float, float], errors: tuple[float, ...] = ()) -> ParsedScene:
    """Objects as (colour, shape, x, y)."""
    found = tuple(SceneObject(shape, color, "small", x, y) for color, shape, x, y in objects)
    return ParsedScene("gray", found, errors or (0.0,) * len(found), ())


def asked(tag: str, *include: Clause, exclude: tuple[Clause, ...] = ()) -> GenerationPrompt:
    return GenerationPrompt(tag, EMPTY, "", "", include, exclude)


# -- prompts ------------------------------------------------------------------------------------


def test_prompts_are_complete_held_out_and_fixed():
    assert [p.tag for p in PROMPTS] == [tag for tag in TAGS for _ in range(8)]
    assert generation_prompts(1, seed=0) == PROMPTS[::8]
    assert generation_prompts(1, seed=1) != generation_prompts(1, seed=0)
    assert all(p.scene.split == "test" for p in PROMPTS)


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda p: p.raw)
def test_both_wordings_ask_for_the_clauses(prompt: GenerationPrompt):
    raw, long = read_caption(prompt.raw), read_caption(prompt.long)
    assert sorted(map(str, long.objects)) == sorted(
        str(full_claim(o)) for o in prompt.scene.objects
    )
    asked_for = [c for c in prompt.include for _ in range(c.count)]
    assert {(o.shape, o.color) for o in raw.objects} == {(c.class_name, c.color) for c in asked_for}
    assert len(raw.objects) == len(asked_for)
    positions = [c for c in prompt.include if c.position is not None]
    assert len(raw.relations) == len(positions) == (prompt.tag == "position")
    for claim, clause in zip(raw.relations, positions, strict=True):
        assert claim.name == clause.position[0]
        assert claim.subject.shape == clause.class_name
        assert claim.reference.shape == prompt.include[clause.position[1]].class_name
    assert bool(prompt.exclude) == (prompt.tag == "counting")


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda p: p.raw)
def test_the_scene_itself_is_right(prompt: GenerationPrompt):
    verdict = judge(prompt, parse(render(prompt.scene)))
    assert verdict.correct, verdict.reason


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda p: p.raw)
def test_an_empty_image_is_wrong(prompt: GenerationPrompt):
    verdict = judge(prompt, drawn())
    assert not verdict.correct
    assert verdict.reason.startswith("expected ")


# -- decisions: hand-made detections ---------------------------------------------------------------

RED_BAR, BLUE_BAR = ("red", "bar", 0.2, 0.5), ("blue", "bar", 0.8, 0.5)
RED_CROSS = ("red", "cross", 0.8, 0.5)


@pytest.mark.parametrize(
    ("prompt", "image", "reason"),
    [
        (asked("single_object", Clause("bar", 1)), drawn(RED_BAR, BLUE_BAR, RED_CROSS), ""),
        (asked("two_object", Clause("bar", 1), Clause("cross", 1)), drawn(RED_BAR, RED_CROSS), ""),
        (
            asked("two_object", Clause("bar", 1), Clause("cross", 1)),
            drawn(RED_BAR),
            "expected cross>=1, found 0",
        ),
        (
            asked("counting", Clause("bar", 2), exclude=(Clause("bar", 3),)),
            drawn(RED_BAR, BLUE_BAR, RED_CROSS),
            "",
        ),
        (
            asked("counting", Clause("bar", 2), exclude=(Clause("bar", 3),)),
            drawn(RED_BAR, BLUE_BAR, RED_BAR),
            "expected bar<3, found 3",
        ),
        # Only the most confident bar is looked at.
        (
            asked("colors", Clause("bar", 1, "blue")),
            drawn(RED_BAR, BLUE_BAR, errors=(0.1, 0.2)),
            "expected blue bar>=1, found 0 blue; and 1 red",
        ),
        (
            asked("colors", Clause("bar", 1, "blue")),
            drawn(RED_BAR, BLUE_BAR, errors=(0.2, 0.1)),
            "",
        ),
        (
            asked("color_attr", Clause("bar", 1, "red"), Clause("cross", 1, "blue")),
            drawn(RED_BAR, RED_CROSS),
            "expected blue cross>=1, found 0 blue; and 1 red",
        ),
        (
            asked("position", Clause("cross", 1), Clause("bar", 1, position=("left of", 0))),
            drawn(RED_BAR, RED_CROSS),
            "",
        ),
        (
            asked("position", Clause("cross", 1), Clause("bar", 1, position=("above", 0))),
            drawn(RED_BAR, RED_CROSS),
            "expected bar above target, found left of target",
        ),
        (
            asked("position", Clause("cross", 1), Clause("bar", 1, position=("left of", 0))),
            drawn(RED_BAR),
            "expected cross>=1, found 0\nno target for bar to be left of",
        ),
    ],
)
def test_decisions(prompt: GenerationPrompt, image: ParsedScene, reason: str):
    verdict = judge(prompt, image)
    assert verdict.reason == reason
    assert verdict.correct == (not reason)


# -- samples -----------------------------------------------------------------------------------


def test_samples_by_category():
    images = [parse(render(p.scene)) if p.tag != "colors" else drawn() for p in PROMPTS]
    samples = generation_samples(PROMPTS, images)
    assert {tag: rows.mean() for tag, rows in samples.by_tag.items()} == {
        tag: float(tag != "colors") for tag in TAGS
    }
    by_tag = np.mean([rows.mean() for rows in samples.by_tag.values()])
    assert samples.correct.mean() == pytest.approx(by_tag)


def test_incomplete_sets_are_refused():
    with pytest.raises(ValueError, match="47 images for 48 prompts"):
        generation_samples(PROMPTS, [drawn()] * 47)
    with pytest.raises(ValueError, match="expected equally many of"):
        generation_samples(PROMPTS[:-1], [drawn()] * 47)


def test_shapes_and_wording_vary():
    assert {c.class_name for p in PROMPTS for c in p.include} == set(SHAPES)
    relations = {c.position[0] for p in PROMPTS for c in p.include if c.position is not None}
    assert len(relations) > 2
