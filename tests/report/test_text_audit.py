import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uae.report.text_audit import (
    audit_captions,
    content_word_share,
    non_latin_share,
    over_limit_share,
    repetition_share,
    training_words,
    unknown_share,
    words,
)
from uae.scenes.graph import scene_at
from uae.scenes.language import long_caption, short_caption


def test_words() -> None:
    assert words("A mid-size Bar, 3 px wide; it's _red_.") == [
        "a", "mid-size", "bar", "px", "wide", "it's", "red"
    ]  # fmt: skip
    assert words("42 -- !") == []


def test_repetition_closed_form() -> None:
    # "a b c a b c" has 4 trigrams, 3 of them distinct.
    assert repetition_share("red bar here red bar here") == pytest.approx(0.25)
    assert repetition_share("red red red red red") == pytest.approx(2 / 3)
    assert repetition_share("one two three four") == 0
    assert math.isnan(repetition_share("two words"))


@given(st.lists(st.sampled_from(["red", "bar", "cross", "top"]), min_size=3, max_size=30))
def test_saying_it_twice_never_lowers_repetition(tokens: list[str]) -> None:
    once = repetition_share(" ".join(tokens))
    twice = repetition_share(" ".join(tokens * 2))
    assert 0 <= once <= twice < 1


def test_unknown_words() -> None:
    vocabulary = training_words(["A red bar.", "A red cross."])
    assert vocabulary == {"a", "red", "bar", "cross"}
    assert unknown_share("A RED zorp, a bar", vocabulary) == pytest.approx(0.2)
    assert math.isnan(unknown_share("...", vocabulary))
    assert training_words(["red bar", "red"], min_count=2) == {"red"}


def test_script() -> None:
    assert non_latin_share("Caf\u00e9 rouge, 12 px") == 0
    assert non_latin_share("ab\u65e5\u672c") == pytest.approx(0.5)
    assert non_latin_share("\u043a\u0440\u0443\u0433") == 1
    assert math.isnan(non_latin_share("1 2 3"))


def test_prose_differs_from_a_keyword_list() -> None:
    assert content_word_share("red circle, blue bar, top left, gray background") == 1
    assert content_word_share("There is a red bar at the top.") == pytest.approx(3 / 8)
    rng = np.random.default_rng(0)
    scenes = [scene_at(index, "train") for index in range(50)]
    prose = [content_word_share(long_caption(scene, rng)) for scene in scenes]
    assert max(prose) < 0.7


def test_over_limit() -> None:
    assert over_limit_share(100, 128) == 0
    assert over_limit_share(128, 128) == 0
    assert over_limit_share(160, 128) == pytest.approx(0.2)
    assert over_limit_share(0, 128) == 0


def test_audit_of_captions() -> None:
    audit = audit_captions(
        ["A red bar at the top.", "\u7ea2\u7ea2", ""],
        num_tokens=[7, 200, 0],
        max_tokens=100,
        truncated=[False, True, False],
        vocabulary=frozenset({"a", "red", "bar", "at", "the", "top"}),
    )
    np.testing.assert_array_equal(audit.unknown, [0, 1, np.nan])
    np.testing.assert_array_equal(audit.non_latin, [0, 1, np.nan])
    np.testing.assert_array_equal(audit.over_limit, [0, 0.5, 0])
    np.testing.assert_array_equal(audit.truncated, [0, 1, 0])
    np.testing.assert_array_equal(audit.num_tokens, [7, 200, 0])


def test_audit_wants_one_of_each_per_caption() -> None:
    with pytest.raises(ValueError, match="1 captions, 2 token counts and 1 truncation marks"):
        audit_captions(["x"], num_tokens=[1, 2], max_tokens=9, truncated=[False], vocabulary=set())


def test_own_language_is_clean() -> None:
    rng = np.random.default_rng(1)
    scenes = [scene_at(index, "train") for index in range(300)]
    vocabulary = training_words(long_caption(scene, rng) for scene in scenes)
    captions = [short_caption(scene, rng) for scene in scenes[:100]]
    assert np.nanmax([unknown_share(text, vocabulary) for text in captions]) == 0
