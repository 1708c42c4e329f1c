"""Understanding for generation: the decoder learns to use every word of the encoder's captions.

A group is the M redraws of one caption. The recipe's objective (`rl/decoder/`) draws them, and says
what is compared within a group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from uae.data.sources import Sample
from uae.models.batches import parts_of
from uae.models.conditions import Conditions
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.decoder_rl import DecoderRLConfig
from uae.rl.advantage import Advantages, group_advantages
from uae.rl.decoder.objective import DecoderObjective, Feedback, Policy, Start
from uae.rl.decoder.table import objective_of
from uae.train.learner import check_finite
from uae.train.rollout import original_pixels, redraw_noise, write_captions
from uae.train.session import Session
from uae.train.step_metrics import caption_metrics, reward_metrics

Objective = DecoderObjective[Any, Any]


def train(session: Session, config: DecoderRLConfig, num_steps: int) -> None:
    """Run a turn of decoder RL: caption, redraw, score, compare, update."""
    objective = objective_of(config)
    for _ in session.steps("decoder_rl", num_steps):
        samples = session.samples(config.num_images)
        with session.timed("caption", "encoder"):
            _, captions = write_captions(session, samples, config.captioning)
        with session.timed("redraw", *session.model.drawing):
            batches, redraws = explore(session, objective, samples, captions.texts, config)
        with session.timed("score", "rewards"):
            rewards = session.rewarder(original_pixels(samples), redraws, captions.texts)
        advantages = compare(rewards, config)
        session.say_if_idle("decoder", advantages)
        with session.timed("update", "decoder"):
            measured = improve(session, objective, batches, advantages, config)
        session.log(reward_metrics(rewards, advantages) | caption_metrics(captions) | measured)


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Redraws that are drawn together, and learnt from together.

    Attributes:
        rows: Their places in the step.
        conditions: What the decoder sees of their captions.
        rollout: What the objective needs to score them.
    """

    rows: range
    conditions: Conditions
    rollout: Any


@torch.no_grad()
def explore(
    session: Session,
    objective: Objective,
    samples: Sequence[Sample],
    texts: Sequence[str],
    config: DecoderRLConfig,
) -> tuple[list[MicroBatch], Float[Tensor, "n 3 y x"]]:
    """Redraw each caption M times.

    Returns:
        The micro-batches of the update, and the pixels of all redraws in their order.
    """
    model, m = session.model, config.num_redraws
    num_captions = len(texts) // len(samples)
    noise = redraw_noise(session, samples, num_captions, m, is_shared=objective.shares_start)
    sigmas = model.decoder.sigmas(config.num_sampling_steps, noise.shape[1:])
    batches, pixels = [], []
    for captions in parts_of(len(texts), config.micro_images * num_captions):
        of_captions = model.condition(texts[captions]).repeat_interleave(m)
        for part in parts_of(len(of_captions), config.micro_redraws or len(of_captions)):
            rows = range(captions.start * m + part.start, captions.start * m + part.stop)
            conditions = of_captions[part]
            start = Start(
                noise=noise[rows.start : rows.stop],
                sigmas=sigmas,
                group_id=group_id_of(rows, config),
                rows=rows,
                seed=session.seed,
                step=session.step,
            )
            latents, rollout = objective.draw(policy_of(model, conditions), start)
            batches.append(MicroBatch(rows, conditions, rollout))
            pixels.append(model.decoder.to_pixels(latents))
    return batches, torch.cat(pixels)


def improve(
    session: Session,
    objective: Objective,
    batches: Sequence[MicroBatch],
    advantages: Advantages,
    config: DecoderRLConfig,
) -> dict[str, float]:
    """Update the decoder on one rollout, `num_updates` times; return what the last update did."""
    num_kept = max(1, int(advantages.kept.sum()))
    for update in range(config.num_updates):
        measured = []
        for batch in batches:
            rows = slice(batch.rows.start, batch.rows.stop)
            policy = policy_of(session.model, batch.conditions)
            feedback = Feedback(advantages.values[rows], advantages.kept[rows], num_kept)
            loss, of_batch = objective.loss(policy, batch.rollout, feedback)
            check_finite(loss, f"decoder loss of step {session.step}", "decoder_rl.optimizer.lr")
            loss.backward()
            measured.append(of_batch)
        metrics = objective.metrics(measured, rounding=None if update else session.rounding)
        metrics |= session.learners["decoder"].step().metrics()
    return metrics


def compare(rewards: Float[Tensor, " n"], config: DecoderRLConfig) -> Advantages:
    """Compare the redraws of each caption."""
    return group_advantages(
        rewards,
        group_id_of(range(len(rewards)), config),
        torch.ones(len(rewards), dtype=torch.bool),
        scale=config.advantage_scale,
        clip=config.max_advantage,
    )


def group_id_of(rows: range, config: DecoderRLConfig) -> Tensor:
    """Return the caption that each redraw belongs to."""
    return torch.tensor([row // config.num_redraws for row in rows])


def policy_of(model: UnifiedAutoEncoder, conditions: Conditions) -> Policy:
    """Bind the decoder to the conditions of a micro-batch."""
    decoder = model.decoder

    def reference(x: Tensor, sigma: Tensor) -> Tensor:
        with model.decoder_reference():
            return decoder.velocity(x, sigma, conditions)

    return Policy(
        velocity=lambda x, sigma: decoder.repeatable_velocity(x, sigma, conditions),
        reference=reference,
    )
