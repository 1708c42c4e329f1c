from collections import Counter

import numpy as np
import pytest

from uae.data.questions import LETTERS, Question
from uae.scenes.graph import Scene, SceneObject, relation, scene_at
from uae.scenes.language import CELL_PHRASES, NUMBER_WORDS
from uae.scenes.questions import (
    CATEGORIES,
    allows,
    questions_for,
)

SCENES = [scene_at(i, "train", seed=4) for i in range(200)]
PLACES = {phrase: cell for cell, phrases in CELL_PHRASES.items() for phrase in phrases}


def right_options(scene: Scene, q: Question) -> list[str]:
    """Answer a question from the graph, by its words; every option that is true."""
    words = q.question.rstrip("?")
    place = next((PLACES[p] for p in sorted(PLACES, key=len)[::-1] if words.endswith(p)), None)
    there = [o for o in scene.objects if o.cell == place]
    named = {f"{o.color} {o.shape}": o for o in scene.objects}
    if q.category == "color_recognition":
        true = {o.color for o in there if o.shape in words}
    elif q.category == "shape_recognition":
        true = {o.shape for o in there if o.color in words}
    elif q.category == "counting_by_category":
        counts = Counter(o.shape for o in scene.objects)
        shape = next(s for s in ("circle", "square", "triangle", "cross", "bar") if s in words)
        true = {NUMBER_WORDS[counts[shape]]}
    elif q.category == "object_relation":
        subject, reference = words.removeprefix("Where is the ").split(" relative to the ")
        true = {relation(named[subject], named[reference])}
    elif words.startswith("Which"):
        true = {f"{o.color} {o.shape}" for o in there if o.size == "small"}
    else:
        name = words.removeprefix("Where is the small ")
        true = {o.cell for o in scene.objects if f"{o.color} {o.shape}" == name}
    return [o for o in q.options if o in true]


@pytest.mark.parametrize("category", CATEGORIES)
def test_exactly_one_option_is_right(category: str):
    rng = np.random.default_rng(0)
    num_asked = 0
    for scene in SCENES:
        if not allows(scene, category):
            continue
        for q in questions_for(scene, rng, 3, category):
            assert q.category == category
            assert len(q.options) == len(set(q.options)) == 4
            assert right_options(scene, q) == [q.options[LETTERS.index(q.answer)]], q
            num_asked += 1
    assert num_asked > 100


def test_answers_are_spread_over_the_letters():
    rng = np.random.default_rng(0)
    answers = Counter(questions_for(s, rng, 1)[0].answer for s in SCENES * 5)
    assert all(abs(answers[letter] / 1000 - 0.25) < 0.05 for letter in "ABCD")


def test_questions_follow_from_the_generator():
    def ask() -> list[Question]:
        return questions_for(SCENES[0], np.random.default_rng(7), 5)

    assert ask() == ask()


def test_wrong_categories_are_named():
    rng = np.random.default_rng(0)
    large = Scene("gray", (SceneObject("bar", "red", "large", 0.5, 0.5),))
    with pytest.raises(ValueError, match="allows no question of category 'small_object_detection'"):
        questions_for(large, rng, 1, "small_object_detection")
    with pytest.raises(ValueError, match=r"'colour' is not known: expected one of .*color_recog"):
        questions_for(large, rng, 1, "colour")
