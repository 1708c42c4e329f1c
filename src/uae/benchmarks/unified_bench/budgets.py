"""The rate-distortion curve of a model's text: similarity against the tokens a caption may have.

Three ways to keep a caption within a budget of b tokens:
    cut     the first b tokens of the plain caption
    ask     the captioner is asked for so many words, and what is longer is cut
    sample  the longest of several sampled captions that fits; the shortest one, cut, if none does
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2
from typing import Any, Literal

from transformers import AutoTokenizer

from uae.backends.failure import Failure
from uae.backends.roles import Captioner, Request, Written, written
from uae.core.errors import UsageError
from uae.data.folder import NamedImage

Method = Literal["cut", "ask", "sample"]

PLAIN = "plain"
BUDGETS = (8, 16, 32, 64, 128, 256, 512)
_WORDS_PER_TOKEN = 0.75
"""Of English text, roughly; what is longer all the same is cut."""


class Tokens:
    """The yardstick of budgets: one tokenizer for all captioners that are compared."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        vocabulary = json.dumps(tokenizer.get_vocab(), sort_keys=True)
        self.sha256 = hashlib.sha256(vocabulary.encode()).hexdigest()
        """Of the vocabulary: which yardstick it is, wherever its files lie."""

    @classmethod
    def from_pretrained(cls, name: str) -> "Tokens":
        """Load the tokenizer of a folder or hub id."""
        return cls(AutoTokenizer.from_pretrained(name))

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


@dataclass(frozen=True, slots=True)
class Budget:
    """A way of keeping captions short, and how short."""

    method: Method
    num_tokens: int

    @property
    def name(self) -> str:
        """Its name in files and scores."""
        return f"{self.method}-{self.num_tokens}"


def check_sizes(sizes: Sequence[int]) -> None:
    """Refuse budgets that make no curve.

    Raises:
        UsageError: There are fewer than two, or they do not rise.
    """
    if len(sizes) < 2 or any(a >= b for a, b in pairwise(sizes)):
        raise UsageError(
            f"budgets {' '.join(map(str, sizes))}: expected at least two, each larger than the one "
            "before"
        )


def write_within(
    captioner: Captioner,
    items: Sequence[NamedImage],
    plain: Sequence[Written],
    method: Method,
    sizes: Sequence[int],
    tokens: Tokens,
    num_samples: int,
) -> dict[Budget, list[Written | Failure]]:
    """Return captions of at most so many tokens, for each size.

    Args:
        captioner: Writes the new ones.
        items: Images.
        plain: The plain caption of each.
        method: How they are kept short.
        sizes: Budgets in tokens.
        tokens: Counts them.
        num_samples: Captions to choose from by the method `sample`.
    """
    if method == "sample":
        draws = [
            captioner.write(items, Request(temperature=1.0, draw=k)) for k in range(num_samples)
        ]
        choices = list(zip(*draws, strict=True))
    found: dict[Budget, list[Written | Failure]] = {}
    for size in sizes:
        if method == "cut":
            captions: Sequence[Written | Failure] = plain
        elif method == "ask":
            num_words = max(1, round(size * _WORDS_PER_TOKEN))
            captions = captioner.write(
                items, Request(instruction=f"Use at most {num_words} words.")
            )
        else:
            captions = [_longest_within(options, size, tokens) for options in choices]
        found[Budget(method, size)] = [
            x if isinstance(x, Failure) else _cut(x, size, tokens) for x in captions
        ]
    return found


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


def _cut(caption: Written, size: int, tokens: Tokens) -> Written | Failure:
    return written(tokens.head(caption.text, size), caption.is_truncated)


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
