"""The probability that a reply begins with the letter of an option.

It is that of the tokens "A" and " A" together, where these are single tokens.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from uae.errors import UsageError


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
    forms = (tokenizer(x, add_special_tokens=False)["input_ids"] for x in (letter, f" {letter}"))
    single = sorted({ids[0] for ids in forms if len(ids) == 1})
    if not single:
        raise UsageError(
            f"the tokenizer has no single token for the letter {letter}: leave the likelihood out "
            "(--no-likelihood), in a new folder"
        )
    return single
