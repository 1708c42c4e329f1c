"""A benchmark run in a child that tells of its steps, for trials that break it on the way."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from faults.trials import fork, wait
from uae.core import environment
from uae.core.errors import UaeError

Show = Callable[..., None]
Fill = Callable[[Path, Show, bool], object]
"""Fills a run folder, told how steps are shown, and whether to try again what failed."""


@dataclass(frozen=True, slots=True)
class Child:
    """A run in a process of its own."""

    process: int
    pipe: int

    def await_steps(self, num: int) -> int:
        """Wait for some steps; return how many came before the run ended."""
        return sum(os.read(self.pipe, 1) != b"" for _ in range(num))

    def kill(self) -> bool:
        """Kill the run; tell if it was still at work."""
        os.kill(self.process, signal.SIGKILL)
        return self.end() == -signal.SIGKILL

    def end(self) -> int:
        """Wait for the run's end; return its exit code, negative for a signal."""
        code = wait(self.process)
        os.close(self.pipe)
        return code


@dataclass(frozen=True, slots=True)
class Whole:
    """An uninterrupted run."""

    files: dict[str, bytes]
    num_steps: int
    step_s: float


def begin(fill: Fill, out: Path, *, retry_failed: bool = False) -> Child:
    """Start a run, or take one up."""
    reader, writer = os.pipe()
    process = fork(partial(_work, fill, out, retry_failed, writer))
    os.close(writer)
    return Child(process, reader)


def _work(fill: Fill, out: Path, retry_failed: bool, pipe: int) -> int:
    def tell(*_: object) -> None:
        os.write(pipe, b".")

    try:
        fill(out, tell, retry_failed)
    except UaeError as error:
        return error.exit_code
    return 0


def fix_revision() -> None:
    """Look up the code's revision once for all runs: the checkout may be edited while they last."""
    revision = environment.source_revision(Path(environment.__file__).parents[2])
    environment.source_revision = lambda _: revision


def run_whole(fill: Fill, out: Path) -> Whole:
    """Run a benchmark from its beginning to its end."""
    child = begin(fill, out)
    num_steps, start = child.await_steps(1), time.perf_counter()
    while child.await_steps(1):
        num_steps += 1
    seconds = time.perf_counter() - start
    assert child.end() == 0, f"{out.name} does not run"
    return Whole(left_by(out), num_steps, seconds / num_steps)


def left_by(out: Path) -> dict[str, bytes]:
    """Return every file of a run: settings, rows, scores, captions, redraws."""
    paths = (path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}
