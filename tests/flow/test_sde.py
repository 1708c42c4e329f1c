"""Stochastic steps: closed forms, the ODE limit, marginals, and the rollout's promises."""

import math

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal

from uae.flow.noise import gaussian, stream
from uae.flow.ode import euler_step, ode_sample
from uae.flow.path import per_sample, to_eps, to_x0
from uae.flow.schedule import sigmas
from uae.flow.sde import (
    TRANSITIONS,
    Transition,
    check_window,
    cps_transition,
    log_prob,
    sde_rollout,
    sde_transition,
)

SIGMA = torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64)
SIGMA_NEXT = torch.tensor([0.8, 0.1, 0.0], dtype=torch.float64)


def latents_and_velocity(n: int = 3, dtype: torch.dtype = torch.float64):
    g = torch.Generator().manual_seed(0)
    shape = (n, 2, 4, 4)
    return torch.randn(shape, generator=g, dtype=dtype), torch.randn(
        shape, generator=g, dtype=dtype
    )


def field(latents: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    return torch.sin(3 * latents) + per_sample(sigma, latents) * latents - 0.2


def rollout(n: int = 8, rows: slice = slice(None), **settings):
    generators = [stream(0, i) for i in range(n)][rows]
    noise = gaussian(generators, (2, 3))
    arguments = {
        "window": range(1, 4),
        "noise_level": 0.7,
        "group_id": torch.arange(n)[rows] // 4,
        "policy_version": 5,
    } | settings
    return sde_rollout(field, noise, sigmas(6, 3.0), generators=generators, **arguments)


# --- closed forms ------------------------------------------------------------------------------


def test_sde_is_the_formula_of_flow_grpo():
    """mean and std in the form the paper prints, with s spelt out."""
    x, v = latents_and_velocity()
    transition = sde_transition(x, v, SIGMA, SIGMA_NEXT, 0.7)
    for i, (sigma, sigma_next) in enumerate(zip(SIGMA.tolist(), SIGMA_NEXT.tolist(), strict=True)):
        dt = sigma_next - sigma
        s = 0.7 * math.sqrt(sigma / (1 - sigma))
        mean = x[i] * (1 + s**2 / (2 * sigma) * dt)
        mean = mean + v[i] * (1 + s**2 * (1 - sigma) / (2 * sigma)) * dt
        torch.testing.assert_close(transition.mean[i], mean)
        assert transition.std[i].item() == pytest.approx(s * math.sqrt(-dt), rel=1e-12)


@pytest.mark.parametrize("start", [1.0, 1 - 6e-7, 1 + 6e-7])
def test_sde_at_sigma_one_uses_sigma_1(start: float):
    x, v = latents_and_velocity(1)
    sigma, sigma_1 = torch.tensor([start]).double(), torch.tensor([0.9], dtype=torch.float64)
    dt, a = -0.1, 0.7
    transition = sde_transition(x, v, sigma, sigma_1, a)
    mean = x * (1 + a**2 / (2 * (1 - 0.9)) * dt) + v * dt
    # 1e-5: starts 6e-7 away from 1 move the mean by about as much
    torch.testing.assert_close(transition.mean, mean, atol=1e-5, rtol=0)
    assert transition.std.item() == pytest.approx(a * math.sqrt(1 / 0.1 * 0.1), rel=1e-5)


def test_cps_is_the_formula_of_its_paper():
    x, v = latents_and_velocity()
    a = 0.6
    transition = cps_transition(x, v, SIGMA, SIGMA_NEXT, a)
    sigma_next = per_sample(SIGMA_NEXT, x)
    mean = (1 - sigma_next) * to_x0(x, v, SIGMA)
    mean = mean + sigma_next * math.cos(a * math.pi / 2) * to_eps(x, v, SIGMA)
    torch.testing.assert_close(transition.mean, mean)
    torch.testing.assert_close(transition.std, sigma_next * math.sin(a * math.pi / 2))


@pytest.mark.parametrize("noise_level", [0.2, 0.6, 1.0])
def test_cps_preserves_the_coefficients(noise_level: float):
    """x_0 keeps the factor 1 - sigma_next, old and new noise together sigma_next."""
    zeros, ones = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    sigma, sigma_next = torch.tensor([[0.7], [0.4]], dtype=torch.float64)

    def mean(x_0: torch.Tensor, eps: torch.Tensor) -> Transition:
        x = 0.3 * x_0 + 0.7 * eps
        return cps_transition(x, eps - x_0, sigma, sigma_next, noise_level)

    of_data, of_noise = mean(ones, zeros), mean(zeros, ones)
    assert of_data.mean.item() == pytest.approx(0.6)
    assert math.hypot(of_noise.mean.item(), of_noise.std.item()) == pytest.approx(0.4)


@pytest.mark.parametrize("rule", TRANSITIONS.values(), ids=TRANSITIONS)
def test_log_prob_is_that_of_torch_distributions(rule):
    x, v = latents_and_velocity()
    sigma_next = SIGMA_NEXT.clamp(min=0.05)
    transition = rule(x, v, SIGMA, sigma_next, 0.7)
    after = transition.mean + 0.3 * torch.cos(x)
    density = Normal(transition.mean, transition.std.expand_as(x)).log_prob(after)
    for reduction, expected in [
        ("sum", density.sum((1, 2, 3))),
        ("mean", density.mean((1, 2, 3))),
    ]:
        torch.testing.assert_close(log_prob(transition, after, reduction), expected)


def test_log_prob_gradient_is_the_score():
    """d log p / d v = (x_next - mean) / std^2 times the factor of v: the sample is no variable."""
    x, v = latents_and_velocity(1)
    v.requires_grad_()
    sigma, sigma_next = SIGMA[:1], SIGMA_NEXT[:1]
    transition = sde_transition(x, v, sigma, sigma_next, 0.7)
    after = transition.mean.detach() + 0.1
    log_prob(transition, after, "sum").sum().backward()
    of_velocity = (1 + 0.7**2 / 2) * (sigma_next - sigma)
    torch.testing.assert_close(
        v.grad, (of_velocity * 0.1 / transition.std.square()).expand_as(x).detach()
    )


# --- the ODE limit -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rule", TRANSITIONS.values(), ids=TRANSITIONS)
def test_without_noise_is_exactly_the_euler_step(rule, dtype: torch.dtype):
    x, v = latents_and_velocity(4, dtype)
    sigma = torch.tensor([1.0, 0.9, 0.5, 0.1], dtype=dtype)
    sigma_next = torch.tensor([0.9, 0.5, 0.1, 0.0], dtype=dtype)
    transition = rule(x, v, sigma, sigma_next, 0.0)
    assert torch.equal(transition.mean, euler_step(x, v, sigma, sigma_next))
    assert not transition.std.any()


@pytest.mark.parametrize("rule", TRANSITIONS.values(), ids=TRANSITIONS)
def test_without_noise_a_whole_sampling_is_diffusers(rule):
    x, _ = latents_and_velocity(3, torch.float32)
    theirs = ours = x
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(10)
    schedule = sigmas(10, 3.0).unsqueeze(1).expand(-1, 3)
    for step, t in enumerate(scheduler.timesteps):
        theirs = scheduler.step(field(theirs, schedule[step]), t, theirs).prev_sample
        v = field(ours, schedule[step])
        ours = rule(ours, v, schedule[step], schedule[step + 1], 0.0).mean
    assert torch.equal(ours, theirs)


# --- marginals ---------------------------------------------------------------------------------

DATA_MEAN, DATA_STD = 0.8, 0.5


def gaussian_velocity(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """E[eps - x_0 | x_sigma] for x_0 ~ N(DATA_MEAN, DATA_STD^2): exact, so are its marginals."""
    sigma = per_sample(sigma, x)
    variance = (1 - sigma) ** 2 * DATA_STD**2 + sigma**2
    covariance = sigma - (1 - sigma) * DATA_STD**2
    return -DATA_MEAN + covariance / variance * (x - (1 - sigma) * DATA_MEAN)


@pytest.mark.parametrize("noise_level", [0.3, 0.7])
def test_sde_and_ode_share_marginals(noise_level: float):
    num_steps, num_dims = 300, 40_000
    generator = stream(0, "marginals")
    noise = gaussian([generator], (num_dims,))
    schedule = sigmas(num_steps, 1.0)
    deterministic = ode_sample(gaussian_velocity, noise, schedule)
    stochastic, _ = sde_rollout(
        gaussian_velocity,
        noise,
        schedule,
        range(num_steps),
        noise_level,
        [generator],
        group_id=torch.zeros(1, dtype=torch.long),
        policy_version=0,
    )
    for samples in (deterministic, stochastic):
        # 0.015: 300 Euler steps are off by about 0.005, 40,000 samples by 0.0025 (std of the mean)
        assert samples.mean().item() == pytest.approx(DATA_MEAN, abs=0.015)
        assert samples.std().item() == pytest.approx(DATA_STD, abs=0.015)
    # and the noise did something: the two ends of a path are hardly related any more
    assert (stochastic - deterministic).std() > 0.1


# --- the rollout -------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", TRANSITIONS.values(), ids=TRANSITIONS)
def test_replay_gives_ratio_one_bit_for_bit(rule):
    _, trajectory = rollout(rule=rule)
    for w in range(3):
        before, after = trajectory.latents_before[:, w], trajectory.latents_after[:, w]
        sigma, sigma_next = trajectory.sigma[:, w], trajectory.sigma_next[:, w]
        transition = rule(before, field(before, sigma), sigma, sigma_next, 0.7)
        replayed = log_prob(transition, after, "mean")
        assert torch.equal(replayed, trajectory.log_probs[:, w])


def test_rollout_is_euler_outside_the_window_and_a_chain_inside():
    final, trajectory = rollout()
    schedule = sigmas(6, 3.0)
    noise = gaussian([stream(0, i) for i in range(8)], (2, 3))
    assert torch.equal(trajectory.latents_before[:, 0], ode_sample(field, noise, schedule[:2]))
    assert torch.equal(trajectory.latents_before[:, 1:], trajectory.latents_after[:, :-1])
    assert torch.equal(ode_sample(field, trajectory.latents_after[:, -1], schedule[4:]), final)
    assert torch.equal(trajectory.sigma[0], schedule[1:4])
    assert torch.equal(trajectory.sigma_next[7], schedule[2:5])


@pytest.mark.parametrize("micro_batch", [1, 3, 8])
def test_rollout_does_not_depend_on_the_micro_batch(micro_batch: int):
    whole_final, whole = rollout()
    parts = [rollout(rows=slice(i, i + micro_batch)) for i in range(0, 8, micro_batch)]
    assert torch.equal(torch.cat([final for final, _ in parts]), whole_final)
    for name in ("latents_before", "latents_after", "sigma", "sigma_next", "log_probs", "group_id"):
        joined = torch.cat([getattr(trajectory, name) for _, trajectory in parts])
        assert torch.equal(joined, getattr(whole, name)), name
    assert {trajectory.policy_version for _, trajectory in parts} == {whole.policy_version} == {5}


def test_samples_of_a_group_differ_and_shared_keys_do_not():
    generators = [stream(0, "a"), stream(0, "b"), stream(0, "a")]
    noise = gaussian([stream(1)] * 1, (2, 3)).expand(3, -1, -1)
    final, _ = sde_rollout(
        field,
        noise,
        sigmas(4, 3.0),
        range(1),
        0.7,
        generators,
        group_id=torch.zeros(3, dtype=torch.long),
        policy_version=0,
    )
    assert torch.equal(final[0], final[2])
    assert not torch.allclose(final[0], final[1])


def test_rollout_is_float32_without_gradient_for_a_low_precision_policy():
    weight = torch.ones((), dtype=torch.bfloat16, requires_grad=True)
    final, trajectory = sde_rollout(
        lambda x, sigma: weight * x.bfloat16(),
        torch.ones(1, 4),
        sigmas(4, 3.0),
        range(2),
        0.7,
        [stream(0)],
        group_id=torch.zeros(1, dtype=torch.long),
        policy_version=0,
    )
    tensors = (final, trajectory.latents_before, trajectory.latents_after, trajectory.log_probs)
    assert all(t.dtype == torch.float32 and not t.requires_grad for t in tensors)


@pytest.mark.parametrize(
    ("window", "noise_level", "rule", "message"),
    [
        (range(0), 0.7, "sde", "window"),
        (range(2, 7), 0.7, "sde", "window"),
        (range(-1, 2), 0.7, "sde", "window"),
        (range(0, 4, 2), 0.7, "sde", "window"),
        (range(2), 0.0, "sde", "noise_level"),
        (range(2), 1.5, "cps", "noise_level"),
        (range(4, 6), 0.7, "cps", "end the window at 5"),
    ],
)
def test_refuses_a_window_without_log_probs(window, noise_level, rule, message):
    with pytest.raises(ValueError, match=message):
        check_window(window, sigmas(6, 3.0), noise_level, TRANSITIONS[rule])


@settings(deadline=None, max_examples=50)
@given(
    num_steps=st.integers(2, 40),
    shift=st.floats(0.5, 12),
    noise_level=st.floats(0.01, 1),
    name=st.sampled_from(list(TRANSITIONS)),
)
def test_every_step_of_every_schedule_is_finite(num_steps, shift, noise_level, name):
    schedule = sigmas(num_steps, shift)[:-1]  # cps has no noise in the last step
    n = len(schedule) - 1
    x, v = torch.ones(n, 2), torch.full((n, 2), -0.5)
    transition = TRANSITIONS[name](x, v, schedule[:-1], schedule[1:], noise_level)
    assert transition.mean.isfinite().all()
    assert (transition.std > 0).all()
    assert log_prob(transition, transition.mean, "mean").isfinite().all()
