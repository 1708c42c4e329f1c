"""Micro-batches of captions."""

from collections.abc import Sequence


def parts_by_length(captions: Sequence[str], micro_batch: int) -> list[list[int]]:
    """Split a batch, captions of like length together, so that little of it is padding.

    Returns:
        The rows of each part; every row of `captions` is in one of them.
    """
    order = sorted(range(len(captions)), key=lambda i: len(captions[i]))
    return [order[i : i + micro_batch] for i in range(0, len(order), micro_batch)]


def parts_of(num_rows: int, size: int) -> list[slice]:
    """Split rows into micro-batches."""
    return [slice(i, min(i + size, num_rows)) for i in range(0, num_rows, size)]
