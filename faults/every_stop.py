"""Fault 2: a stop in every step of a run, each followed by a resume to the end."""

import signal
import sys
import tempfile
import time
from pathlib import Path

from faults.real_loop import Result, largest_gap, recipe_of, result_of, train
from faults.trials import Outcome, arguments, quantile, report
from uae.core.errors import Stopped
from uae.recipe.recipe import Recipe
from uae.runs.checkpoint import load_latest
from uae.runs.folder import CHECKPOINTS


def stop_and_resume(folder: Path, recipe: Recipe, step: int) -> tuple[bool, float, Result]:
    """Stop a run in a step and resume it.

    Returns:
        Whether it stopped as promised, the seconds of loading its state, and where it ended.
    """
    code = 0
    try:
        train(folder, recipe, stop_in=step)
    except Stopped as stopped:
        code = stopped.exit_code
    start = time.perf_counter()
    latest = load_latest(folder / CHECKPOINTS / "rl")
    seconds = time.perf_counter() - start
    good = code == 128 + signal.SIGTERM and latest is not None and latest.step == step + 1
    train(folder, recipe)
    return good, seconds, result_of(folder)


def main() -> int:
    """Stop in each step of a run that has as many steps as there are trials, an even number."""
    given = arguments(12)
    recipe = recipe_of("alternate", given.trials, given.seed)
    found, gaps, seconds = 0, [], []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        train(root / "whole", recipe)
        whole = result_of(root / "whole")
        for step in range(given.trials):
            good, taken_s, resumed = stop_and_resume(root / f"stop-{step}", recipe, step)
            found += good and resumed.equals(whole)
            gaps.append(largest_gap(whole.weights, resumed.weights))
            seconds.append(taken_s)
    return report(
        Outcome(
            number=2,
            fault="stop at every step, resume",
            how=f"SIGTERM in each of {given.trials} steps, encoder and decoder RL in turn",
            trials=given.trials,
            detected=found,
            lost=f"0 steps; max abs dw {max(gaps)}, optimizer state, place and metrics bitwise "
            "equal",
            recovery_p50_s=quantile(seconds, 0.5),
            recovery_p95_s=quantile(seconds, 0.95),
            passed=found == given.trials,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
