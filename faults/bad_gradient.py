"""Fault 18: a gradient that is NaN or infinite. The run stops at the first, before the update."""

import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from torch import Tensor

from faults.real_loop import Result, bitwise_equal, recipe_of, result_of, train
from faults.trials import Outcome, arguments, report
from uae.core.errors import NonFinite
from uae.train.learner import Learner, StepReport

NUM_STEPS = 6
BAD = (float("nan"), float("inf"), float("-inf"))


@dataclass(slots=True)
class Injected:
    """The learner that got the gradient, and its state just before."""

    learner: Learner | None = None
    before: dict[str, Tensor] = field(default_factory=dict)
    num_updates: int = 0


@contextmanager
def bad_gradient(step: int, value: float, chance: random.Random) -> Iterator[Injected]:
    """Within this context, put `value` into one place of the gradients of a step."""
    plain, calls, injected = Learner.step, [], Injected()

    def spoiled(learner: Learner) -> StepReport:
        calls.append(learner)
        if len(calls) == step + 1:
            injected.learner, injected.num_updates = learner, learner.num_steps
            injected.before = {name: t.clone() for name, t in learner.tensors().items()}
            gradients = [p.grad for p in learner.parameters.values() if p.grad is not None]
            gradient = chance.choice(gradients)
            gradient[tuple(chance.randrange(size) for size in gradient.shape)] = value
        return plain(learner)

    with mock.patch.object(Learner, "step", spoiled):
        yield injected


def stops_unchanged(folder: Path, step: int, value: float, chance: random.Random) -> bool:
    """Spoil a step of a run; tell if it raised and left learner and optimizer bit for bit."""
    with bad_gradient(step, value, chance) as injected:
        try:
            train(folder, recipe_of("alternate", NUM_STEPS))
            return False
        except NonFinite as error:
            told = f"at update {injected.num_updates}: the weights were not changed" in str(error)
    learner = injected.learner
    return (
        told
        and learner is not None
        and bitwise_equal(injected.before, learner.tensors())
        and learner.num_steps == injected.num_updates
        and all(parameter.grad is None for parameter in learner.parameters.values())
    )


def main() -> int:
    """Spoil each step of a run in turn, then resume it without the fault."""
    given = arguments(12)
    chance = random.Random(given.seed)
    found = 0
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        train(root / "clean", recipe_of("alternate", NUM_STEPS))
        clean: Result = result_of(root / "clean")
        for trial in range(given.trials):
            folder = root / f"trial-{trial}"
            good = stops_unchanged(folder, trial % NUM_STEPS, BAD[trial % 3], chance)
            train(folder, recipe_of("alternate", NUM_STEPS))
            found += good and result_of(folder).equals(clean)
    return report(
        Outcome(
            number=18,
            fault="NaN gradient",
            how=f"NaN, Inf or -Inf in one place of one gradient, in each of {NUM_STEPS} steps of "
            "both sides in turn",
            trials=given.trials,
            detected=found,
            lost="stops at the first; weights and optimizer state bitwise unchanged; resumed, it "
            "ends as the clean run",
            passed=found == given.trials,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
