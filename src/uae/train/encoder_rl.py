"""Generation for understanding: the encoder learns captions that the frozen decoder can redraw.

GRPO over tokens (arXiv 2509.09666, stage 2). Where we leave the paper: the loss is normalised by
the step's number of tokens (DAPO) or by a constant (Dr.GRPO), never per sequence, which favours
length.
"""

from typing import Literal

import torch
from einops import reduce
from jaxtyping import Bool, Float
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as config_dataclass
from torch import Tensor

from uae.core.config import STRICT, OpenShare
from uae.data.sources import Sample
from uae.models.batches import parts_of
from uae.models.encoder import Captions
from uae.models.settings import SamplingConfig
from uae.rl.advantage import group_advantages
from uae.rl.objective import Diagnostics, merged, token_denominator, token_loss
from uae.train.learner import OptimizerConfig, StepReport, check_finite
from uae.train.rollout import (
    CaptioningConfig,
    original_pixels,
    redraw,
    redraw_noise,
    write_captions,
)
from uae.train.session import Session
from uae.train.step_metrics import (
    caption_metrics,
    check_first_ratio,
    policy_metrics,
    reward_metrics,
    sampling_gap,
)


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class EncoderRLConfig:
    """Encoder side of Unified-GRPO."""

    num_steps: NonNegativeInt = 0
    """Steps of this side; 0 leaves it out."""
    num_images: PositiveInt = 16
    """Images per step."""
    captioning: CaptioningConfig = Field(default_factory=CaptioningConfig)
    """How the N captions of an image are sampled."""
    num_redraws: PositiveInt = 1
    """M, redraws per caption; a caption's reward is their mean."""
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    """How captions are redrawn."""
    micro_redraws: PositiveInt = 64
    """Images drawn at once; changes speed and memory, not the result."""
    optimizer: OptimizerConfig = Field(default_factory=lambda: OptimizerConfig(lr=1e-6))
    """Optimizer of the encoder."""
    num_updates: PositiveInt = 1
    """Optimizer steps per rollout."""
    micro_images: PositiveInt = 16
    """Images per backward pass; changes memory, not the result."""
    clip_low: OpenShare = 0.2
    """The ratio is clipped below 1 - clip_low."""
    clip_high: PositiveFloat = 0.28
    """The ratio is clipped above 1 + clip_high."""
    kl_beta: NonNegativeFloat = 1e-6
    """Weight of the k3 KL to the encoder before RL."""
    advantage_scale: Literal["group", "global", "none"] = "group"
    """What advantages are divided by: the group's spread, all rewards' spread, or nothing."""
    normalization: Literal["tokens", "constant"] = "tokens"
    """What the loss is divided by: the step's tokens, or captions x max_new_tokens."""


def train(session: Session, config: EncoderRLConfig, num_steps: int) -> None:
    """Run a turn of encoder RL: caption, redraw, score, compare, update."""
    model, n, m = session.model, config.captioning.num_captions, config.num_redraws
    for step in session.steps("encoder_rl", num_steps):
        samples = session.samples(config.num_images)
        with session.timed("caption"):
            captions = write_captions(model, samples, config.captioning, session.seed, step)
        with session.timed("redraw"):
            noise = redraw_noise(model, samples, n, m, session.seed, step)
            redraws = redraw(model, captions.texts, noise, config.sampling, config.micro_redraws)
        with session.timed("score"):
            scores = session.rewarder(original_pixels(samples), redraws)
        rewards = reduce(scores, "(n m) -> n", "mean", m=m)
        advantages = group_advantages(
            rewards,
            captions.group_id,
            ~captions.truncated.cpu(),
            scale=config.advantage_scale,
        )
        session.say_if_idle("encoder", advantages, int(captions.truncated.sum()))
        with session.timed("update"):
            old = scored_again(session, samples, captions, config)
            diagnostics, report = improve(
                session, samples, captions, old, advantages.values, advantages.kept, config
            )
        session.log(
            reward_metrics(rewards, advantages)
            | caption_metrics(captions)
            | policy_metrics(diagnostics, report)
            | {"policy/sampling_gap": sampling_gap(captions, old)}
        )


@torch.no_grad()
def scored_again(
    session: Session, samples: list[Sample], captions: Captions, config: EncoderRLConfig
) -> Float[Tensor, "n t"]:
    """Return the captions' log-probabilities before the update, in the update's batches."""
    parts = parts_of(len(samples), config.micro_images)
    return torch.cat([score(session, samples, captions, part, config) for part in parts])


def improve(
    session: Session,
    samples: list[Sample],
    captions: Captions,
    old: Float[Tensor, "n t"],
    advantages: Float[Tensor, " n"],
    kept: Bool[Tensor, " n"],
    config: EncoderRLConfig,
) -> tuple[Diagnostics, StepReport]:
    """Update the encoder on one rollout, `num_updates` times; diagnose the last update."""
    n = config.captioning.num_captions
    parts = parts_of(len(samples), config.micro_images)
    mask = captions.mask & kept[:, None].to(captions.mask.device)
    denominator = token_denominator(mask, config.normalization, config.captioning.max_new_tokens)
    for update in range(config.num_updates):
        parts_seen: list[Diagnostics] = []
        for part in parts:
            rows = slice(part.start * n, part.stop * n)
            reference = None
            if config.kl_beta:
                with session.model.encoder_reference():
                    reference = score(session, samples, captions, part, config)
            new = score(session, samples, captions, part, config)
            loss, diagnostics = token_loss(
                new,
                old[rows],
                advantages[rows].to(new.device),
                mask[rows],
                denominator,
                clip_low=config.clip_low,
                clip_high=config.clip_high,
                ref_log_probs=reference,
                beta=config.kl_beta,
            )
            check_finite(loss, f"encoder loss of step {session.step}", "encoder_rl.optimizer.lr")
            loss.backward()
            parts_seen.append(diagnostics)
        seen = merged(parts_seen)
        if update == 0:
            check_first_ratio("encoder", seen)
        report = session.learners["encoder"].step()
    return seen, report


def score(
    session: Session,
    samples: list[Sample],
    captions: Captions,
    part: slice,
    config: EncoderRLConfig,
) -> Float[Tensor, "n t"]:
    """Return the log-probabilities of the captions of the images in `part`."""
    encoder, n = session.model.encoder, config.captioning.num_captions
    rows = slice(part.start * n, part.stop * n)
    return encoder.log_probs(
        encoder.prompts([sample.image for sample in samples[part]]),
        captions.token_ids[rows],
        captions.mask[rows],
        config.captioning.temperature,
    )
