"""Fault 9: kill -9 at a random moment of saving a checkpoint."""

import itertools
import os
import random
import signal
import struct
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from faults.trials import Outcome, arguments, fork, quantile, report, wait
from uae.core.errors import DamagedCheckpoint
from uae.runs.checkpoint import load_latest, read_checkpoint, save_checkpoint, step_folders

NUM_VALUES = 500_000  # two tensors of 2 MB, one of 1 MB: about the state of a LoRA on a tiny model


@dataclass(frozen=True, slots=True)
class Killed:
    """What the child had said before it was killed; `last_done` is None before its first save."""

    last_begun: int
    last_done: int | None
    in_save: bool


def save_step(root: Path, step: int) -> None:
    """Save a state that is a function of the step, so that a wrong one is recognised."""
    value = torch.full((NUM_VALUES,), float(step))
    tensors = {"weight": value, "exp_avg": -value, "exp_avg_sq": value.to(torch.bfloat16)}
    save_checkpoint(root, step, tensors, {"step": step}, keep=2)


def save_for_ever(root: Path, first: int, pipe: int) -> int:
    """Save step after step, telling before and after each."""
    for step in itertools.count(first):
        os.write(pipe, struct.pack("<cq", b"b", step))
        save_step(root, step)
        os.write(pipe, struct.pack("<cq", b"d", step))
    return 0


def kill_once(root: Path, first: int, chance: random.Random, save_s: float) -> Killed:
    """Let a child save for a while and kill it at a random moment of a save."""
    reader, writer = os.pipe()
    child = fork(lambda: save_for_ever(root, first, writer))
    os.close(writer)
    said = [os.read(reader, 9) for _ in range(1 + 2 * chance.randrange(3))]
    time.sleep(chance.uniform(0, save_s))
    os.kill(child, signal.SIGKILL)
    wait(child)
    while message := os.read(reader, 9):
        said.append(message)
    os.close(reader)
    events = [struct.unpack("<cq", message) for message in said]
    begun = [step for kind, step in events if kind == b"b"]
    done = [step for kind, step in events if kind == b"d"]
    return Killed(begun[-1], max(done, default=None), events[-1][0] == b"b")


def state_is_right(root: Path, killed: Killed, step_before: int) -> bool:
    """Check the newest checkpoint, and that nothing visible is incomplete."""
    last_done = step_before if killed.last_done is None else killed.last_done
    try:
        latest = load_latest(root)
        for folder in step_folders(root):
            read_checkpoint(folder)
    except DamagedCheckpoint:
        return False
    if latest is None or latest.step not in (last_done, killed.last_begun):
        return False
    whole = (latest.tensors["weight"] == latest.step).all() and (
        latest.tensors["exp_avg"] == -latest.step
    ).all()
    return bool(whole) and latest.state == {"step": latest.step} and not latest.skipped


def main() -> int:
    """Run the trials; every one goes on from what the one before left."""
    given = arguments(200)
    chance = random.Random(given.seed)
    in_save, right, recovery_s = 0, 0, []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        save_step(root, 0)
        start = time.perf_counter()
        save_step(root, 1)
        save_s = time.perf_counter() - start
        step, step_before = 2, 1
        while in_save < given.trials:
            killed = kill_once(root, step, chance, save_s)
            start = time.perf_counter()
            latest = load_latest(root)
            recovery_s.append(time.perf_counter() - start)
            good = state_is_right(root, killed, step_before)
            in_save += killed.in_save
            right += good and killed.in_save
            if not good:
                break
            assert latest is not None
            step, step_before = killed.last_begun + 1, latest.step
    return report(
        Outcome(
            number=9,
            fault="kill -9 in save",
            how=f"SIGKILL at a uniform moment of a {save_s * 1e3:.0f} ms save of 5 MB",
            trials=in_save,
            detected=right,
            lost="0 unreadable, 0 wrong steps, at most the save that was killed",
            recovery_p50_s=quantile(recovery_s, 0.5),
            recovery_p95_s=quantile(recovery_s, 0.95),
            passed=right == in_save == given.trials,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
