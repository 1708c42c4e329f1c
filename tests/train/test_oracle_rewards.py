"""Flow-GRPO follows rewards that say exactly what is wanted: brightness, and darkness.

AWM and DiffusionNFT do not yet (docs/log.md).
"""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

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

CAPTIONS = [
    f"A large {color} {shape} in the center on a gray background."
    for color in ("red", "green", "blue", "yellow")
    for shape in ("circle", "square", "triangle", "star")
]


def brightness(model: UnifiedAutoEncoder) -> float:
    """Mean of redraws, two of each caption, on a scale of 1."""
    noise = model.decoder.noise([stream(9, i) for i in range(2 * len(CAPTIONS))])
    with torch.no_grad():
        conditions = model.condition(CAPTIONS * 2)
        return float(model.draw_conditions(conditions, noise, SamplingConfig(num_steps=4)).mean())


def change(objective: Mapping[str, Any], sign: int, folder) -> float:
    """Train on sign x brightness; return how brightness of held-out redraws changes."""
    config = DecoderRLConfig(
        num_images=8,
        num_redraws=8,
        num_sampling_steps=4,
        objective=objective,
        captioning=CaptioningConfig(num_captions=1, max_new_tokens=40),
        optimizer=OptimizerConfig(lr=2e-3),
        advantage_scale="group",
        kl_beta=0.0,
    )
    model = UnifiedAutoEncoder.from_pretrained("uae-tiny")
    before = brightness(model)
    parameters = model.tune_decoder(FineTuneConfig(), 0).parameters()

    def reward(_originals, redraws, _captions):
        return sign * redraws.flatten(1).mean(1)

    with Run.open(folder, {}) as run:
        session = Session(
            stage="rl",
            model=model,
            source=SceneSource("train", 1000, model.decoder.size_px, 0),
            rewarder=Rewarder({"oracle": (reward, 1.0)}),
            learners={"decoder": Learner(parameters, config.optimizer, "lr")},
            run=run,
            seed=0,
            checkpoint_every=1000,
        )
        decoder_rl.train(session, config, 12)
    return brightness(model) - before


@pytest.mark.slow
@pytest.mark.parametrize("sign", [1, -1], ids=["brightness", "darkness"])
@pytest.mark.parametrize(
    "objective",
    [
        {"name": "flow_grpo", "window": 1, "window_starts": 2},
        {"name": "flow_grpo", "rule": "cps", "window": 1, "window_starts": 2},
    ],
    ids=["sde", "cps"],
)
def test_an_objective_follows_an_oracle(objective, sign, tmp_path):
    assert sign * change(objective, sign, tmp_path) > 0.02
