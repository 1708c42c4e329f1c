"""The native conditioner: the decoder's own text encoder reads captions, and nothing is trained."""

from collections.abc import Sequence

from torch import nn

from uae.core.errors import UsageError
from uae.models.conditions import Conditions
from uae.models.dit.family import DitFamily, ReadsCaptions


class Native:
    """A text-to-image model as it is, without alignment by pre-training; see `Conditioner`."""

    def __init__(self, family: DitFamily) -> None:
        """Take the text encoder of a decoder.

        Raises:
            UsageError: The family has none.
        """
        if not isinstance(family, ReadsCaptions):
            raise UsageError(
                f"condition: native: a decoder of {type(family).__name__} reads no captions by "
                "itself: expected projector"
            )
        self._reader = family

    def __call__(self, captions: Sequence[str]) -> Conditions:
        return self.read(captions)

    def read(self, captions: Sequence[str]) -> Conditions:
        return self._reader.encode(captions)

    def read_in_sight(self, *_: object) -> Conditions:
        """Refuse what a projector can do: this reader has never seen the image.

        Raises:
            UsageError: Always.
        """
        raise UsageError(
            "condition: native reads captions as text alone: expected cold_start.condition text"
        )

    def finish(self, reading: Conditions) -> Conditions:
        return reading

    def num_tokens(self, caption: str) -> int:
        return len(self._reader.plain.token_ids(caption))

    def head_of(self, caption: str, num_tokens: int) -> str:
        return self._reader.plain.head_of(caption, num_tokens)

    def trainable(self) -> dict[str, nn.Parameter]:
        return {}
