"""KL estimators and exact forms against torch.distributions, in float64."""

import pytest
import torch
from torch.distributions import Categorical, Normal, kl_divergence

from uae.flow.sde import cps_transition, sde_transition
from uae.rl.kl import k1, k3, transition_kl

SIGMA = torch.tensor([1.0, 0.9, 0.5, 0.2], dtype=torch.float64)
SIGMA_NEXT = torch.tensor([0.9, 0.8, 0.1, 0.05], dtype=torch.float64)


def tensors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return tuple(torch.randn(4, 2, 3, 3, generator=g, dtype=torch.float64) for _ in range(3))


def test_estimators_are_unbiased():
    """The expectation under p, summed over all outcomes, is the KL itself."""
    g = torch.Generator().manual_seed(0)
    p, ref = torch.randn(2, 9, generator=g, dtype=torch.float64).log_softmax(1)
    exact = kl_divergence(Categorical(logits=p), Categorical(logits=ref))
    for estimator in (k1, k3):
        torch.testing.assert_close((p.exp() * estimator(p, ref)).sum(), exact)


def test_k3_is_never_negative_and_zero_at_equality():
    difference = torch.linspace(-3, 3, 101, dtype=torch.float64)
    estimate = k3(difference, torch.zeros_like(difference))
    assert (estimate >= 0).all()
    assert estimate[50] == 0


@pytest.mark.parametrize("rule", [sde_transition, cps_transition])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_transition_kl_is_that_of_torch_distributions(rule, reduction):
    x, v, v_ref = tensors()
    p, ref = (rule(x, velocity, SIGMA, SIGMA_NEXT, 0.7) for velocity in (v, v_ref))
    per_dim = kl_divergence(
        Normal(p.mean, p.std.expand_as(x)), Normal(ref.mean, ref.std.expand_as(x))
    )
    expected = per_dim.mean((1, 2, 3)) if reduction == "mean" else per_dim.sum((1, 2, 3))
    torch.testing.assert_close(transition_kl(p, ref, reduction), expected)


def test_flow_grpo_weighting_is_the_formula_of_its_code():
    """flow_grpo, train_sd3.py: ((mean - mean_ref) ** 2).mean() / (2 * std_dev_t ** 2), no dt."""
    x, v, v_ref = tensors()
    a = 0.7
    p, ref = (sde_transition(x, u, SIGMA, SIGMA_NEXT, a) for u in (v, v_ref))
    one_minus_sigma = torch.tensor([0.1, 0.1, 0.5, 0.8], dtype=torch.float64)  # sigma_1 at first
    s = a * (SIGMA / one_minus_sigma).sqrt()
    theirs = (p.mean - ref.mean).square().mean((1, 2, 3)) / (2 * s**2)
    ours = transition_kl(p, ref, "mean") * (SIGMA - SIGMA_NEXT)  # as in `FlowGrpo.score`
    torch.testing.assert_close(ours, theirs)
