"""The prompts of a benchmark, by the names that their images go by."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from uae.core.identity import text_digests

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class PromptSet(Generic[P]):
    """Prompts by name, in the order in which they were read."""

    by_name: Mapping[str, P]

    @property
    def prompts(self) -> tuple[P, ...]:
        """All of them."""
        return tuple(self.by_name.values())

    @property
    def digests(self) -> dict[str, str | None]:
        """The sha256 of each prompt with all that was read of it, by its name."""
        return text_digests({name: repr(prompt) for name, prompt in self.by_name.items()})

    @property
    def sha256(self) -> str:
        """Of all that was read, names left out."""
        return hashlib.sha256(repr(self.prompts).encode()).hexdigest()
