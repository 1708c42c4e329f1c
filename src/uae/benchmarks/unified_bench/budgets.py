"""The rate-distortion curve of a model's text: similarity against the tokens a caption may have.

Three ways to keep a caption within a budget of b tokens:
    cut     the first b tokens of the plain caption
    ask     the captioner is asked for so many words, and what is longer is cut
    sample  the longest of several sampled captions that fits; the shortest one, cut, if none does
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2
from typing import Any, Literal

from uae.backends.failure import Failure
from uae.backends.roles import Captioner, Request, Written, written
from uae.core.errors import UsageError
from uae.core.identity import text_digest
from uae.data.folder import NamedImage

Method = Literal["cut", "ask", "sample"]

PLAIN = "plain"
_WORDS_PER_TOKEN = 0.75
"""Of English text, roughly; what is longer all the same is cut."""


class Tokens:
    """The yardstick of budgets: one tokenizer for all captioners that are compared."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.sha256 = text_digest(json.dumps(tokenizer.get_vocab(), sort_keys=True))
        """Of the vocabulary: which yardstick it is, wherever its files lie."""

    def count(self, text: str) -> int:
        """Count the tokens of a text."""
        return len(self._ids(text))

    def head(self, text: str, num_tokens: int) -> str:
        """Return a text's first tokens; a text that is short enough comes back as it is."""
        ids = self._ids(text)
        if len(ids) <= num_tokens:
            return text
        # a character of several tokens may be cut in two
        return self._tokenizer.decode(ids[:num_tokens]).rstrip("\ufffd").strip()

    def _ids(self, text: str) -> list[int]:
        given = {"add_special_tokens": False, "split_special_tokens": True}  # text is text
        return self._tokenizer(text, **given)["input_ids"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Which rate-distortion curves are measured.

    Attributes:
        methods: How captions are kept short; none for no curve.
        sizes: Budgets in tokens.
        num_samples: Captions to choose from by the method `sample`.

    Raises:
        UsageError: There are fewer than two sizes, or they do not rise.
    """

    methods: tuple[Method, ...] = ()
    sizes: tuple[int, ...] = ()
    num_samples: int = 8

    def __post_init__(self) -> None:
        sizes = self.sizes
        if self.methods and (len(sizes) < 2 or any(a >= b for a, b in pairwise(sizes))):
            raise UsageError(
                f"budgets {' '.join(map(str, sizes))}: expected at least two, each larger than the "
                "one before"
            )

    def variants(self, method: Method) -> dict[int, str]:
        """Return what the captions of each size are called in files and scores."""
        return {size: f"{method}-{size}" for size in self.sizes}


def write_within(
    captioner: Captioner,
    items: Sequence[NamedImage],
    plain: Sequence[Written],
    method: Method,
    curve: Curve,
    tokens: Tokens,
) -> dict[str, list[Written | Failure]]:
    """Return captions of at most so many tokens, by variant."""
    draws = range(curve.num_samples if method == "sample" else 0)
    sampled = [captioner.write(items, Request(temperature=1.0, draw=k)) for k in draws]
    short: dict[str, list[Written | Failure]] = {}
    for size, variant in curve.variants(method).items():
        if method == "cut":
            captions: Sequence[Written | Failure] = plain
        elif method == "ask":
            num_words = max(1, round(size * _WORDS_PER_TOKEN))
            asked = Request(instruction=f"Use at most {num_words} words.")
            captions = captioner.write(items, asked)
        else:
            captions = [_longest_within(x, size, tokens) for x in zip(*sampled, strict=True)]
        short[variant] = [
            x if isinstance(x, Failure) else written(tokens.head(x.text, size), x.is_truncated)
            for x in captions
        ]
    return short


def _longest_within(
    options: Sequence[Written | Failure], size: int, tokens: Tokens
) -> Written | Failure:
    lengths = {x: tokens.count(x.text) for x in options if isinstance(x, Written)}
    if not lengths:
        return options[0]
    fitting = [x for x, length in lengths.items() if length <= size]
    return (
        max(fitting, key=lengths.__getitem__) if fitting else min(lengths, key=lengths.__getitem__)
    )


def area(similarity: Mapping[int, float]) -> float:
    """Return the mean height of a curve over log2(tokens), by the trapezoidal rule.

    Args:
        similarity: By budget in tokens; at least two budgets.

    Returns:
        A similarity: what the curve would be if it were flat.
    """
    points = sorted((log2(size), value) for size, value in similarity.items())
    total = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points))
    return total / (points[-1][0] - points[0][0])
