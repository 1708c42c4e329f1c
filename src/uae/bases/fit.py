"""The one optimisation loop behind the parts of uae-tiny that have no stage of their own."""

import logging
import time
from collections.abc import Callable

from torch import Tensor, nn

from uae.train.learner import Learner, OptimizerConfig, check_finite

log = logging.getLogger(__name__)

LOG_EVERY, SAVE_EVERY = 50, 500


def fit(
    model: nn.Module,
    loss_at: Callable[[int], tuple[Tensor, dict[str, float]]],
    num_steps: int,
    optimizer: OptimizerConfig,
    save: Callable[[], None],
) -> None:
    """Minimise `loss_at(step)` over `num_steps` steps; the model is left in eval mode.

    Args:
        model: Module to train.
        loss_at: Gives the loss of a step and numbers to log; draws its own batch from the step.
        num_steps: Number of updates.
        optimizer: Learning rate and its schedule.
        save: Writes the weights; called now and then, and at the end.

    Raises:
        NonFinite: The loss or a gradient is not finite.
    """
    model.train()
    model.zero_grad()
    learner = Learner(dict(model.named_parameters()), optimizer)
    start = time.monotonic()
    for step in range(num_steps):
        loss, numbers = loss_at(step)
        check_finite(loss, f"loss of step {step}")
        loss.backward()
        learner.step()
        if (step + 1) % LOG_EVERY == 0:
            shown = "  ".join(f"{name} {value:.4f}" for name, value in numbers.items())
            rate = (step + 1) / (time.monotonic() - start)
            log.info("step %d/%d  %.2f steps/s  %s", step + 1, num_steps, rate, shown)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == num_steps:
            model.eval()
            save()
            model.train()
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
