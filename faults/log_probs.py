"""Fault 6: log-probabilities of the rollout against those of training, at equal weights.

In every step of a run, before its update, what was sampled is scored again as the update scores it,
in micro-batches of several sizes.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from faults.real_loop import GROUP_SIZE, NUM_IMAGES, recipe_of, train
from faults.trials import Outcome, arguments, report
from uae.flow.sde import Trajectory
from uae.models.batches import parts_of
from uae.models.vlm.encoder import Captions
from uae.models.vlm.family import Prompts
from uae.recipe.encoder_rl import EncoderRLConfig
from uae.rl.decoder.flow_grpo import FlowGrpo
from uae.train import decoder_rl, encoder_rl
from uae.train.decoder_rl import MicroBatch
from uae.train.session import Session

LIMIT = 1e-5


@dataclass(slots=True)
class Gaps:
    """Differences log p - log p_old of one side, a tensor per rollout."""

    rollouts: list[Tensor] = field(default_factory=list)

    def add(self, differences: list[Tensor]) -> None:
        """Add a rollout's."""
        self.rollouts.append(torch.cat([d.flatten() for d in differences]).double())

    def num_within(self) -> int:
        """Count rollouts whose log-probabilities and ratios all agree within the limit."""
        both = [torch.stack([r, r.exp() - 1]).abs().max().item() for r in self.rollouts]
        return sum(gap <= LIMIT for gap in both)

    def __str__(self) -> str:
        gaps = torch.cat(self.rollouts)
        ratio = (gaps.exp() - 1).abs().max().item()
        return f"{gaps.abs().max().item():.2g} (ratio 1 +- {ratio:.2g}, {len(gaps):,} scores)"


def encoder_differences(
    session: Session, prompts: Prompts, captions: Captions, config: EncoderRLConfig
) -> list[Tensor]:
    """Score the tokens of a rollout in micro-batches of one image, of two, and of all."""
    found = []
    for size in (1, config.micro_images, NUM_IMAGES):
        for part in parts_of(len(prompts), size):
            rows = slice(part.start * GROUP_SIZE, part.stop * GROUP_SIZE)
            new = encoder_rl.score(session, prompts, captions, part, config)
            found.append((new - captions.log_probs[rows])[captions.mask[rows]])
    return found


def rows_of(trajectory: Trajectory, rows: slice) -> Trajectory:
    """Return some samples of a rollout."""
    tensors = {f.name: getattr(trajectory, f.name) for f in fields(trajectory)}
    del tensors["policy_version"]
    return replace(trajectory, **{name: tensor[rows] for name, tensor in tensors.items()})


def decoder_differences(
    session: Session,
    objective: FlowGrpo,
    batches: Sequence[MicroBatch],
) -> list[Tensor]:
    """Score the steps of a rollout by redraw, by group, and as they were sampled."""
    differences = []
    for batch in batches:
        for size in (1, GROUP_SIZE, len(batch.rows)):
            for part in parts_of(len(batch.rows), size):
                policy = decoder_rl.policy_of(session.model, batch.conditions[part])
                rollout = rows_of(batch.rollout, part)
                differences.append(objective.score(policy, rollout)[0] - rollout.log_probs)
    return differences


def measure(folder: Path, num_steps: int, seed: int) -> dict[str, Gaps]:
    """Run RL, the sides in turn, and measure each rollout before its update."""
    gaps = {"encoder": Gaps(), "decoder": Gaps()}
    plain_encoder, plain_decoder = encoder_rl.improve, decoder_rl.improve

    def improve_encoder(session, prompts, captions, old, advantages, config):
        with torch.no_grad():
            gaps["encoder"].add(encoder_differences(session, prompts, captions, config))
        return plain_encoder(session, prompts, captions, old, advantages, config)

    def improve_decoder(session, objective, batches, advantages, config):
        with torch.no_grad():
            gaps["decoder"].add(decoder_differences(session, objective, batches))
        return plain_decoder(session, objective, batches, advantages, config)

    with (
        mock.patch.object(encoder_rl, "improve", improve_encoder),
        mock.patch.object(decoder_rl, "improve", improve_decoder),
    ):
        train(folder, recipe_of("alternate", num_steps, seed))
    return gaps


def main() -> int:
    """Measure a run of as many steps as there are trials, an even number."""
    given = arguments(20)
    with tempfile.TemporaryDirectory() as temporary:
        gaps = measure(Path(temporary) / "run", given.trials, given.seed)
    found = sum(side.num_within() for side in gaps.values())
    return report(
        Outcome(
            number=6,
            fault="rollout against training log-probs",
            how="each rollout of a run scored again before its update, float32, in micro-batches "
            "of three sizes",
            trials=given.trials,
            detected=found,
            lost="largest gap: " + ", ".join(f"{side} {gap}" for side, gap in gaps.items()),
            passed=found == given.trials,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
