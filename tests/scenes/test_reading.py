from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uae.scenes.graph import relation, scene_at
from uae.scenes.language import (
    CELL_PHRASES,
    RELATION_PHRASES,
    SHAPE_WORDS,
    SIZE_WORDS,
    long_caption,
    prompt,
    short_caption,
    terse_caption,
)
from uae.scenes.reading import ObjectClaim, RelationClaim, full_claim, read_caption

SCENES = [scene_at(i, "train", seed=2) for i in range(250)]


def test_long_captions_give_back_the_graph():
    rng = np.random.default_rng(0)
    for scene in SCENES:
        for _ in range(2):
            caption = long_caption(scene, rng)
            claims = read_caption(caption)
            truth = Counter(full_claim(o) for o in scene.objects)
            assert Counter(claims.objects) == truth, caption
            assert claims.background == scene.background
            assert claims.count == len(scene.objects)
            for said in claims.relations:
                assert any(
                    relation(a, b) == said.name
                    for a in scene.objects
                    for b in scene.objects
                    if a is not b and said.subject.fits(full_claim(a))
                    if said.reference.fits(full_claim(b))
                ), caption
            assert claims.unknown_words == claims.unread_words == ()


def said_in(noun: str, place: str) -> ObjectClaim:
    words = noun.split()
    return ObjectClaim(
        shape=next(s for s, names in SHAPE_WORDS.items() if words[-1] in names),
        size=next((s for s, names in SIZE_WORDS.items() if words[0] in names), None),
        color=next((w for w in words[:-1] if not any(w in n for n in SIZE_WORDS.values())), None),
        cell=next((c for c, phrases in CELL_PHRASES.items() if place in phrases), None),
    )


nouns = st.builds(
    lambda size, color, shape: " ".join(filter(None, (size, color, shape))),
    st.sampled_from([None, "small", "tiny", "little", "medium", "midsize", "large", "big"]),
    st.sampled_from([None, "red", "orange", "purple", "black", "white"]),
    st.sampled_from([word for words in SHAPE_WORDS.values() for word in words]),
)
places = st.sampled_from(["", *(phrase for phrases in CELL_PHRASES.values() for phrase in phrases)])


def article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


@settings(max_examples=300, deadline=None)
@given(
    mentions=st.lists(st.tuples(nouns, places), min_size=1, max_size=5),
    background=st.sampled_from([None, "teal", "gray"]),
)
def test_short_captions_say_what_was_said(mentions: list[tuple[str, str]], background: str | None):
    phrases = [f"{article(noun)} {place}".strip() for noun, place in mentions]
    text = phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"
    tail = "" if background is None else f" on a {background} background"
    claims = read_caption(f"{text[0].upper()}{text[1:]}{tail}.")
    assert list(claims.objects) == [said_in(noun, place) for noun, place in mentions]
    assert claims.background == background
    assert claims.count is None
    assert claims.unknown_words == claims.unread_words == claims.relations == ()


def test_short_captions_and_prompts_hold_nothing_unknown_or_false():
    rng = np.random.default_rng(0)
    for scene in SCENES:
        truth = [full_claim(o) for o in scene.objects]
        for make in (short_caption, terse_caption, prompt):
            caption = make(scene, rng)
            claims = read_caption(caption)
            assert claims.unknown_words == claims.unread_words == (), caption
            assert claims.background in (None, scene.background)
            for said in claims.objects:
                assert any(said.fits(o) for o in truth), caption


def test_terse_captions_name_every_object_and_its_color():
    rng = np.random.default_rng(0)
    for scene in SCENES:
        claims = read_caption(terse_caption(scene, rng))
        told = Counter((c.shape, c.color) for c in claims.objects)
        assert told == Counter((o.shape, o.color) for o in scene.objects)


def test_prompts_name_every_object():
    rng = np.random.default_rng(0)
    for scene in SCENES:
        claims = read_caption(prompt(scene, rng))
        assert Counter(c.shape for c in claims.objects) == Counter(o.shape for o in scene.objects)


@pytest.mark.parametrize("phrase", sorted({*RELATION_PHRASES, *RELATION_PHRASES.values()}))
def test_relations(phrase: str):
    name = next(n for n, text in RELATION_PHRASES.items() if phrase in (n, text))
    red, blue = ObjectClaim("circle", "red"), ObjectClaim("bar", "blue")
    new = read_caption(f"a photo of a red disc {phrase} a blue strip")
    assert new.objects == (red, blue)
    assert new.relations == (RelationClaim(red, name, blue),)
    known = read_caption(
        f"There is a red circle at the top. There is a blue bar on the left. "
        f"The red disc lies {phrase} the blue strip."
    )
    assert [o.cell for o in known.objects] == ["top", "left"]
    assert known.relations == (RelationClaim(red, name, blue),)


@pytest.mark.parametrize(
    ("caption", "objects", "unknown", "unread"),
    [
        ("", [], [], []),
        (
            "A small red circle, a blue circle and a purple elephant.",
            [("circle", "red", "small", None), ("circle", "blue", None, None)],
            ["elephant"],
            ["purple"],
        ),
        # Named twice: the second is a claim of another one.
        ("A bar at the top. A bar at the top.", [("bar", None, None, "top")] * 2, [], []),
        # "the" without anything that it could mean is a claim too.
        ("The red bar is at the top.", [("bar", "red", None, "top")], [], []),
        (
            "There is a bar. The red bar is at the top.",
            [("bar", "red", None, "top")],
            [],
            [],
        ),
        (
            "A red bar. The blue bar is at the top.",
            [("bar", "red", None, None), ("bar", "blue", None, "top")],
            [],
            [],
        ),
        ("A bar at the top at the bottom", [("bar", None, None, "top")], [], ["bottom"]),
        ("A red blue bar", [("bar", "red", None, None)], [], ["blue"]),
        ("two tiny bars at the top", [("bar", None, "small", "top")] * 2, [], []),
        ("A gray circle", [("circle", "gray", None, None)], [], []),
        ("At the top. A bar above.", [("bar", None, None, None)], [], ["top", "above"]),
        ("small", [], [], ["small"]),
    ],
)
def test_captions_that_models_make(
    caption: str, objects: list, unknown: list[str], unread: list[str]
):
    claims = read_caption(caption)
    assert [(o.shape, o.color, o.size, o.cell) for o in claims.objects] == objects
    assert list(claims.unknown_words) == unknown
    assert list(claims.unread_words) == unread


def test_backgrounds_and_counts():
    claims = read_caption("This is a red picture with three shapes in it. On a teal background.")
    assert claims.background == "red"
    assert claims.count == 3
    assert claims.unread_words == ("teal",)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_read(text: str):
    claims = read_caption(text)
    assert len(claims.objects) + len(claims.unread_words) <= len(text)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "a",
                "the",
                "red",
                "small",
                "circle",
                "bars",
                "two",
                ",",
                ".",
                "and",
                "at",
                "top",
                "above",
            ]
        )
    )
)
def test_any_word_order_is_read(words: list[str]):
    claims = read_caption(" ".join(words))
    num_shapes = sum(word in ("circle", "bars") for word in words)
    assert len(claims.objects) <= 2 * num_shapes
