"""The loss of DiffusionNFT, in closed form."""

import pytest
import torch

from uae.core.errors import RunFailed
from uae.flow.path import to_x0
from uae.recipe.decoder_rl import DecoderRLConfig, NftConfig
from uae.rl.decoder.nft import Drawn, Nft, matching_error
from uae.rl.decoder.objective import Feedback, Policy, Start

NUM, NOISINGS = 4, 2
ADVANTAGES = torch.tensor([1.0, -1.0, 0.5, -0.5])


def objective(**settings) -> Nft:
    beta = settings.pop("kl_beta", 0.0)
    return Nft(NftConfig(num_noisings=NOISINGS, **settings), DecoderRLConfig(kl_beta=beta))


def policy_of(scale: torch.Tensor, reference: float = 0.3) -> Policy:
    return Policy(
        velocity=lambda x, sigma: scale * x,
        reference=lambda x, sigma: reference * x,
    )


@pytest.fixture
def rollout() -> Drawn:
    noise = torch.randn(NUM, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    sigmas = torch.tensor([1.0, 0.5, 0.0])
    start = Start(noise, sigmas, torch.tensor([0, 0, 1, 1]), range(NUM), seed=0, step=0)
    with torch.no_grad():
        _, drawn = objective().draw(policy_of(torch.tensor(0.7)), start)
    return drawn


def feedback(kept: torch.Tensor | None = None) -> Feedback:
    kept = torch.ones(NUM, dtype=torch.bool) if kept is None else kept
    return Feedback(ADVANTAGES, kept, num_kept=int(kept.sum()))


@pytest.mark.parametrize("mix", [0.1, 1.0, 3.0])
def test_on_policy_the_gradient_is_that_of_matching_weighted_by_advantages(rollout, mix):
    scale = torch.tensor(0.7, requires_grad=True)
    loss, _ = objective(mix=mix).loss(policy_of(scale), rollout, feedback())
    (ours,) = torch.autograd.grad(loss, scale)
    errors = []
    for x, _, sigma in rollout.noisings:
        errors.append(matching_error(to_x0(x, scale * x, sigma), rollout.noisings.x_0))
    (expected,) = torch.autograd.grad((ADVANTAGES * torch.stack(errors).mean(0)).mean(), scale)
    torch.testing.assert_close(ours, expected)


def test_redraws_of_a_caption_share_their_noisings(rollout):
    eps, sigma = rollout.noisings.eps, rollout.noisings.sigma
    assert torch.equal(eps[0], eps[1])
    assert torch.equal(sigma[2], sigma[3])
    assert not torch.equal(sigma[0], sigma[2])


def test_a_redraw_that_is_not_kept_adds_nothing(rollout):
    kept = torch.tensor([True, True, False, True])
    scale = torch.tensor(0.8, requires_grad=True)
    loss, _ = objective(kl_beta=0.1).loss(policy_of(scale), rollout, feedback(kept))
    rollout.noisings.x_0[2], rollout.velocity[2] = float("nan"), float("nan")
    again, _ = objective(kl_beta=0.1).loss(policy_of(scale), rollout, feedback(kept))
    assert torch.equal(loss, again)


def test_the_distance_to_the_reference_pulls_towards_it(rollout):
    """Without advantages beta times the mean square is all that the gradient has."""
    scale = torch.tensor(0.7, requires_grad=True)
    nothing = Feedback(torch.zeros(NUM), torch.ones(NUM, dtype=torch.bool), NUM)
    loss, _ = objective(kl_beta=0.1).loss(policy_of(scale), rollout, nothing)
    (ours,) = torch.autograd.grad(loss, scale)
    distances = [((scale - 0.3) * x).square().mean() for x, *_ in rollout.noisings]
    distance = torch.stack(distances).mean()
    (expected,) = torch.autograd.grad(0.1 * distance, scale)
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-4)


def test_weights_that_are_not_those_that_drew_stop_the_run(rollout):
    nft = objective()
    _, same = nft.loss(policy_of(torch.tensor(0.7)), rollout, feedback())
    assert nft.metrics([same], rounding=0.0)["policy/old_distance"] == 0
    _, moved = nft.loss(policy_of(torch.tensor(0.8)), rollout, feedback())
    assert nft.metrics([moved], rounding=None)["policy/old_distance"] > 0
    with pytest.raises(RunFailed, match="before the first update"):
        nft.metrics([moved], rounding=0.0)
