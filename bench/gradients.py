"""Does the first gradient of a decoder objective point to where its reward rises?

python -m bench.gradients flow_grpo awm nft

The reward is brightness, whose true gradient is known: it passes through the sampler and the vae.
For each objective of `bench/oracle.py` prints the cosine of the two, over batches of 8 long
captions of 8 redraws (mean and standard error), of their sum, and between batches. Nothing is
trained.
"""

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from bench.oracle import CAPTIONS, OBJECTIVES
from uae.flow.noise import stream
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.decoder_rl import DecoderRLConfig
from uae.recipe.optimizer import FineTuneConfig
from uae.recipe.sampling import SamplingConfig
from uae.rl.decoder.objective import Feedback, Start
from uae.rl.decoder.table import objective_of
from uae.scenes.source import SceneSource
from uae.train.decoder_rl import compare, group_id_of, policy_of

NUM_STEPS = 4


class Gradients:
    """Gradients of what is trained of uae-tiny's decoder, as one vector."""

    def __init__(self) -> None:
        self.model = UnifiedAutoEncoder.from_pretrained("uae-tiny")
        self._parameters = list(self.model.tune_decoder(FineTuneConfig(), 0).parameters().values())
        self._source = SceneSource("train", 10_000, self.model.decoder.size_px, 0)

    def captions(self, batch: int, number: int) -> list[str]:
        """Return long captions of scenes, others for each batch."""
        return [str(self._source.sample(100 * batch + i, i).caption) for i in range(number)]

    def of(self, value: Tensor) -> Tensor:
        """Return the gradient of a value."""
        found = torch.autograd.grad(value, self._parameters, allow_unused=True)
        pairs = zip(found, self._parameters, strict=True)
        return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])

    def of_brightness(self, captions: Sequence[str], seed: int) -> Tensor:
        """Return the true gradient of the mean brightness of redraws."""
        decoder = self.model.decoder
        noise = decoder.noise([stream(seed, i) for i in range(len(captions))])
        sampling = SamplingConfig(num_steps=NUM_STEPS)
        latents = decoder.sample(self.model.condition(captions), noise, sampling)
        return self.of(decoder.to_pixels(latents).mean())

    def of_objective(self, config: DecoderRLConfig, batch: int) -> Tensor:
        """Return the direction in which an objective's first update goes."""
        model, objective, m = self.model, objective_of(config), config.num_redraws
        rows = range(config.num_images * m)
        with torch.no_grad():
            conditions = model.condition(self.captions(batch, config.num_images))
            conditions = conditions.repeat_interleave(m)
            keys = [row // m if objective.shares_start else row for row in rows]
            noise = model.decoder.noise([stream(0, "start", batch, key) for key in keys])
            sigmas = model.decoder.sigmas(NUM_STEPS, noise.shape[1:])
            start = Start(noise, sigmas, group_id_of(rows, config), rows, seed=0, step=batch)
            latents, rollout = objective.draw(policy_of(model, conditions), start)
            advantages = compare(model.decoder.to_pixels(latents).flatten(1).mean(1), config)
        feedback = Feedback(advantages.values, advantages.kept, int(advantages.kept.sum()))
        return -self.of(objective.loss(policy_of(model, conditions), rollout, feedback)[0])


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("objectives", nargs="+", choices=OBJECTIVES)
    parser.add_argument("--num-batches", type=int, default=10)
    parser.add_argument("--fixed-captions", action="store_true", help="those of bench/oracle.py")
    flags = parser.parse_args()
    gradients = Gradients()
    texts = (
        [CAPTIONS] * 2
        if flags.fixed_captions
        else [gradients.captions(50 + i, 16) for i in range(8)]
    )
    truth = torch.stack([gradients.of_brightness(x, seed) for seed, x in enumerate(texts)]).sum(0)
    for name in flags.objectives:
        config = DecoderRLConfig(
            num_images=8,
            num_redraws=8,
            num_sampling_steps=NUM_STEPS,
            objective=OBJECTIVES[name],
            advantage_scale="group",
            kl_beta=0.0,
        )
        found = [gradients.of_objective(config, batch) for batch in range(flags.num_batches)]
        cosines = [cosine(x, truth) for x in found]
        row = {
            "objective": name,
            "cosine": statistics.mean(cosines),
            "standard_error": statistics.stdev(cosines) / len(cosines) ** 0.5,
            "of_sum": cosine(torch.stack(found).sum(0), truth),
            "between_batches": statistics.mean(
                cosine(a, b) for a, b in itertools.combinations(found, 2)
            ),
        }
        values = {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}
        sys.stdout.write(json.dumps(values) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
