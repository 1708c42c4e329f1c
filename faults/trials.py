"""What every trial script shares: arguments, forked children, and the one JSON line it prints."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uae.runs.metrics import METRICS, read_metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Figures of one fault. `lost` says in words what was lost, at worst.

    The recovery times are None where there is nothing to recover from.
    """

    number: int
    fault: str
    how: str
    trials: int
    detected: int
    lost: str
    recovery_p50_s: float | None = None
    recovery_p95_s: float | None = None
    passed: bool


@dataclass(frozen=True, slots=True)
class Arguments:
    """Number of trials and the seed of their random draws."""

    trials: int
    seed: int


def arguments(trials: int) -> Arguments:
    """Parse the command line of a trial script; `trials` is the full number."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=trials)
    parser.add_argument("--seed", type=int, default=0)
    found = parser.parse_args()
    return Arguments(found.trials, found.seed)


def report(outcome: Outcome) -> int:
    """Print the outcome; return the exit code."""
    sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
    return 0 if outcome.passed else 1


def quantile(values: list[float], share: float) -> float:
    """Return the value below which `share` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def untimed_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the metrics of a run without the values that depend on the machine's speed."""
    return [
        {name: value for name, value in line.items() if not name.startswith(("time/", "wall_s"))}
        for line in read_metrics(folder / METRICS)
    ]


def fork(work: Callable[[], int], *, unprivileged: bool = False) -> int:
    """Run `work` in a child that inherits all imports; return its process id.

    Args:
        work: Its result is the child's exit code.
        unprivileged: Give up root in the child, which no file mode keeps out.
    """
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 2)
        if unprivileged and os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        code = work()
    finally:
        os._exit(code)


def wait(child: int) -> int:
    """Wait for a child; return its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def open_to_all(folder: Path) -> Path:
    """Let an unprivileged child work in a temporary folder of ours."""
    folder.chmod(0o777)
    return folder
