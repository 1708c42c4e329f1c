"""Memory that does not suffice, of a GPU or of the machine, told apart from faults of ours.

Where work comes one item at a time, an item that is too large is left out; elsewhere the command
ends and says what would take less.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OUT_OF_MEMORY = "out of memory"
"""Reason of an item that is left out."""

REMEDY = (
    "take smaller batches (--batch-size; in a recipe the keys micro_batch, micro_images, "
    "micro_redraws), or a device with more memory; what was done is kept"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says so; torch is not imported for it."""
    torch = sys.modules.get("torch")
    return isinstance(error, MemoryError) or (
        torch is not None and isinstance(error, torch.OutOfMemoryError)
    )


def wanted(error: BaseException) -> str:
    """Return how much was asked for and what there was, of torch's long words the first."""
    return str(error).partition(" Including ")[0].strip()


@contextmanager
def left_out_if_too_large(failure: Callable[[str, str], Exception]) -> Iterator[None]:
    """Raise what leaves an item out if it does not fit into memory: made of reason and detail."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise failure(OUT_OF_MEMORY, wanted(error)) from error
