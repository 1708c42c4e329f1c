"""Stochastic sampling with log-probabilities: what makes a flow model a policy.

Both rules below turn one Euler step into a Gaussian p(x_next | x) around a shifted mean, and are
that Euler step, bit for bit, at noise level a = 0. With dt = sigma_next - sigma < 0:

`sde`, Flow-GRPO (arXiv 2505.05470, section 4.1; yifan123/flow_grpo, sd3_sde_with_logprob.py):
    s    = a sqrt(sigma / (1 - sigma))                  (sigma = 1: see `_one_minus_sigma`)
    mean = x (1 + s^2 / (2 sigma) dt) + v (1 + s^2 (1 - sigma) / (2 sigma)) dt
    std  = s sqrt(-dt)
`cps`, coefficients-preserving sampling (arXiv 2509.05952; `sde_type="cps"` in the same file):
    mean = (1 - sigma_next) x_0 + sigma_next cos(a pi / 2) eps
    std  = sigma_next sin(a pi / 2)
    with x_0, eps the ends of the line through x along v. We give it its Gaussian log-probability;
    flow_grpo drops 1 / (2 std^2) there, so its clip ranges for CPS do not transfer.

All arithmetic is at least float32: a log-probability of latents kept in bfloat16 is off by as much
as published clip ranges (1e-5 .. 1e-4).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from uae.flow.noise import gaussian
from uae.flow.ode import Velocity, euler_step
from uae.flow.path import per_sample, to_eps
from uae.flow.rollout import Rollout

Reduction = Literal["mean", "sum"]
"""Over latent dimensions. "sum" is the log-density; "mean" is Flow-GRPO's: the ratio becomes the
D-th root of the likelihood ratio, and clip ranges have to shrink with it."""


@dataclass(frozen=True, slots=True)
class Transition:
    """The Gaussian p(x_next | x) of one stochastic step.

    Attributes:
        mean: Carries the gradient to the velocity.
        std: One value per sample, in axes of length one; 0 where the step is deterministic.
    """

    mean: Float[Tensor, " b *latent"]
    std: Float[Tensor, "b *#latent"]


TransitionRule = Callable[[Tensor, Tensor, Tensor, Tensor, float], Transition]
"""(latents, velocity, sigma, sigma_next, noise_level) -> Transition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory(Rollout):
    """The stochastic window of a rollout; a term is log p(x_next | x) of one of its steps.

    Attributes:
        latents_before: x at the start of each step.
        latents_after: The x_next that was drawn; an action, never to be drawn again.
        sigma: At the start of each step, in (0, 1].
        sigma_next: At its end.
    """

    latents_before: Float32[Tensor, "n w *latent"]
    latents_after: Float32[Tensor, "n w *latent"]
    sigma: Float32[Tensor, "n w"]
    sigma_next: Float32[Tensor, "n w"]


