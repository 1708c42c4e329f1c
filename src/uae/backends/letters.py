"""The probability that a reply begins with the letter of an option.

It is that of the tokens "A" and " A" together, of those that the vocabulary holds.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from uae.core.errors import UsageError

_BLANKS = ("", "\u0120", "\u2581")
"""A blank before a word: none, as byte-level vocabularies write it, and as SentencePiece does."""


def letter_tokens(tokenizer: Any, letters: Sequence[str]) -> list[list[int]]:
    """Return the tokens that stand for each letter.

    Args:
        tokenizer: A model's own, of transformers.
        letters: A, B, ...

    Raises:
        UsageError: The tokenizer has no token for a letter.
    """
    return [_tokens(tokenizer, letter) for letter in letters]


def letter_log_probs(log_p: Float[Tensor, " v"], tokens: Sequence[Sequence[int]]) -> list[float]:
    """Return the log-probability of each letter.

    Args:
        log_p: Log-probabilities of a reply's first token, float32.
        tokens: Those of each letter, see `letter_tokens`.
    """
    return [float(torch.logsumexp(log_p[list(ids)], dim=0)) for ids in tokens]


def _tokens(tokenizer: Any, letter: str) -> list[int]:
    vocabulary = tokenizer.get_vocab()
    pieces = (f"{blank}{letter}" for blank in _BLANKS)
    single = sorted({vocabulary[piece] for piece in pieces if piece in vocabulary})
    if not single:
        raise UsageError(
            f"the tokenizer has no single token for the letter {letter}: leave the likelihood out "
            "(--no-likelihood), in a new folder"
        )
    return single
