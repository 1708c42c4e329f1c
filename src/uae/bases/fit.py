"""The one optimisation loop behind every tiny base: Muon for matrices, AdamW for the rest."""

import logging
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

WARMUP_SHARE = 0.02
FINAL_SHARE = 0.02  # of the peak learning rate, at the last step


def optimizers(model: nn.Module, lr: float, use_muon: bool) -> list[torch.optim.Optimizer]:
    """Split parameters: matrices inside blocks go to Muon, all others to AdamW.

    Args:
        model: Module with the parameters to train.
        lr: Peak learning rate of both (Muon's update is scaled to AdamW's RMS).
        use_muon: False gives AdamW for all, as convolutional models want.
    """
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    embeddings = ("embed", "head", "projection")
    matrices = [
        p
        for name, p in trained
        if use_muon and p.ndim == 2 and not any(e in name for e in embeddings)
    ]
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in trained if id(p) not in chosen]
    result: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    ]
    if matrices:
        muon = torch.optim.Muon(matrices, lr=lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
        result.append(muon)
    return result


def cosine_share(step: int, num_steps: int) -> float:
    """Return the learning rate's share of its peak: linear warm-up, then cosine decay."""
    warmup = max(1, round(WARMUP_SHARE * num_steps))
    if step < warmup:
        return (step + 1) / warmup
    progress = torch.tensor((step - warmup) / max(1, num_steps - warmup))
    cosine = 0.5 * (1 + torch.cos(torch.pi * progress)).item()
    return FINAL_SHARE + (1 - FINAL_SHARE) * cosine


def fit(
    model: nn.Module,
    loss_at: Callable[[int], tuple[Tensor, dict[str, float]]],
    num_steps: int,
    lr: float,
    *,
    use_muon: bool = True,
    save: Callable[[], None] | None = None,
    save_every: int = 500,
) -> None:
    """Minimise `loss_at(step)` over `num_steps` steps, logging every 100.

    Args:
        model: Module to train; left in eval mode.
        loss_at: Gives the loss of a step and numbers to log; draws its own batch from the step.
        num_steps: Number of updates.
        lr: Peak learning rate.
        use_muon: See `optimizers`.
        save: Called every `save_every` steps and at the end.
        save_every: Number of steps between saves.
    """
    model.train()
    parts = optimizers(model, lr, use_muon)
    start = time.monotonic()
    for step in range(num_steps):
        for part in parts:
            for group in part.param_groups:
                group["lr"] = lr * cosine_share(step, num_steps)
        loss, numbers = loss_at(step)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"step {step}: the loss is {loss.item()}")
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for part in parts:
            part.step()
            part.zero_grad(set_to_none=True)
        if step % 100 == 99:
            shown = "  ".join(f"{k} {v:.4f}" for k, v in numbers.items())
            rate = (step + 1) / (time.monotonic() - start)
            log.info("step %d/%d  %.2f steps/s  %s", step + 1, num_steps, rate, shown)
        if save and (step + 1) % save_every == 0:
            model.eval()
            save()
            model.train()
    model.eval()
    if save:
        save()
