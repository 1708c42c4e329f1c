"""Fault 1: the same seed twice must end in the same weights.

The second run has a process of its own, so that neither the order of sets nor the state of global
generators can be what makes the two alike.
"""

import multiprocessing
import sys
import tempfile
from pathlib import Path

from faults.real_loop import SIDES, Result, largest_gap, recipe_of, result_of, train
from faults.trials import Outcome, arguments, report

NUM_STEPS = 20


def run_twice(root: Path, seed: int) -> tuple[Result, Result]:
    """Train here, then in a new process."""
    recipe = recipe_of("alternate", NUM_STEPS, seed)
    train(root / "here", recipe)
    child = multiprocessing.get_context("spawn").Process(
        target=train, args=(root / "there", recipe)
    )
    child.start()
    child.join()
    assert child.exitcode == 0, f"the second run ended with code {child.exitcode}"
    return result_of(root / "here"), result_of(root / "there")


def largest_move(result: Result, side: str) -> float:
    """Return how far a side's adapters have moved from zero, where they began."""
    outer = {k: v for k, v in result.weights.items() if k.startswith(side) and "lora_B" in k}
    return max(value.abs().max().item() for value in outer.values())


def main() -> int:
    """Train twice with each seed."""
    given = arguments(3)
    found, gaps, moves = 0, [], []
    for seed in range(given.seed, given.seed + given.trials):
        with tempfile.TemporaryDirectory() as root:
            here, there = run_twice(Path(root), seed)
        gaps.append(largest_gap(here.weights, there.weights))
        moves += [largest_move(here, side) for side in SIDES]
        found += here.equals(there) and min(moves) > 0
    return report(
        Outcome(
            number=1,
            fault="same seed twice",
            how=f"{NUM_STEPS} steps, encoder and decoder RL in turn, in two processes per seed",
            trials=given.trials,
            detected=found,
            lost=f"max abs dw {max(gaps)} where training moved each side's weights by "
            f"{min(moves):.1g} or more; optimizer state and metrics equal too",
            passed=found == given.trials and max(gaps) == 0.0,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
