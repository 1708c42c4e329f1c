"""Options that free answers to multiple-choice questions mean: rules `uae-mcq-2`.

VLMEvalKit's rules (open-compass/VLMEvalKit vlmeval/utils/matching_util.py `can_infer`), in order:

1. a refusal is no answer, nor is VLMEvalKit's text for a request that failed
2. punctuation becomes blanks; exactly one option letter stands alone, and within the last 4 words
3. "(correct) answer is X"
4. an answer no longer than twice all options' texts together holds exactly one option's text

Departures, each where the original guesses, misreads or passes over an answer: what fits no rule is
unparsed, never given to a judge nor to chance; rule 3 wants a capital letter alone ("answer is
blue" is no B) and takes all letters that MMT-Bench has, A to I, where the original stops at D; rule
4 first looks for the one option that is the whole answer ("top left" beside the option "top"). Two
options of one text cannot be told apart by it: such an answer is unparsed, as in the original.
"""

import re
from collections.abc import Sequence

from uae.data.questions import LETTERS

RULES = "uae-mcq-2"

API_FAILURE = "Failed to obtain answer via API"

_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
    API_FAILURE,
)
_PUNCTUATION = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_LAST_WORDS = 4
_ANSWER_IS = re.compile(rf"(?i:(?:correct\s+)?answer\s+is)\s+\**([{LETTERS}])\b")


def extract_answer(reply: str, options: Sequence[str]) -> str | None:
    """Return the letter that a reply means, or None where it is unparsed.

    Args:
        reply: What a model said.
        options: The options' texts, of letters A, B, ...; a letter with an empty text is none.
    """
    letters = [letter for letter, text in zip(LETTERS, options, strict=False) if text]
    if any(refusal in reply for refusal in _REFUSALS):
        return None
    words = reply.translate(_PUNCTUATION).split()
    named = [letter for letter in letters if letter in words]
    if len(named) == 1 and words.index(named[0]) >= len(words) - _LAST_WORDS:
        return named[0]
    if not named and "Z" in words:
        return None
    said = _ANSWER_IS.search(reply)
    if said and said[1] in letters:
        return said[1]
    return _option_in(reply, options)


def _option_in(reply: str, options: Sequence[str]) -> str | None:
    texts = [option.lower() for option in options]
    text = " ".join(reply.translate(_PUNCTUATION).lower().split())
    if text and texts.count(text) == 1:
        return LETTERS[texts.index(text)]
    if len(reply) > 2 * sum(map(len, texts)):
        return None
    held = [i for i, option in enumerate(texts) if option and option in reply.lower()]
    return LETTERS[held[0]] if len(held) == 1 else None