def _one_minus_sigma(sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """1 - sigma, kept away from the pole of s at sigma = 1 by taking the next sigma there.

    sigma = 1 is the first step, so the next one is Flow-GRPO's sigma_1. The comparison has a
    margin because a shifted float32 schedule may start some roundings away from 1.
    """
    return 1 - torch.where(sigma > 1 - 1e-5, sigma_next, sigma)


def sde_coefficients(
    sigma: Float[Tensor, " b"], sigma_next: Float[Tensor, " b"], noise_level: float
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Factors of x and v in the mean of Flow-GRPO's step, and its std."""
    dt = sigma_next - sigma
    variance_rate = noise_level**2 / _one_minus_sigma(sigma, sigma_next)  # s^2 / sigma
    of_latents = 1 + variance_rate / 2 * dt
    of_velocity = (1 + variance_rate / 2 * (1 - sigma)) * dt
    std = (variance_rate * sigma * -dt).sqrt()
    return of_latents, of_velocity, std


def sde_transition(
    latents: Float[Tensor, " b *latent"],
    velocity: Float[Tensor, " b *latent"],
    sigma: Float[Tensor, " b"],
    sigma_next: Float[Tensor, " b"],
    noise_level: float,
) -> Transition:
    """Flow-GRPO's step.

    Args:
        latents: x at `sigma`; float32 or float64.
        velocity: v_theta(x, sigma); carries the gradient.
        sigma: Start of the step, in (0, 1].
        sigma_next: End of the step, in [0, sigma).
        noise_level: a >= 0; Flow-GRPO uses 0.7 for SD3.5.
    """
    of_latents, of_velocity, std = sde_coefficients(sigma, sigma_next, noise_level)
    mean = per_sample(of_latents, latents) * latents + per_sample(of_velocity, latents) * velocity
    return Transition(mean, per_sample(std, latents))


def cps_transition(
    latents: Float[Tensor, " b *latent"],
    velocity: Float[Tensor, " b *latent"],
    sigma: Float[Tensor, " b"],
    sigma_next: Float[Tensor, " b"],
    noise_level: float,
) -> Transition:
    """Coefficients-preserving step: it replaces a part of the predicted noise, adding none.

    Arguments as for `sde_transition`, with `noise_level` in [0, 1]; 1 replaces all of it.
    """
    angle = noise_level * math.pi / 2
    eps = to_eps(latents, velocity, sigma)
    replaced = per_sample(sigma_next * (1 - math.cos(angle)), latents)
    # (1 - sigma_next) x_0 + sigma_next eps is the Euler step: written so, a = 0 is exactly that
    mean = euler_step(latents, velocity, sigma, sigma_next) - replaced * eps
    return Transition(mean, per_sample(sigma_next * math.sin(angle), latents))


TRANSITIONS: dict[str, TransitionRule] = {"sde": sde_transition, "cps": cps_transition}


def log_prob(
    transition: Transition, latents_after: Float[Tensor, " b *latent"], reduction: Reduction
) -> Float[Tensor, " b"]:
    """log N(x_next; mean, std) = -(x_next - mean)^2 / (2 std^2) - log std - log sqrt(2 pi).

    Args:
        transition: With a std above 0.
        latents_after: x_next, as stored by the rollout.
        reduction: Over latent dimensions.
    """
    z = (latents_after - transition.mean) / transition.std
    per_dim = -z.square() / 2 - transition.std.log() - math.log(2 * math.pi) / 2
    return reduced(per_dim, reduction)


def reduced(per_dim: Float[Tensor, " b *latent"], reduction: Reduction) -> Float[Tensor, " b"]:
    """Sum or mean over all but the first axis."""
    flat = per_dim.flatten(1)
    return flat.mean(1) if reduction == "mean" else flat.sum(1)


@torch.no_grad()
def sde_rollout(
    velocity: Velocity,
    noise: Float[Tensor, " n *latent"],
    sigmas: Float[Tensor, " t"],
    window: range,
    noise_level: float,
    generators: Sequence[torch.Generator],
    *,
    group_id: Int[Tensor, " n"],
    policy_version: int,
    rule: TransitionRule = sde_transition,
    reduction: Reduction = "mean",
) -> tuple[Float32[Tensor, " n *latent"], Trajectory]:
    """Sample with stochastic steps inside `window` and Euler steps outside it.

    Each sample draws from its own generator, so the result does not depend on how samples are split
    into micro-batches. Returns the latents at the last sigma, and the steps of the window.

    Args:
        velocity: The policy.
        noise: Latents at sigmas[0].
        sigmas: From `schedule.sigmas`.
        window: Consecutive step numbers. It must be the same for all samples of a group. Steps at
            high noise are worth most; noise in the last step stays in the image.
        noise_level: a > 0.
        generators: One per sample, on the CPU (`noise.stream`).
        group_id: Goes into the trajectory, as does `policy_version`.
        policy_version: The step of the stage whose policy samples.
        rule: Of the stochastic steps.
        reduction: Of the log-probabilities.

    Raises:
        ValueError: If the window does not lie in the schedule, or a step in it would have no noise.
    """
    check_window(window, sigmas, noise_level, rule)
    assert len(generators) == len(noise), f"{len(generators)} generators, {len(noise)} samples"
    latents = noise.float()
    steps: list[tuple[Tensor, Tensor, Tensor]] = []
    schedule = sigmas.to(noise.device, torch.float32).unsqueeze(1).expand(-1, len(noise))
    for step, (sigma, sigma_next) in enumerate(pairwise(schedule)):
        v = velocity(latents, sigma)
        if step not in window:
            latents = euler_step(latents, v, sigma, sigma_next)
            continue
        transition = rule(latents, v, sigma, sigma_next, noise_level)
        z = gaussian(generators, latents.shape[1:]).to(latents.device)
        before, latents = latents, transition.mean + transition.std * z
        steps.append((before, latents, log_prob(transition, latents, reduction)))
    trajectory = Trajectory(
        latents_before=torch.stack([before for before, _, _ in steps], dim=1),
        latents_after=torch.stack([after for _, after, _ in steps], dim=1),
        sigma=schedule[window.start : window.stop].T.contiguous(),
        sigma_next=schedule[window.start + 1 : window.stop + 1].T.contiguous(),
        log_probs=torch.stack([log_p for _, _, log_p in steps], dim=1),
        group_id=group_id,
        policy_version=policy_version,
    )
    return latents, trajectory


def check_window(
    window: range, sigmas: Float[Tensor, " t"], noise_level: float, rule: TransitionRule
) -> None:
    """Refuse a window whose steps do not exist or have no log-probability.

    Raises:
        ValueError: Says which setting is wrong and what would be right.
    """
    num_steps = len(sigmas) - 1
    if len(window) == 0 or window.step != 1 or window.start < 0 or window.stop > num_steps:
        raise ValueError(
            f"window = {window}: must be one or more consecutive steps of range(0, {num_steps})"
        )
    if noise_level <= 0 or (rule is cps_transition and noise_level > 1):
        raise ValueError(
            f"noise_level = {noise_level}: must be above 0, and at most 1 for cps; "
            "sampling without noise has no log-probabilities"
        )
    if rule is cps_transition and window.stop == num_steps and sigmas[-1] == 0:
        raise ValueError(
            f"window = {window}: the last step of cps has no noise; "
            f"end the window at {num_steps - 1}"
        )
