"""Fault 12: SIGTERM at a random moment of a run, then resume; and a second SIGTERM."""

import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from faults.toy_loop import SAVE_EVERY, STAGE, new_learner, new_model, train
from faults.trials import Outcome, arguments, fork, quantile, report, untimed_metrics, wait
from uae.runs.checkpoint import load_latest
from uae.runs.folder import CHECKPOINTS
from uae.runs.metrics import METRICS, read_metrics

NUM_STEPS = 30
STEP_S = 0.005
STOPPED = 128 + signal.SIGTERM


@dataclass(frozen=True, slots=True)
class Result:
    """What a finished run leaves: a digest of its state, and its metrics without timings."""

    digest: str
    metrics: list[dict[str, object]]


def result_of(folder: Path) -> Result:
    """Read a finished run."""
    return Result((folder / "digest").read_text(), untimed_metrics(folder))


def wait_for_step(folder: Path) -> None:
    """Wait until the run has written its first metrics: then signals are watched."""
    path = folder / METRICS
    while not (path.exists() and path.stat().st_size):
        time.sleep(0.002)


def stop_and_resume(
    folder: Path, chance: random.Random, expected: Result, number: signal.Signals = signal.SIGTERM
) -> tuple[bool, float]:
    """Stop a run once and let it finish; tell if all went well, and the seconds to the exit.

    SIGKILL may cost the steps since the last checkpoint, and nothing else.
    """
    child = fork(partial(train, folder, NUM_STEPS, STEP_S))
    wait_for_step(folder)
    time.sleep(chance.uniform(0, 0.6 * NUM_STEPS * STEP_S))
    steps_before = len(read_metrics(folder / METRICS))
    start = time.perf_counter()
    os.kill(child, number)
    code = wait(child)
    seconds = time.perf_counter() - start
    latest = load_latest(folder / CHECKPOINTS / STAGE)
    step = latest.step if latest else 0
    if number == signal.SIGTERM:
        kept = code == STOPPED and step >= steps_before
    else:
        kept = code == -number and step >= steps_before - SAVE_EVERY
    resumed = wait(fork(partial(train, folder, NUM_STEPS, STEP_S)))
    return kept and resumed == 0 and result_of(folder) == expected, seconds


def stop_twice(folder: Path) -> tuple[bool, float]:
    """Send a second SIGTERM during a step that takes a minute; measure how long it lives."""
    child = fork(partial(train, folder, 5, 60.0))
    wait_for_lock(folder)
    os.kill(child, signal.SIGTERM)
    time.sleep(0.1)
    start = time.perf_counter()
    os.kill(child, signal.SIGTERM)
    code = wait(child)
    return code == -signal.SIGTERM, time.perf_counter() - start


def wait_for_lock(folder: Path) -> None:
    """Wait until a run is open, and a little longer, until its first step has begun."""
    while not (folder / METRICS).exists():
        time.sleep(0.002)
    time.sleep(0.3)


def main() -> int:
    """Run the trials; a fifth as many for the second signal."""
    given = arguments(60)
    chance = random.Random(given.seed)
    new_learner(
        new_model()
    )  # an optimizer's first use imports for seconds, which children would do each
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        assert wait(fork(partial(train, root / "whole", NUM_STEPS, STEP_S))) == 0
        expected = result_of(root / "whole")
        stops = [stop_and_resume(root / f"stop-{i}", chance, expected) for i in range(given.trials)]
        kills = [stop_twice(root / f"kill-{i}") for i in range(max(1, given.trials // 5))]
    seconds = [s for _, s in stops]
    kill_s = max(s for _, s in kills)
    found = sum(good for good, _ in stops) + sum(good for good, _ in kills)
    trials = len(stops) + len(kills)
    return report(
        Outcome(
            number=12,
            fault="SIGTERM, and a second one",
            how=f"{len(stops)} at a random moment of a run, {len(kills)} in a step of 60 s",
            trials=trials,
            detected=found,
            lost=f"0 steps; resumed runs bitwise equal; the second kills within {kill_s:.2f} s",
            recovery_p50_s=quantile(seconds, 0.5),
            recovery_p95_s=quantile(seconds, 0.95),
            passed=found == trials and max(seconds) <= 30 and kill_s <= 2,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
