import pytest

from uae.benchmarks.answers import extract_answer

OPTIONS = ("red", "blue", "dark blue", "a pink bar")


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("B", "B"),
        (" b", None),
        ("(C).", "C"),
        ("**D**", "D"),
        ("The answer is A", "A"),
        ("A. red", "A"),
        ("I think that it must be B, of course!", "B"),
        # A letter counts within the last four words only: this A is an article.
        ("A look at the picture shows what is hidden there", None),
        ("B is what I would say after looking", None),
        ("The correct answer is B because all the rest is wrong", "B"),
        ("answer is blue", "B"),  # by its text: no capital letter stands alone
        ("A or B", None),
        ("The correct answer is **C**, not A or B, as one can see here", "C"),
        ("Z", None),
        ("E", None),  # there is no such option
        ("red", "A"),
        ("Red!", "A"),
        ("it is red", "A"),
        ("dark blue", "C"),  # the whole answer, though "blue" is in it too
        ("it is dark blue", None),  # two options are in it
        ("green", None),
        ("", None),
        ("it is red " + "or so " * 10, None),  # longer than twice all options together
        ("Cannot determine the answer. A", None),
    ],
)
def test_replies(reply: str, letter: str | None):
    assert extract_answer(reply, OPTIONS) == letter


def test_letters_go_as_far_as_the_options():
    assert extract_answer("I", ["w", "x", "y"]) is None
    assert extract_answer("I", list("qrstuvwxy")) == "I"
    assert extract_answer("The answer is E for all of the reasons above", list("qrstu")) == "E"
