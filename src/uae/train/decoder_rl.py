"""Understanding for generation: the decoder learns to use every word of the encoder's captions.

A group is the M redraws of one caption. Two objectives over the same advantages:

`flow_grpo`, Flow-GRPO (arXiv 2505.05470) with a window of stochastic steps: sampling is random
inside the window and deterministic outside it, and the window alone is trained.
`awm`, advantage-weighted matching (arXiv 2509.25050): sampling is deterministic from random starts,
and what is trained is the flow-matching loss at the drawn images, weighted by their advantages.
"""

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as config_dataclass
from torch import Tensor

from uae.core.config import STRICT, OpenShare
from uae.data.sources import Sample
from uae.flow.noise import stream
from uae.flow.path import noised
from uae.flow.rollout import concatenate, rows_of
from uae.flow.sde import TRANSITIONS, Trajectory, log_prob, sde_rollout
from uae.models.batches import parts_of
from uae.models.projector import Conditions
from uae.models.settings import SamplingConfig
from uae.models.unified import UnifiedAutoEncoder
from uae.rl.advantage import Advantages, group_advantages
from uae.rl.forward_process import Matching, draw_noisings, matching_log_prob, velocity_kl
from uae.rl.kl import Weighting, transition_kl
from uae.rl.objective import Diagnostics, flow_loss, merged
from uae.train.learner import OptimizerConfig, StepReport, check_finite
from uae.train.rollout import CaptioningConfig, original_pixels, redraw_noise, write_captions
from uae.train.session import Session
from uae.train.step_metrics import (
    caption_metrics,
    check_first_ratio,
    policy_metrics,
    reward_metrics,
)


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class DecoderRLConfig:
    """Decoder side of Unified-GRPO."""

    num_steps: NonNegativeInt = 0
    """Steps of this side; 0 leaves it out."""
    num_images: PositiveInt = 16
    """Images per step."""
    captioning: CaptioningConfig = Field(default_factory=lambda: CaptioningConfig(num_captions=1))
    """How the captions to redraw are sampled."""
    num_redraws: PositiveInt = 8
    """M, redraws per caption: the decoder's group."""
    objective: Literal["flow_grpo", "awm"] = "flow_grpo"
    """Likelihood of sampling steps, or matching of drawn images on the forward process."""
    num_sampling_steps: PositiveInt = 8
    """Steps from noise to image."""
    window: PositiveInt = 2
    """Consecutive stochastic steps; they are the trained ones."""
    window_starts: PositiveInt = 3
    """The window starts at step 0 .. window_starts - 1, drawn anew each step: high noise first."""
    rule: Literal["sde", "cps"] = "sde"
    """Flow-GRPO's stochastic step, or the coefficients-preserving one."""
    noise_level: PositiveFloat = 0.7
    """a of the stochastic step."""
    reduction: Literal["mean", "sum"] = "mean"
    """Of log-probabilities over latent dimensions; clip ranges scale with it."""
    num_noisings: PositiveInt = 2
    """Noisings of each image under `awm`; the window, rule and noise level are flow_grpo's."""
    optimizer: OptimizerConfig = Field(default_factory=lambda: OptimizerConfig(lr=3e-4))
    """Optimizer of the decoder."""
    num_updates: PositiveInt = 1
    """Optimizer steps per rollout."""
    micro_images: PositiveInt = 8
    """Images per backward pass, with all their redraws; changes memory, not the result."""
    clip: OpenShare = 1e-3
    """The ratio is clipped to 1 +- clip."""
    max_advantage: PositiveFloat = 5.0
    """Advantages are clipped to this size."""
    kl_beta: NonNegativeFloat = 0.01
    """Weight of the KL to the decoder before RL; under `awm` of the squared velocity distance, and
    without it (about 1) training falls apart."""
    kl_weighting: Weighting = "flow_grpo"
    """Scale of that KL: published betas belong to `flow_grpo`, exact but for |dt| under `sde`."""
    advantage_scale: Literal["group", "global", "none"] = "global"
    """What advantages are divided by; Flow-GRPO divides by the spread of all rewards."""


