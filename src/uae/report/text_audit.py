"""Measures of a caption as text, without its image: signs that it turns into something else.

Every figure is a share in [0, 1] where more is worse, so each may serve as a penalty; on its own
none is a verdict. Words are runs of letters, lower-cased, with inner apostrophes and hyphens; the
measures suit languages that put spaces between words. NaN: the caption has nothing to measure.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

_GLUE = """
a an the this that these those each every some any no all both another other its their his her
i you he she it they we one there here who which what where when how
and or but nor so yet if while as than because although though
of in on at to from by with without into onto over under above below between behind beside besides
near around across along through against within inside outside beyond beneath toward towards up
down off out for about like
is are was were be been being am has have had having do does did can could may might must will
would shall should not
shows show showing shown appears appear appearing sits sit sitting lies lie lying stands stand
standing hangs hang hanging looks look looking see seen sees contains contain containing features
feature placed depicts depict depicting
very also just only still too more most much many few several
"""
FUNCTION_WORDS = frozenset(_GLUE.split())
"""English function words, auxiliaries and the plain verbs of descriptions."""

_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def training_words(texts: Iterable[str], min_count: int = 1) -> frozenset[str]:
    """Collect the words that a trusted corpus holds `min_count` times; rarer ones are slips."""
    counts = Counter(word for text in texts for word in words(text))
    return frozenset(word for word, count in counts.items() if count >= min_count)


def repetition_share(text: str, size: int = 3) -> float:
    """Share of word n-grams that already stood earlier in the text; NaN below `size` words."""
    tokens = words(text)
    num_grams = len(tokens) - size + 1
    if num_grams < 1:
        return float("nan")
    return 1 - len({tuple(tokens[i : i + size]) for i in range(num_grams)}) / num_grams


def unknown_share(text: str, vocabulary: Set[str]) -> float:
    """Share of words outside a vocabulary (lower case); NaN without words."""
    tokens = words(text)
    return _share(sum(token not in vocabulary for token in tokens), len(tokens))


def non_latin_share(text: str) -> float:
    """Share of letters outside the Latin script, by their Unicode names; NaN without letters."""
    letters = [char for char in text if char.isalpha()]
    foreign = sum(not unicodedata.name(char, "").startswith("LATIN") for char in letters)
    return _share(foreign, len(letters))


def content_word_share(text: str) -> float:
    """Share of words that are not function words: about 0.6 in prose, 1 in a keyword list."""
    tokens = words(text)
    return _share(sum(token not in FUNCTION_WORDS for token in tokens), len(tokens))


def over_limit_share(num_tokens: int, max_tokens: int) -> float:
    """Share of a caption's tokens that the decoder cannot read, by its own tokenizer."""
    return _share(max(0, num_tokens - max_tokens), max(1, num_tokens))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


@dataclass(frozen=True, slots=True)
class TextAudit:
    """The measures of this file for n captions, one row each."""

    repetition: Float[np.ndarray, " n"]
    unknown: Float[np.ndarray, " n"]
    non_latin: Float[np.ndarray, " n"]
    content_words: Float[np.ndarray, " n"]
    num_tokens: Float[np.ndarray, " n"]
    over_limit: Float[np.ndarray, " n"]
    truncated: Float[np.ndarray, " n"]
    """1 where the caption has no end token: it was cut by the limit on new tokens."""


def audit_captions(
    captions: Sequence[str],
    *,
    num_tokens: Sequence[int],
    max_tokens: int,
    truncated: Sequence[bool] | Bool[np.ndarray, " n"],
    vocabulary: Set[str] | None,
) -> TextAudit:
    """Measure captions.

    Args:
        captions: The texts.
        num_tokens: Length of each by the tokenizer that the decoder is conditioned through.
        max_tokens: Longest caption the decoder was trained for.
        truncated: Whether each lacks its end token.
        vocabulary: Known words in lower case; None where every word may be used.

    Raises:
        ValueError: The arguments describe different numbers of captions.
    """
    if not len(captions) == len(num_tokens) == len(truncated):
        raise ValueError(
            f"{len(captions)} captions, {len(num_tokens)} token counts and {len(truncated)} "
            "truncation marks: expected one of each per caption"
        )
    unknown = [math.nan if vocabulary is None else unknown_share(x, vocabulary) for x in captions]
    columns = (
        [repetition_share(text) for text in captions],
        unknown,
        [non_latin_share(text) for text in captions],
        [content_word_share(text) for text in captions],
        num_tokens,
        [over_limit_share(count, max_tokens) for count in num_tokens],
        truncated,
    )
    return TextAudit(*(np.array(column, dtype=np.float64) for column in columns))
