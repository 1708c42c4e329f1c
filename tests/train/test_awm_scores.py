"""AWM's scores on a real decoder, against the definition written out."""

import pytest
import torch

from uae.flow.noise import gaussian, stream
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.optimizer import FineTuneConfig
from uae.rl.decoder.awm import matching_scores
from uae.rl.decoder.noisings import Noisings
from uae.train.decoder_rl import policy_of


@pytest.fixture
def model(random_model_folder):
    model = UnifiedAutoEncoder.from_pretrained(random_model_folder)
    tuning = model.tune_decoder(FineTuneConfig(rank=4, alpha=8), 0)
    with torch.no_grad():
        for parameter in tuning.parameters().values():  # away from the reference
            parameter.add_(0.05)
    return model


@torch.no_grad()
def test_scores_are_losses_and_distances_at_the_noised_images(model):
    x_0, eps_0, eps_1 = (
        gaussian([stream(i, j) for j in range(2)], model.decoder.latent_shape()) for i in range(3)
    )
    eps, sigma = torch.stack([eps_0, eps_1], 1), torch.tensor([[0.2, 0.7], [0.5, 0.9]])
    condition = model.condition(["A red circle.", "Two blue bars."])
    policy = policy_of(model, condition)
    noisings = Noisings(x_0=x_0, eps=eps, sigma=sigma)
    log_probs, kl = matching_scores(policy, noisings, with_kl=True)
    assert kl is not None
    for k in range(2):
        s = sigma[:, k, None, None, None]
        x = (1 - s) * x_0 + s * eps[:, k]
        v = model.decoder.velocity(x, sigma[:, k], condition)
        with model.decoder_reference():
            before = model.decoder.velocity(x, sigma[:, k], condition)
        expected = -(v - (eps[:, k] - x_0)).square().mean((1, 2, 3))
        torch.testing.assert_close(log_probs[:, k], expected)
        torch.testing.assert_close(kl[:, k], (v - before).square().mean((1, 2, 3)))
    assert (kl > 0).all()
    assert matching_scores(policy, noisings, with_kl=False)[1] is None
