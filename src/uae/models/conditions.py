"""Conditions, i.e. all that the decoder sees of captions, and what makes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Bool, Float
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the decoder sees of n captions. Padding is right and masked."""

    embeds: Float[Tensor, "n s d"]
    mask: Bool[Tensor, "n s"]
    pooled: Float[Tensor, "n p"]

    def __len__(self) -> int:
        return len(self.embeds)

    def __getitem__(self, rows: slice | Tensor) -> "Conditions":
        return Conditions(self.embeds[rows], self.mask[rows], self.pooled[rows])

    def repeat_interleave(self, repeats: int) -> "Conditions":
        """Repeat each row, keeping copies of one caption together."""
        return Conditions(
            self.embeds.repeat_interleave(repeats, 0),
            self.mask.repeat_interleave(repeats, 0),
            self.pooled.repeat_interleave(repeats, 0),
        )


class Conditioner(Protocol):
    """Turns captions into conditions; gradients reach what of it is trained.

    conditions = conditioner(captions)
    """

    def __call__(self, captions: Sequence[str]) -> Conditions:
        """Read captions, as text alone."""
        ...

    def read(self, captions: Sequence[str]) -> Conditions:
        """Do the frozen part, without gradients; `finish` does the rest of any rows of it."""
        ...

    def finish(self, reading: Conditions) -> Conditions:
        """Do the trained part."""
        ...

    def num_tokens(self, caption: str) -> int:
        """Count the tokens of a caption by the tokenizer that reads it."""
        ...

    def head_of(self, caption: str, num_tokens: int) -> str:
        """Return the text of a caption's first tokens."""
        ...

    def trainable(self) -> dict[str, nn.Parameter]:
        """Make what is trained of it trainable; return it by name, empty where nothing is."""
        ...
