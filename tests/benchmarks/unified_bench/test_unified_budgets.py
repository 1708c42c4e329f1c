"""Captions within a budget of tokens, and the area under the curve."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from uae.backends.failure import Failure
from uae.backends.roles import Request, Written, written
from uae.benchmarks.unified_bench.budgets import Curve, Tokens, area, write_within
from uae.core.errors import UsageError
from uae.data.folder import NamedImage

SIZES = (2, 4, 8)


class Words:
    """A tokenizer of words."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def __call__(
        self, text: str, add_special_tokens: bool, split_special_tokens: bool
    ) -> dict[str, list[int]]:
        assert not add_special_tokens
        assert split_special_tokens
        self.words += text.split()
        return {"input_ids": [self.words.index(word) for word in text.split()]}

    def decode(self, ids: list[int]) -> str:
        return " ".join(self.words[i] for i in ids)

    def get_vocab(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}


class Sampler:
    """Writes captions of as many words as the draw says, and remembers what it was asked."""

    in_batches = False

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = lengths
        self.asked: list[Request] = []

    def write(self, items, request):
        self.asked.append(request)
        length = self.lengths[request.draw]
        return [written(" ".join(["w"] * length), False) for _ in items]


TOKENS = Tokens(Words())
ITEM = NamedImage("a.png", Image.new("RGB", (4, 4)))


def within(method, captioner, plain="one two three four five six"):
    count = len(getattr(captioner, "lengths", [])) or 1
    curve = Curve(methods=(method,), sizes=SIZES, num_samples=count)
    found = write_within(captioner, [ITEM], [Written(plain)], method, curve, TOKENS)
    firsts = {size: found[x][0] for size, x in curve.variants(method).items()}
    return {size: x.text if isinstance(x, Written) else x for size, x in firsts.items()}


def test_a_cut_caption_is_the_head_of_the_plain_one_and_asks_nothing():
    sampler = Sampler([3])
    assert within("cut", sampler) == {
        2: "one two",
        4: "one two three four",
        8: "one two three four five six",
    }
    assert sampler.asked == []


def test_sampled_captions_are_the_longest_that_fit():
    sampler = Sampler([5, 3, 4, 7])
    found = within("sample", sampler)
    assert {size: len(text.split()) for size, text in found.items()} == {2: 2, 4: 4, 8: 7}
    # the same draws serve all budgets
    assert sampler.asked == [Request(temperature=1.0, draw=k) for k in range(4)]


def test_a_sampler_that_fails_now_and_then_is_used_for_what_it_gave():
    assert within("sample", Sampler([0, 3])) == {2: "w w", 4: "w w w", 8: "w w w"}
    assert within("sample", Sampler([0, 0]))[4] == Failure("the caption is empty")


def test_asked_captions_name_fewer_words_than_tokens_and_are_cut():
    sampler = Sampler([6])
    assert {k: len(x.split()) for k, x in within("ask", sampler).items()} == {2: 2, 4: 4, 8: 6}
    assert [r.instruction for r in sampler.asked] == [f"Use at most {n} words." for n in (2, 3, 6)]


def test_a_yardstick_is_known_by_its_vocabulary_not_by_its_place():
    one, same, other = Words(), Words(), Words()
    one.words, same.words, other.words = ["a", "b"], ["a", "b"], ["b", "a"]
    assert Tokens(one).sha256 == Tokens(same).sha256 != Tokens(other).sha256


def test_a_character_cut_in_two_is_left_out():
    class Bytes(Words):
        def __call__(self, text, add_special_tokens, split_special_tokens):
            return {"input_ids": list(text.encode())}

        def decode(self, ids):
            return bytes(ids).decode(errors="replace")

    assert Tokens(Bytes()).head("aé", 2) == "a"


def test_names_of_budgets():
    assert Curve(sizes=(16,)).variants("cut") == {16: "cut-16"}


@pytest.mark.parametrize("sizes", [(), (8,), (8, 8), (16, 8)])
def test_budgets_that_make_no_curve_are_refused(sizes):
    with pytest.raises(UsageError, match="expected at least two, each larger"):
        Curve(methods=("cut",), sizes=sizes)


def test_area_by_hand():
    # trapezoids of one octave and of two: (.5 * 1 + .7 * 2) / 3
    assert area({8: 0.4, 16: 0.6, 64: 0.8}) == pytest.approx((0.5 + 1.4) / 3)


@given(
    st.dictionaries(st.integers(1, 4096), st.floats(-1, 1), min_size=2, max_size=8),
)
def test_an_area_lies_between_its_points_and_does_not_depend_on_their_order(points):
    value = area(points)
    assert min(points.values()) - 1e-9 <= value <= max(points.values()) + 1e-9
    assert math.isclose(value, area(dict(reversed(points.items()))), abs_tol=1e-12)


@given(st.floats(-1, 1), st.lists(st.integers(1, 4096), min_size=2, unique=True))
def test_a_flat_curve_has_its_height_as_area(height, sizes):
    assert area(dict.fromkeys(sizes, height)) == pytest.approx(height, abs=1e-12)
