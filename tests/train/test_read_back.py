"""The gate for photos: words of captions that the encoder reads again in their redraws."""

import numpy as np
import pytest

from uae.train.read_back import Readings, WordsKept

PHOTOS = ["A red bicycle leans on a brick wall.", "Two dogs run along the beach at sunset."]


def kept(redraws: list[str], captions: list[str] = PHOTOS) -> WordsKept:
    return WordsKept.of(Readings(captions, photos=PHOTOS, photos_again=PHOTOS, redraws=redraws))


def test_shares_in_closed_form():
    captions = ["The red bicycle is new.", "A beach without people."]
    found = kept(["A bicycle.", "A cat on a red wall by the beach."], captions)
    np.testing.assert_allclose(found.redraw, [1 / 2, 1.0])  # of {red, bicycle} and of {beach}
    np.testing.assert_allclose(found.again, 1.0)
    np.testing.assert_allclose(found.chance, [1 / 2, 0.0])  # "red"; no beach


def test_a_caption_that_shares_no_word_with_its_photo_is_excluded():
    found = kept(PHOTOS, ["It is what it is.", "Dogs."])
    assert np.isnan(found.redraw[0])
    assert found.redraw[1] == 1.0


@pytest.mark.parametrize(
    ("redraws", "passed"),
    [(PHOTOS, True), (PHOTOS[::-1], False), (["A blur.", "A blur."], False)],
)
def test_redraws_pass_that_are_read_like_the_photo_and_better_than_by_chance(redraws, passed):
    gate = WordsKept.of(Readings(PHOTOS * 4, PHOTOS * 4, PHOTOS * 4, redraws * 4)).gate()
    assert gate.passed == passed
    assert gate.failing == (() if passed else ("words",))
    assert "in the redraw" in gate.finding


def test_nothing_measured_is_no_pass():
    assert not kept(PHOTOS, ["", ""]).gate().passed


def test_an_encoder_that_reads_the_same_in_everything_is_no_pass():
    same = ["A dog."] * 2
    assert not WordsKept.of(Readings(same, same, same, same)).gate().passed


def test_words_read_by_luck_in_one_redraw_are_no_pass():
    nothing = np.zeros(6)
    assert not WordsKept(again=nothing, redraw=np.eye(6)[0], chance=nothing).gate().passed
