"""The smallest loop with all the state of a real one: weights, optimizer, two kinds of draws."""

import hashlib
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from uae.errors import UaeError
from uae.train.run import Run
from uae.train.state import (
    numpy_rng_state,
    optimizer_tensors,
    restore_numpy_rng_state,
    restore_optimizer,
    restore_rng_state,
    rng_state,
)

STAGE = "toy"
SAVE_EVERY = 5


class Toy:
    """A regression on random data, dropout from the global generator included."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Dropout(0.1), nn.Linear(64, 32))
        self.names = dict(self.model.named_parameters())
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.torch_generators = {
            "global": torch.default_generator,
            "data": torch.Generator().manual_seed(1),
        }
        self.numpy_generators = {"order": np.random.default_rng(2)}

    def update(self) -> float:
        """Take one step; return the loss."""
        inputs = torch.randn(16, 32, generator=self.torch_generators["data"])
        order = torch.from_numpy(self.numpy_generators["order"].permutation(32))
        loss = (self.model(inputs) - inputs[:, order]).square().mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def save(self, run: Run, step: int) -> None:
        """Save everything the next step depends on."""
        parts = {
            "weight": {name: p.detach() for name, p in self.names.items()},
            "optimizer": optimizer_tensors(self.optimizer, self.names),
            "rng": rng_state(self.torch_generators),
        }
        tensors = {f"{kind}/{n}": t for kind, part in parts.items() for n, t in part.items()}
        run.checkpoint(STAGE, step, tensors, {"numpy": numpy_rng_state(self.numpy_generators)})

    def resume(self, run: Run) -> int:
        """Put everything back; return the number of finished steps."""
        checkpoint = run.latest(STAGE)
        if checkpoint is None:
            return 0
        parts: dict[str, dict[str, torch.Tensor]] = {"weight": {}, "optimizer": {}, "rng": {}}
        for key, tensor in checkpoint.tensors.items():
            kind, _, name = key.partition("/")
            parts[kind][name] = tensor
        self.model.load_state_dict(parts["weight"])
        restore_optimizer(self.optimizer, self.names, parts["optimizer"])
        restore_rng_state(self.torch_generators, parts["rng"])
        restore_numpy_rng_state(self.numpy_generators, checkpoint.state["numpy"])
        return checkpoint.step

    def digest(self) -> str:
        """Return a digest of weights and optimizer state."""
        state = optimizer_tensors(self.optimizer, self.names)
        tensors = [p.detach() for p in self.names.values()] + [state[key] for key in sorted(state)]
        return hashlib.sha256(b"".join(t.numpy().tobytes() for t in tensors)).hexdigest()


def train(folder: Path, num_steps: int, step_s: float) -> int:
    """Run or resume the loop; write `digest` at the end. Return the exit code.

    Args:
        folder: Run folder.
        num_steps: Steps in all.
        step_s: Seconds that every step takes at least.
    """
    try:
        with Run.open(folder, {"num_steps": num_steps}) as run:
            toy = Toy()
            for step in range(toy.resume(run), num_steps):
                with run.metrics.step(step, STAGE, num_steps):
                    loss = toy.update()
                    time.sleep(step_s)
                    run.metrics.write({"loss/mean": loss})
                stop = run.should_stop
                if stop or (step + 1) % SAVE_EVERY == 0:
                    toy.save(run, step + 1)
                if stop:
                    raise run.stopped()
            (folder / "digest").write_text(toy.digest())
    except UaeError as error:
        return error.exit_code
    return 0
