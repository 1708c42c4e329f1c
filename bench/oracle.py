"""Does a decoder objective follow a reward that says exactly what is wanted?

python bench/oracle.py flow_grpo nft --lr 1e-3 --num-steps 8

Trains uae-tiny's decoder on brightness and on darkness, 8 captions of 8 redraws a step, no KL term,
and prints how the mean brightness of 32 redraws of fixed captions from fixed noise changes, on a
scale of 1. Seed 0.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uae.flow.noise import stream
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.decoder_rl import DecoderRLConfig
from uae.recipe.optimizer import FineTuneConfig, OptimizerConfig
from uae.recipe.sampling import CaptioningConfig, SamplingConfig
from uae.rewards.reward import Rewarder
from uae.runs.run import Run
from uae.scenes.source import SceneSource
from uae.train import decoder_rl
from uae.train.learner import Learner
from uae.train.session import Session

OBJECTIVES: dict[str, dict[str, Any]] = {
    "flow_grpo": {"name": "flow_grpo", "window": 1, "window_starts": 2},
    "flow_grpo-own-starts": {
        "name": "flow_grpo",
        "window": 1,
        "window_starts": 2,
        "start": "redraw",
    },
    "flow_grpo-cps": {"name": "flow_grpo", "rule": "cps", "window": 1, "window_starts": 2},
    "awm": {"name": "awm"},
    "nft": {"name": "nft"},
}
SIGNS = {"brightness": 1, "darkness": -1}
CAPTIONS = [
    f"A large {color} {shape} in the center on a gray background."
    for color in ("red", "green", "blue", "yellow")
    for shape in ("circle", "square", "triangle", "star")
]


def brightness(model: UnifiedAutoEncoder) -> float:
    """Return the mean of redraws, two of each caption, on a scale of 1."""
    noise = model.decoder.noise([stream(9, i) for i in range(2 * len(CAPTIONS))])
    with torch.no_grad():
        conditions = model.condition(CAPTIONS * 2)
        return float(model.draw_conditions(conditions, noise, SamplingConfig(num_steps=4)).mean())


def change(objective: str, reward: str, lr: float, num_steps: int, folder: Path) -> float:
    """Train on a reward of `SIGNS`; return how the brightness of fixed redraws changes.

    Args:
        objective: Of `OBJECTIVES`.
        reward: What is wanted.
        lr: Learning rate.
        num_steps: Steps of decoder RL.
        folder: Of the run.
    """
    config = DecoderRLConfig(
        num_images=8,
        num_redraws=8,
        num_sampling_steps=4,
        objective=OBJECTIVES[objective],
        captioning=CaptioningConfig(num_captions=1, max_new_tokens=40),
        optimizer=OptimizerConfig(lr=lr),
        advantage_scale="group",
        kl_beta=0.0,
    )
    model = UnifiedAutoEncoder.from_pretrained("uae-tiny")
    before = brightness(model)
    parameters = model.tune_decoder(FineTuneConfig(), 0).parameters()

    def score(_originals: Tensor, redraws: Tensor, _captions: object) -> Tensor:
        return SIGNS[reward] * redraws.flatten(1).mean(1)

    with Run.open(folder, {}) as run:
        session = Session(
            stage="rl",
            model=model,
            source=SceneSource("train", 1000, model.decoder.size_px, 0),
            rewarder=Rewarder({"oracle": (score, 1.0)}),
            learners={"decoder": Learner(parameters, config.optimizer, "lr")},
            run=run,
            seed=0,
            checkpoint_every=1000,
        )
        decoder_rl.train(session, config, num_steps)
    return brightness(model) - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("objectives", nargs="+", choices=OBJECTIVES)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--num-steps", type=int, default=8)
    flags = parser.parse_args()
    for objective in flags.objectives:
        for reward in SIGNS:
            start = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                value = change(objective, reward, flags.lr, flags.num_steps, Path(folder))
            row = {"objective": objective, "reward": reward, "lr": flags.lr}
            row |= {"num_steps": flags.num_steps, "change": round(value, 4)}
            row["seconds"] = round(time.perf_counter() - start, 1)
            sys.stdout.write(json.dumps(row) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
