"""The extraction rules of `benchmarks/answers.py`, each by example and as a property."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uae.benchmarks.answers import API_FAILURE, RULES, extract_answer
from uae.data.questions import LETTERS

OPTIONS = ("teal", "red", "olive green", "navy blue")
FILLERS = ("the", "picture", "shows", "it", "so", "then", "I", "x")
PUNCTUATION = ".()[],:;!*#{}"

option_lists = st.lists(st.text("abcd ", min_size=0, max_size=6), min_size=2, max_size=9)
replies = st.text(st.sampled_from("ABCDZ abcd.,:()*\n"), max_size=40) | st.lists(
    st.sampled_from(["A", "B", "the answer is", "teal", "red", "Z", "maybe", "(C)", "**D**"])
).map(" ".join)


def test_the_rules_have_a_name():
    assert RULES == "uae-mcq-2"


@given(replies, option_lists)
@settings(deadline=None, max_examples=50)
def test_it_is_an_option_or_nothing_and_always_the_same(reply: str, options: list[str]):
    letter = extract_answer(reply, options)
    assert letter is None or options[LETTERS.index(letter)]
    assert letter == extract_answer(reply, options)


# -- rule 1: refusals ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal",
    [
        "Sorry, I can't help with images of people yet.",
        "I can't process this file.",
        "I'm sorry, but without the image provided",
        "Cannot determine the answer",
        API_FAILURE,
    ],
)
@pytest.mark.parametrize("more", ["", " A", " The answer is B.", " red"])
def test_a_refusal_is_no_answer_whatever_follows(refusal: str, more: str):
    assert extract_answer(refusal + more, OPTIONS) is None


# -- rule 2: one letter alone, among the last four words ----------------------------------------


@given(
    st.lists(st.sampled_from([*FILLERS, *"ABCD"]), min_size=1, max_size=9),
    st.sampled_from([" ", "  ", "\n", ". ", ", ", "! "]),
)
@settings(deadline=None, max_examples=50)
def test_one_letter_among_the_last_four_words(words: list[str], between: str):
    letters = {word for word in words if word in "ABCD"}
    reply = between.join(words)
    if len(letters) == 1 and words.index(min(letters)) >= len(words) - 4:
        assert extract_answer(reply, OPTIONS) == min(letters)
    else:
        assert extract_answer(reply, OPTIONS) is None  # no other rule fits these words


@given(st.sampled_from("ABCD"), st.text(PUNCTUATION, max_size=5), st.text(PUNCTUATION, max_size=5))
@settings(deadline=None, max_examples=50)
def test_punctuation_around_a_letter_is_nothing(letter: str, before: str, after: str):
    assert extract_answer(f"{before}{letter}{after}", OPTIONS) == letter


def test_the_last_four_words_count_from_the_first_place_of_the_letter():
    assert extract_answer("A is what I say", OPTIONS) is None
    assert extract_answer("A is I say", OPTIONS) == "A"
    assert extract_answer("A is what I say: A", OPTIONS) is None


def test_a_letter_beyond_the_options_is_a_word():
    assert extract_answer("C", OPTIONS[:2]) is None
    assert extract_answer("C or B", OPTIONS[:2]) == "B"
    assert extract_answer("I", [*"qrstuvwxy"]) == "I"
    assert extract_answer("B", ("teal", "", "red")) is None
    assert extract_answer("C", ("teal", "", "red")) == "C"


def test_lower_case_is_no_letter():
    assert extract_answer("b", OPTIONS) is None


def test_z_stands_for_none():
    assert extract_answer("Z", OPTIONS) is None
    assert extract_answer("Z, not teal", OPTIONS) is None
    assert extract_answer("Z or A", OPTIONS) == "A"


# -- rule 3: "answer is X" ----------------------------------------------------------------------


@given(
    st.sampled_from("ABCD"),
    st.sampled_from(["answer is", "Answer is", "correct answer is", "The correct  answer  is"]),
    st.sampled_from(["", "**", "*"]),
    st.lists(st.sampled_from([*FILLERS, *"ABCD"]), min_size=5, max_size=9),
)
@settings(deadline=None, max_examples=50)
def test_answer_is_goes_before_what_follows(letter: str, phrase: str, mark: str, words: list[str]):
    others = {word for word in words if word in "ABCD"} | {letter}
    reply = f"{phrase} {mark}{letter}{mark} {' '.join(words)}"
    if len(others) > 1:  # rule 2 does not fit
        assert extract_answer(reply, OPTIONS) == letter


def test_answer_is_wants_a_capital_letter_alone():
    assert extract_answer("Well, the answer is navy blue", OPTIONS) == "D"
    assert extract_answer("The answer is Bright. I say so, A or B", OPTIONS) is None
    assert extract_answer("The answer is E, neither A nor B to me", OPTIONS) is None


@pytest.mark.parametrize("letter", LETTERS)
def test_answer_is_takes_each_letter_that_is_an_option(letter: str):
    options = [*"qrstuvwxy"]
    reply = f"The answer is {letter}, and I looked at A and B again to be sure of it"
    assert extract_answer(reply, options) == letter
    assert extract_answer(reply, options[: LETTERS.index(letter)] or ["", "r"]) is None


# -- rule 4: an option's text -------------------------------------------------------------------


@given(st.integers(0, 3), st.sampled_from(["{}", "It is {}.", "{}!", "**{}**"]))
@settings(deadline=None, max_examples=50)
def test_an_options_text_is_the_option(i: int, manner: str):
    for text in (OPTIONS[i], OPTIONS[i].upper(), OPTIONS[i].title()):
        assert extract_answer(manner.format(text), OPTIONS) == LETTERS[i]


@given(st.lists(st.sampled_from(OPTIONS), min_size=2, max_size=2, unique=True))
@settings(deadline=None, max_examples=50)
def test_two_options_texts_are_no_answer(texts: list[str]):
    assert extract_answer(f"{texts[0]} {texts[1]}", OPTIONS) is None


@given(st.integers(0, 80))
@settings(deadline=None, max_examples=50)
def test_a_long_reply_that_holds_an_option_is_no_answer(num_more: int):
    reply = "red " + "x" * num_more
    limit = 2 * sum(map(len, OPTIONS))
    assert extract_answer(reply, OPTIONS) == ("B" if len(reply) <= limit else None)


def test_the_whole_reply_goes_before_a_part_of_it():
    options = ("top", "left", "top left", "")
    assert extract_answer("top left", options) == "C"
    assert extract_answer("Top left.", options) == "C"
    assert extract_answer("at the top left", options) is None
    assert extract_answer("at the top", options) == "A"


def test_an_absent_option_is_in_no_reply():
    assert extract_answer("red it is", ("teal", "", "red")) == "C"
    assert extract_answer("", ("teal", "", "red")) is None
    assert extract_answer("...", ("teal", "", "red")) is None


@pytest.mark.parametrize("reply", ["red", "Red.", "It is red."])
def test_of_two_options_of_one_text_neither_is_meant(reply: str):
    assert extract_answer(reply, ("red", "teal", "red")) is None
    assert extract_answer(reply, ("teal", "red", "Red")) is None
    assert extract_answer("teal", ("red", "teal", "red")) == "B"
    assert extract_answer("C", ("red", "teal", "red")) == "C"
