"""Fault 15: an output folder that is read-only, missing, no folder, or slow."""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from faults.trials import Outcome, arguments, fork, open_to_all, quantile, report, wait
from uae.core.errors import EXIT_DONE, EXIT_ENVIRONMENT, EXIT_USAGE, UaeError
from uae.runs.checkpoint import load_latest
from uae.runs.folder import CHECKPOINTS
from uae.runs.run import Run

LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of bad folder: what the child does with it, and the exit code it must end with."""

    name: str
    work: Callable[[Path], None]
    code: int
    keeps_checkpoint: bool = False


def open_run(folder: Path) -> None:
    """Begin a run."""
    with Run.open(folder, {"seed": 0}) as run:
        run.latest("toy")


def read_only(folder: Path) -> None:
    """The folder exists and may not be written."""
    folder.mkdir()
    folder.chmod(0o555)
    open_run(folder)


def read_only_parent(folder: Path) -> None:
    """The folder cannot be made."""
    folder.mkdir()
    folder.chmod(0o555)
    open_run(folder / "run")


def a_file(folder: Path) -> None:
    """A file has the folder's name."""
    folder.write_text("notes")
    open_run(folder)


def below_a_file(folder: Path) -> None:
    """A file has the name of the folder's parent."""
    folder.write_text("notes")
    open_run(folder / "run")


def missing(folder: Path) -> None:
    """The folder and its parents do not exist: they are made."""
    open_run(folder / "deep" / "run")


def slow(folder: Path) -> None:
    """Every sync takes 5 s."""
    real = os.fsync

    def delayed(descriptor: int) -> None:
        time.sleep(LIMIT_S)
        real(descriptor)

    os.fsync = delayed
    open_run(folder)


def between_saves(folder: Path, spoil: Callable[[Path], None]) -> None:
    """Save once, spoil the folder, save again."""
    with Run.open(folder, {"seed": 0}) as run:
        run.latest("toy")
        run.checkpoint("toy", 1, {"weight": torch.ones(10)}, {})
        spoil(folder)
        run.checkpoint("toy", 2, {"weight": torch.ones(10)}, {})


def forbid(folder: Path) -> None:
    """Take away the right to write checkpoints."""
    (folder / CHECKPOINTS / "toy").chmod(0o555)


CASES = (
    Case("read-only folder", read_only, EXIT_ENVIRONMENT),
    Case("read-only parent", read_only_parent, EXIT_ENVIRONMENT),
    Case("a file of that name", a_file, EXIT_USAGE),
    Case("a file as its parent", below_a_file, EXIT_ENVIRONMENT),
    Case("missing, with parents", missing, EXIT_DONE),
    Case("sync takes 5 s", slow, EXIT_ENVIRONMENT),
    Case("read-only between saves", partial(between_saves, spoil=forbid), EXIT_ENVIRONMENT, True),
    Case("deleted between saves", partial(between_saves, spoil=shutil.rmtree), EXIT_ENVIRONMENT),
)


def exit_code(work: Callable[[Path], None], folder: Path) -> int:
    """Do the work as the command line would: an error's message and its exit code."""
    try:
        work(folder)
    except UaeError as error:
        return error.exit_code if str(error) else 1
    return EXIT_DONE


def attempt(case: Case, folder: Path) -> tuple[bool, float]:
    """Run a case in a child without root's rights."""
    start = time.perf_counter()
    code = wait(fork(partial(exit_code, case.work, folder), unprivileged=True))
    seconds = time.perf_counter() - start
    good = code == case.code and seconds <= LIMIT_S
    if case.keeps_checkpoint:
        latest = load_latest(folder / CHECKPOINTS / "toy")
        good = good and latest is not None and latest.step == 1 and not latest.skipped
    return good, seconds


def main() -> int:
    """Run every case in turn."""
    given = arguments(5 * len(CASES))
    found, seconds = 0, []
    with tempfile.TemporaryDirectory() as temporary:
        root = open_to_all(Path(temporary))
        for trial in range(given.trials):
            good, taken_s = attempt(CASES[trial % len(CASES)], root / f"trial-{trial}")
            found += good
            seconds.append(taken_s)
    return report(
        Outcome(
            number=15,
            fault="output folder unusable",
            how="; ".join(case.name for case in CASES),
            trials=given.trials,
            detected=found,
            lost="0; the checkpoint before is untouched, unless the folder was deleted",
            recovery_p50_s=quantile(seconds, 0.5),
            recovery_p95_s=quantile(seconds, 0.95),
            passed=found == given.trials,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
