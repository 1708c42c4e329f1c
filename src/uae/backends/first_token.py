"""Probabilities of a reply's first token: of letters, and of answers in several forms.

A letter's is that of the tokens "A" and " A" together, of those that the vocabulary holds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from uae.backends.client import TopToken
from uae.core.errors import UsageError

_BLANKS = ("", "\u0120", "\u2581")
"""A blank before a word: none, as byte-level vocabularies write it, and as SentencePiece does."""


class NoLogProbs(UsageError):
    """A model tells no log-probabilities of what is asked, now and later."""


@runtime_checkable
class FirstToken(Protocol):
    """Probabilities of a reply's first token, from raw logits: no temperature, no penalty."""

    def letters(self, letters: Sequence[str]) -> list[float]:
        """Return the log-probability that the reply begins with each letter.

        Raises:
            NoLogProbs: The tokenizer has no token for a letter.
        """
        ...

    def masses(self, answers: Sequence[Sequence[str]]) -> list[float]:
        """Return the probability, in [0, 1], that the reply begins as each answer does.

        A token that several forms begin with counts once, for the first of the answers.

        Args:
            answers: The forms of each answer, of which the first token counts.
        """
        ...


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The probabilities of all tokens, of a model on this machine.

    Attributes:
        tokenizer: The model's own, of transformers.
        log_p: float32.
        p: float32.
    """

    tokenizer: Any
    log_p: Float[Tensor, " v"]
    p: Float[Tensor, " v"]

    @classmethod
    def of_logits(cls, tokenizer: Any, logits: Float[Tensor, " v"]) -> "Vocabulary":
        """Return the softmax in float32."""
        logits = logits.float()
        return cls(tokenizer, logits.log_softmax(-1), logits.softmax(-1))

    def letters(self, letters: Sequence[str]) -> list[float]:
        """Return the log-probabilities; see `FirstToken.letters`."""
        tokens = [letter_tokens(self.tokenizer, letter) for letter in letters]
        return [float(torch.logsumexp(self.log_p[ids], dim=0)) for ids in tokens]

    def masses(self, answers: Sequence[Sequence[str]]) -> list[float]:
        """Return the mass of the forms' first tokens; see `FirstToken.masses`."""
        counted: set[int] = set()
        masses = []
        for forms in answers:
            first_ids = {self._first_id(form) for form in forms} - counted
            counted |= first_ids
            masses.append(min(float(self.p[sorted(first_ids)].sum()), 1.0))
        return masses

    def _first_id(self, form: str) -> int:
        return self.tokenizer(form, add_special_tokens=False)["input_ids"][0]


@dataclass(frozen=True, slots=True)
class TopTokens:
    """The most probable tokens alone: what is left out makes masses smaller, never larger."""

    top: Sequence[TopToken]

    def letters(self, letters: Sequence[str]) -> list[float]:
        """Return the log-probabilities of all tokens that are a letter but for blanks.

        A letter that is not among them has minus infinity.
        """
        return [self._log_prob(letter) for letter in letters]

    def _log_prob(self, letter: str) -> float:
        values = [x.log_prob for x in self.top if x.token.strip() == letter]
        return float(np.logaddexp.reduce(values)) if values else -np.inf

    def masses(self, answers: Sequence[Sequence[str]]) -> list[float]:
        """Return the mass of the forms that are one token here; see `FirstToken.masses`."""
        counted: set[str] = set()
        masses = []
        for forms in answers:
            accepted = set(forms) - counted
            counted |= accepted
            mass = math.fsum(math.exp(x.log_prob) for x in self.top if x.token in accepted)
            masses.append(min(1.0, mass))
        return masses


def letter_tokens(tokenizer: Any, letter: str) -> list[int]:
    """Return the tokens that stand for a letter.

    Raises:
        NoLogProbs: There is none.
    """
    vocabulary = tokenizer.get_vocab()
    pieces = (f"{blank}{letter}" for blank in _BLANKS)
    single = sorted({vocabulary[piece] for piece in pieces if piece in vocabulary})
    if not single:
        raise NoLogProbs(f"the tokenizer has no single token for the letter {letter}")
    return single
