"""Requests that come to nothing, as errors and as values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from uae.core.errors import RunFailed
from uae.core.memory import left_out_if_too_large

T = TypeVar("T")
S = TypeVar("S")


class BackendFailed(RunFailed):
    """One request came to nothing; the next one may go well, and with `can_retry` this one too."""

    def __init__(self, reason: str, detail: str, *, can_retry: bool = True) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.can_retry = can_retry


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an image has no caption or no redraw: a reason that many share, and this one's own."""

    reason: str
    detail: str = ""
    can_retry: bool = False

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


def one_by_one(
    role: str, items: Sequence[S], make: Callable[[S], T | Failure]
) -> list[T | Failure]:
    """Make one thing of each item; what fails, or does not fit into memory, is a `Failure`.

    Args:
        role: What the reasons begin with.
        items: What is worked on.
        make: Raises `BackendFailed` where there is nothing.
    """

    def result(item: S) -> T | Failure:
        try:
            with left_out_if_too_large(BackendFailed):
                return make(item)
        except BackendFailed as failure:
            return Failure(f"{role}: {failure.reason}", failure.detail, failure.can_retry)

    return [result(item) for item in items]
