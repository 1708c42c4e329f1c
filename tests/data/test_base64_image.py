"""Images in base64, however they are written; every fault has its type and is found early."""

import base64
import pickle

import numpy as np
import pytest
from base64_spellings import BARE, HEAD, PLAIN, PNG, SIZE, URLS
from hypothesis import given, settings
from hypothesis import strategies as st

from uae.data import base64_image
from uae.data.base64_image import NotBase64, open_base64
from uae.data.questions import Question, QuestionRow, decode_images
from uae.data.untrusted.file import Reason, UnreadableImage

QUESTION = Question("Which?", ("a", "b"), "A", "all", "all")


def cell(text: str) -> QuestionRow:
    return QuestionRow(0, QUESTION, text, "VAL", "q.tsv, line 2")


@pytest.mark.parametrize("text", [*BARE.values(), *URLS.values()], ids=[*BARE, *URLS])
def test_every_spelling_is_the_same_image(text):
    image = open_base64(text, "x")
    assert image.size == SIZE
    assert np.array_equal(np.asarray(image), np.asarray(open_base64(PLAIN, "x")))
    assert [x.size for x in decode_images(cell(text))] == [SIZE]
    assert [x.size for x in decode_images(cell(f"['{text}', \"{text}\"]"))] == [SIZE, SIZE]


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_blanks_and_line_breaks_stand_anywhere(data):
    blanks = st.text(" \t\r\n\f", max_size=3)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(PLAIN)), max_size=5)))
    parts = [PLAIN[a:b] for a, b in zip([0, *cuts], [*cuts, len(PLAIN)], strict=True)]
    text = "".join(data.draw(blanks) + part for part in parts)
    assert open_base64(text, "x").size == SIZE
    assert open_base64(HEAD + text, "x").size == SIZE


@pytest.mark.parametrize(
    ("text", "reason", "said"),
    [
        ("", Reason.EMPTY_FILE, "expected"),
        (" \n", Reason.EMPTY_FILE, "expected"),
        ("====", Reason.EMPTY_FILE, "expected"),
        (HEAD, Reason.EMPTY_FILE, "expected"),
        ("data:image/png;base64", Reason.DAMAGED, "holds ':'"),
        ("data:image/png,abc", Reason.DAMAGED, "expected data:image/png;base64"),
        ("data:,abc", Reason.DAMAGED, "expected data:image/png;base64"),
        ("data:image/svg+xml;utf8,<svg/>", Reason.DAMAGED, "expected data:image/png;base64"),
        ("https://example.org/a.png", Reason.DAMAGED, "holds ':'"),
        ("no base64!", Reason.DAMAGED, "holds '!'"),
        ("%ff%fe", Reason.DAMAGED, "holds"),
        ("AB==CD==", Reason.DAMAGED, "holds '='"),
        ("\u00e9" * 4, Reason.DAMAGED, "holds"),
        ("\ud800", Reason.DAMAGED, "holds"),
        ("\0AAA", Reason.DAMAGED, "holds"),
        ("AAAAA", Reason.DAMAGED, "no base64: 5 digits"),
        ("AAAA", Reason.NOT_AN_IMAGE, "first bytes"),
        (base64.b64encode(PNG[:-30]).decode(), Reason.TRUNCATED, "too early"),
    ],
)
def test_what_is_no_image_in_base64_has_a_reason(text, reason, said):
    with pytest.raises(UnreadableImage, match=said) as caught:
        open_base64(text, "field x")
    assert caught.value.reason == reason
    assert isinstance(caught.value, NotBase64) == (reason == Reason.DAMAGED)
    assert str(caught.value).startswith("field x: ")
    assert len(str(caught.value)) < 200
    pickle.loads(pickle.dumps(caught.value))


def test_a_size_beyond_the_limit_is_told_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(base64_image, "MAX_FILE_BYTES", 2**20)
    monkeypatch.setattr(base64_image.base64, "b64decode", None)
    with pytest.raises(UnreadableImage, match=r"1\.5 MiB, at most 1 MiB") as caught:
        open_base64("A" * 2**21, "x")
    assert caught.value.reason == Reason.TOO_LARGE_FILE


@settings(max_examples=200, deadline=None)
@given(text=st.text() | st.text("ABab01+/=-_% \n:;,dat", max_size=40))
def test_any_text_is_an_image_or_has_a_reason(text):
    with pytest.raises(UnreadableImage):
        open_base64(text, "x")
