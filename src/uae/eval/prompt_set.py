"""The prompts of a benchmark, by the names that their images go by."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

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
    def sha256(self) -> str:
        """Of all that was read, names left out."""
        return hashlib.sha256(repr(self.prompts).encode()).hexdigest()