def train(session: Session, config: DecoderRLConfig, num_steps: int) -> None:
    """Run a turn of decoder RL: caption, redraw, score, compare, update."""
    model = session.model
    for step in session.steps("decoder_rl", num_steps):
        samples = session.samples(config.num_images)
        with session.timed("caption"):
            captions = write_captions(model, samples, config.captioning, session.seed, step)
        with session.timed("redraw"):
            conditions, trajectory, redraws = explore(
                session, samples, captions.texts, config, step
            )
        with session.timed("score"):
            rewards = session.rewarder(original_pixels(samples), redraws)
        advantages = group_advantages(
            rewards,
            trajectory.group_id,
            torch.ones(len(rewards), dtype=torch.bool),
            scale=config.advantage_scale,
            clip=config.max_advantage,
        )
        session.say_if_idle("decoder", advantages)
        with session.timed("update"):
            diagnostics, report = improve(session, conditions, trajectory, advantages, config)
        session.log(
            reward_metrics(rewards, advantages)
            | caption_metrics(captions)
            | policy_metrics(diagnostics, report)
        )


def window_at(config: DecoderRLConfig, seed: int, step: int) -> range:
    """Return the stochastic steps of a training step: the same for every sample of it."""
    start = int(torch.randint(config.window_starts, (), generator=stream(seed, "window", step)))
    return range(start, start + config.window)


@torch.no_grad()
def explore(
    session: Session, samples: list[Sample], texts: list[str], config: DecoderRLConfig, step: int
) -> tuple[list[Conditions], Trajectory | Matching, Float[Tensor, "n 3 y x"]]:
    """Redraw each caption M times.

    Returns:
        Conditions by micro-batch (as the update will use them), what the update scores, the pixels.
    """
    model, m = session.model, config.num_redraws
    num_captions = len(texts) // len(samples)
    noise = redraw_noise(model, samples, num_captions, m, session.seed, step)
    draw = stochastically if config.objective == "flow_grpo" else deterministically
    conditions, parts, pixels = [], [], []
    for texts_at in parts_of(len(texts), config.micro_images * num_captions):
        condition = model.condition(texts[texts_at]).repeat_interleave(m)
        rows = range(texts_at.start * m, texts_at.start * m + len(condition))
        latents, rollout = draw(
            session, condition, noise[rows.start : rows.stop], rows, config, step
        )
        conditions.append(condition)
        parts.append(rollout)
        pixels.append(model.decoder.to_pixels(latents))
    return conditions, concatenate(parts), torch.cat(pixels)


