"""Several processes that share one evaluation, as torchrun starts them.

torchrun numbers them by RANK, of WORLD_SIZE in all, LOCAL_RANK on one machine. Only small objects
travel between them, over gloo on the CPU. A process alone needs no group, and imports no torch.

    todo = once(lambda: missing(names))     # rank 0 looks, all know
    for name in share(todo):
        append(own_path(path), name)
    all_failures = gathered(failures)       # all have written
    once(lambda: take_in(path, parse, key))
"""

import functools
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from uae.core.errors import RunFailed, UsageError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

T = TypeVar("T")

_MEETING = timedelta(minutes=30)
"""All have started within it."""
_WAITING = timedelta(days=7)
"""One rank may be hours behind; the connection tells at once if it ends."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """The place of this process among all `size`."""

    rank: int = 0
    size: int = 1
    local: int = 0
    """Rank among those of this machine, and so the number of its GPU."""

    @property
    def is_first(self) -> bool:
        """True for the process that writes results, and speaks."""
        return self.rank == 0


def current() -> Ranks:
    """Read this process's place from the environment; without WORLD_SIZE it is alone."""
    size = _number("WORLD_SIZE") if "WORLD_SIZE" in os.environ else 1
    if size == 1:
        return Ranks()
    ranks = Ranks(_number("RANK"), size, _number("LOCAL_RANK"))
    if ranks.rank >= size:
        raise UsageError(f"RANK is {ranks.rank}: expected less than WORLD_SIZE, which is {size}")
    return ranks


def _number(variable: str) -> int:
    text = os.environ.get(variable, "")
    if not text.isdecimal() or (variable == "WORLD_SIZE" and int(text) == 0):
        raise UsageError(
            f"the environment variable {variable} is {text!r}: expected a number, as torchrun "
            "sets it; without WORLD_SIZE there is one process"
        )
    return int(text)


def prefix() -> str:
    """Return what a line on stderr begins with: empty for rank 0."""
    try:
        rank = current().rank
    except UsageError:  # said as an error of its own
        return ""
    return f"rank {rank}: " if rank else ""


def check_alone(verb: str) -> None:
    """Refuse to run a verb in several processes, which would write to the same files."""
    size = current().size
    if size > 1:
        raise UsageError(
            f"{verb} runs in one process, and WORLD_SIZE is {size}: start it without torchrun"
        )


def share(items: Sequence[T]) -> Sequence[T]:
    """Return every size-th item, from this rank's first on."""
    ranks = current()
    return items[ranks.rank :: ranks.size]


def own_path(path: Path) -> Path:
    """Return the file that this rank appends to: `path` itself for rank 0, one beside it else."""
    rank = current().rank
    return path.with_name(f"{path.stem}-rank{rank}{path.suffix}") if rank else path


def other_paths(path: Path) -> list[Path]:
    """List what other ranks appended to, now or in a run that was stopped."""
    return sorted(path.parent.glob(f"{path.stem}-rank*{path.suffix}"))


def once(make: Callable[[], T]) -> T:
    """Have rank 0 do something when all ranks are here, and give each of them what it returned.

    If it raises there, rank 0 ends, and the others with it: see `gathered`.
    """
    ranks = current()
    if ranks.size == 1:
        return make()
    gathered(None)
    values: list[Any] = gathered(make() if ranks.is_first else None)
    return values[0]


def gathered(value: T) -> list[T]:
    """Return the values of all ranks, in their order, when all are here.

    Raises:
        UsageError: The ranks cannot find each other.
        RunFailed: Another rank has ended.
    """
    ranks = current()
    if ranks.size == 1:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * ranks.size
    try:
        dist.all_gather_object(values, value, group=_group())
    except RuntimeError as error:  # gloo's word for a connection that is gone
        raise RunFailed(
            "another process of this run has ended, or never came; its own message says why"
        ) from error
    return values


def leave(*, is_done: bool) -> None:
    """Part from the others, since a process that ends connected may abort there.

    Args:
        is_done: Wait until the others are done too, or have ended; their own messages say why.
    """
    if not _group.cache_info().currsize:
        return
    import torch.distributed as dist

    if is_done:
        with suppress(RunFailed):
            gathered(None)
    _group.cache_clear()
    dist.destroy_process_group()


@functools.cache
def _group() -> "ProcessGroup":
    """Meet the others, once in a process's life."""
    import torch.distributed as dist

    for variable in ("MASTER_ADDR", "MASTER_PORT"):
        if variable not in os.environ:
            raise UsageError(
                f"WORLD_SIZE is {current().size} and {variable} is not set: start the processes "
                "with torchrun, or unset WORLD_SIZE to run one"
            )
    dist.init_process_group("gloo", timeout=_MEETING)
    group = dist.new_group(backend="gloo", timeout=_WAITING)
    assert isinstance(group, dist.ProcessGroup), "every rank is in the group of all"
    return group
