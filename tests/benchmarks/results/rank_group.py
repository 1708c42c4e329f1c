"""Groups of processes that meet over gloo, started as torchrun would, from a server with torch."""

import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch.distributed
from forty_items import ITEMS, run_forty

from uae.core.errors import RunFailed, UaeError
from uae.core.ranks import gathered, leave
from uae.runs.rows import ITEMS as ITEMS_FILE

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["torch.distributed", "uae.core.environment", "uae.benchmarks.results.run"]
)


def start(size: int, work: Callable[..., None], *arguments: object) -> Sequence[BaseProcess]:
    """Start the ranks of one group."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [
        CONTEXT.Process(target=_as_rank, args=(rank, size, port, work, arguments))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    return processes


def ended(processes: Sequence[BaseProcess]) -> list[int | None]:
    """Wait for all, and return their exit codes."""
    for process in processes:
        process.join(600)  # a busy machine takes its time
    return [process.exitcode for process in processes]


def kill(processes: Sequence[BaseProcess]) -> None:
    """Kill all of them as the kernel would."""
    for process in processes:
        process.kill()
    ended(processes)


def _as_rank(rank: int, size: int, port: int, work: Callable[..., None], arguments) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
    }
    try:
        work(*arguments)
    except UaeError as error:
        sys.stderr.write(f"rank {rank}: {error}\n")
        leave(is_done=False)
        sys.exit(error.exit_code)
    leave(is_done=True)


# -- what a rank does ---------------------------------------------------------------------------


def forty(folder: Path, log: Path, pause_s: float = 0.0, items: Sequence[str] = ITEMS) -> None:
    """Run the forty items; each is logged as (rank, item) before it is begun."""

    def before_item(item: str) -> None:
        with log.open("a") as file:
            file.write(f"{os.environ['RANK']} {item}\n")
        time.sleep(pause_s)

    run_forty(folder, items=items, before_item=before_item)


def with_a_faulty_rank(folder: Path) -> None:
    """Rank 1 ends in the middle."""

    def before_item(item: str) -> None:
        if os.environ["RANK"] == "1" and int(item) > 20:
            raise RunFailed("rank 1 has had enough")

    run_forty(folder, before_item=before_item)


def with_other_settings(folder: Path) -> None:
    """Rank 1 has another model than rank 0."""
    run_forty(folder, model=f"m{os.environ['RANK']}")


def one_late(folder: Path) -> None:
    """Rank 1 is done later than rank 0, which parts with it nevertheless."""
    gathered(None)
    if os.environ["RANK"] == "1":
        time.sleep(1)
        (folder / "late").touch()
    leave(is_done=True)
    assert not torch.distributed.is_initialized()
    assert (folder / "late").exists()


def one_gone(folder: Path) -> None:
    """Rank 1 fails when rank 0 is done."""
    gathered(None)
    if os.environ["RANK"] == "1":
        raise RunFailed("rank 1 has had enough")
    leave(is_done=True)
    (folder / "done").touch()


def rows_on_disk(folder: Path) -> set[str]:
    """Names of the items that have a whole row in any rank's file."""
    found = set()
    for path in folder.glob(f"{Path(ITEMS_FILE).stem}*.jsonl"):
        for line in path.read_bytes().split(b"\n")[:-1]:
            found.add(line.split(b'"')[3].decode())
    return found