def group_of(rows: range, config: DecoderRLConfig) -> Int[Tensor, " n"]:
    """Return the caption that each redraw belongs to."""
    return torch.tensor([row // config.num_redraws for row in rows])


def stochastically(
    session: Session,
    condition: Conditions,
    noise: Float[Tensor, "n c h w"],
    rows: range,
    config: DecoderRLConfig,
    step: int,
) -> tuple[Float[Tensor, "n c h w"], Trajectory]:
    """Draw a micro-batch with noise in the window; `rows` are its places in the step."""
    decoder = session.model.decoder
    return sde_rollout(
        lambda x, sigma: decoder.velocity(x, sigma, condition),
        noise,
        decoder.sigmas(config.num_sampling_steps),
        window_at(config, session.seed, step),
        config.noise_level,
        [stream(session.seed, "explore", step, row) for row in rows],
        group_id=group_of(rows, config),
        policy_version=step,
        rule=TRANSITIONS[config.rule],
        reduction=config.reduction,
    )


def deterministically(
    session: Session,
    condition: Conditions,
    noise: Float[Tensor, "n c h w"],
    rows: range,
    config: DecoderRLConfig,
    step: int,
) -> tuple[Float[Tensor, "n c h w"], Matching]:
    """Draw a micro-batch by the plain sampler and score it on the forward process."""
    decoder = session.model.decoder
    latents = decoder.sample(condition, noise, SamplingConfig(num_steps=config.num_sampling_steps))
    group_id = group_of(rows, config)
    draws = {
        group: draw_noisings(config.num_noisings, decoder.latent_shape, session.seed, step, group)
        for group in group_id.unique().tolist()
    }
    drawn = Matching(
        x_0=latents.float(),
        eps=torch.stack([draws[g][1] for g in group_id.tolist()]).to(latents.device),
        sigma=torch.stack([draws[g][0] for g in group_id.tolist()]).to(latents.device),
        log_probs=torch.zeros(len(rows), config.num_noisings, device=latents.device),
        group_id=group_id,
        policy_version=step,
    )
    log_probs, _ = score_matching(session.model, condition, drawn, with_kl=False)
    return latents, replace(drawn, log_probs=log_probs)


def improve(
    session: Session,
    conditions: list[Conditions],
    rollout: Trajectory | Matching,
    advantages: Advantages,
    config: DecoderRLConfig,
) -> tuple[Diagnostics, StepReport]:
    """Update the decoder on one rollout, `num_updates` times; diagnose the last update."""
    parts = parts_of(len(advantages.values), len(conditions[0]))
    denominator = max(1, int(advantages.kept.sum()) * rollout.log_probs.shape[1])
    for update in range(config.num_updates):
        parts_seen: list[Diagnostics] = []
        for condition, rows in zip(conditions, parts, strict=True):
            loss, diagnostics = loss_of(
                session.model,
                condition,
                rows_of(rollout, rows),
                advantages.values[rows],
                advantages.kept[rows],
                denominator,
                config,
            )
            check_finite(loss, f"decoder loss of step {session.step}", "decoder_rl.optimizer.lr")
            loss.backward()
            parts_seen.append(diagnostics)
        seen = merged(parts_seen)
        if update == 0:
            check_first_ratio("decoder", seen)
        report = session.learners["decoder"].step()
    return seen, report


def loss_of(
    model: UnifiedAutoEncoder,
    condition: Conditions,
    rollout: Trajectory | Matching,
    advantages: Float[Tensor, " n"],
    kept: Bool[Tensor, " n"],
    denominator: int,
    config: DecoderRLConfig,
) -> tuple[Tensor, Diagnostics]:
    """Return one micro-batch's share of the loss: every term of its samples, scored again."""
    if isinstance(rollout, Matching):
        log_probs, kl = score_matching(model, condition, rollout, with_kl=config.kl_beta > 0)
    else:
        log_probs, kl = score_window(model, condition, rollout, config)
    return flow_loss(
        log_probs,
        rollout.log_probs,
        advantages.to(condition.embeds.device),
        denominator,
        clip_low=config.clip,
        clip_high=config.clip,
        kept=kept.to(condition.embeds.device),
        kl=kl,
        beta=config.kl_beta,
    )


def score_window(
    model: UnifiedAutoEncoder,
    condition: Conditions,
    trajectory: Trajectory,
    config: DecoderRLConfig,
) -> tuple[Float[Tensor, "n w"], Float[Tensor, "n w"] | None]:
    """Log-probabilities of the window's steps, and their KL to the reference where beta asks."""
    rule = TRANSITIONS[config.rule]
    log_probs, kls = [], []
    for k in range(config.window):
        x, sigma, sigma_next = (
            values[:, k]
            for values in (trajectory.latents_before, trajectory.sigma, trajectory.sigma_next)
        )
        velocity = model.decoder.velocity(x, sigma, condition)
        transition = rule(x, velocity, sigma, sigma_next, config.noise_level)
        log_probs.append(log_prob(transition, trajectory.latents_after[:, k], config.reduction))
        if config.kl_beta:
            with model.decoder_reference():
                before = model.decoder.velocity(x, sigma, condition)
            reference = rule(x, before, sigma, sigma_next, config.noise_level)
            kl = transition_kl(transition, reference, config.reduction)
            is_scaled = config.kl_weighting == "flow_grpo" and config.rule == "sde"
            kls.append(kl * (sigma - sigma_next) if is_scaled else kl)
    return torch.stack(log_probs, dim=1), torch.stack(kls, dim=1) if kls else None


def score_matching(
    model: UnifiedAutoEncoder, condition: Conditions, drawn: Matching, *, with_kl: bool
) -> tuple[Float[Tensor, "n w"], Float[Tensor, "n w"] | None]:
    """Minus the matching losses, and where asked for the distances to the reference."""
    log_probs, kls = [], []
    for k in range(drawn.sigma.shape[1]):
        eps, sigma = drawn.eps[:, k], drawn.sigma[:, k]
        x = noised(drawn.x_0, eps, sigma)
        velocity = model.decoder.velocity(x, sigma, condition)
        log_probs.append(matching_log_prob(velocity, drawn.x_0, eps))
        if with_kl:
            with model.decoder_reference():
                kls.append(velocity_kl(velocity, model.decoder.velocity(x, sigma, condition)))
    return torch.stack(log_probs, dim=1), torch.stack(kls, dim=1) if kls else None
