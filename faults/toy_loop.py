"""The smallest loop that stands on what the real ones stand on: `Session`, `Learner` and `Run`."""

import hashlib
import time
from pathlib import Path

import torch
from torch import nn

from uae.core.errors import UaeError
from uae.flow.noise import stream
from uae.recipe.optimizer import OptimizerConfig
from uae.rewards.reward import Rewarder
from uae.runs.run import Run
from uae.scenes.source import SceneSource
from uae.train.learner import Learner
from uae.train.session import Session

STAGE = "toy"
SAVE_EVERY = 5


def new_model() -> nn.Module:
    """Return the same untrained model each time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))


def new_learner(model: nn.Module) -> Learner:
    """Train all of a model."""
    return Learner(dict(model.named_parameters()), OptimizerConfig(lr=1e-2))


def update(model: nn.Module, learner: Learner, seed: int, step: int) -> float:
    """Take one step of a regression on random data; return the loss."""
    draws = stream(seed, "toy", step)
    inputs = torch.randn(16, 32, generator=draws)
    order = torch.randperm(32, generator=draws)
    loss = (model(inputs) - inputs[:, order]).square().mean()
    loss.backward()
    learner.step()
    return loss.item()


def digest(learner: Learner) -> str:
    """Return a digest of weights and optimizer state."""
    tensors = learner.tensors()
    data = b"".join(name.encode() + tensors[name].numpy().tobytes() for name in sorted(tensors))
    return hashlib.sha256(data).hexdigest()


def train(folder: Path, num_steps: int, step_s: float) -> int:
    """Run or resume the loop; write `digest` at the end. Return the exit code.

    Args:
        folder: Run folder.
        num_steps: Steps in all.
        step_s: Seconds that every step takes at least.
    """
    model = new_model()
    learner = new_learner(model)
    try:
        with Run.open(folder, {"num_steps": num_steps}) as run:
            session = Session(
                stage=STAGE,
                model=model,  # a session only keeps it for its loop
                source=SceneSource("train", 1, 32, seed=0),
                rewarder=Rewarder({}),
                learners={"toy": learner},
                run=run,
                seed=0,
                checkpoint_every=SAVE_EVERY,
            )
            session.resume()
            for step in session.steps(STAGE, num_steps):
                with session.timed("update"):
                    loss = update(model, learner, session.seed, step)
                    time.sleep(step_s)
                session.log({"loss/mean": loss})
            (folder / "digest").write_text(digest(learner))
    except UaeError as error:
        return error.exit_code
    return 0
