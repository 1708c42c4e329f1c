"""The one optimisation loop behind the parts of uae-tiny that have no stage of their own."""

from collections.abc import Callable

from torch import Tensor, nn

from uae.recipe.optimizer import OptimizerConfig
from uae.runs.run import Run
from uae.train.learner import Learner, check_finite

SAVE_EVERY = 100


def fit(
    run: Run,
    phase: str,
    model: nn.Module,
    loss_at: Callable[[int], tuple[Tensor, dict[str, float]]],
    num_steps: int,
    optimizer: OptimizerConfig,
) -> None:
    """Minimise `loss_at(step)` over `num_steps` steps, or over those that are still to do.

    Args:
        run: Takes metrics and checkpoints.
        phase: Names them.
        model: Module to train; left in eval mode.
        loss_at: Gives the loss of a step and numbers to log; what it draws is a function of the
            step, so that a run that was stopped goes on as if it had not been.
        num_steps: Number of updates in all.
        optimizer: Learning rate and its schedule.

    Raises:
        NonFinite: The loss or a gradient is not finite.
        Stopped: A signal asked for the end; the state is saved.
    """
    model.train()
    model.zero_grad()
    learner = Learner(dict(model.named_parameters()), optimizer)
    checkpoint = run.latest(phase)
    if checkpoint:
        learner.restore(checkpoint.tensors, checkpoint.step)
    for step in range(learner.num_steps, num_steps):
        with run.metrics.step(step, phase, num_steps):
            loss, numbers = loss_at(step)
            check_finite(loss, f"loss of step {step} of {phase}")
            loss.backward()
            learner.step()
            run.metrics.write({f"base/{name}": value for name, value in numbers.items()})
        stop = run.should_stop
        if stop or (step + 1) % SAVE_EVERY == 0 or step + 1 == num_steps:
            run.checkpoint(phase, step + 1, learner.tensors(), {})
        if stop:
            raise run.stopped()
    model.eval()


def cosine(lr: float, num_steps: int, *, muon: bool = True) -> OptimizerConfig:
    """Return the schedule of all parts: 2 % warm-up, then cosine decay."""
    return OptimizerConfig(
        lr=lr,
        name="muon" if muon else "adamw",
        weight_decay=0.01,
        warmup_steps=max(1, num_steps // 50),
        decay_steps=num_steps,
    )
