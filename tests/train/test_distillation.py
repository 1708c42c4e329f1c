"""Guidance distillation: stage 1 with a model's own guided velocity as the target."""

import pytest
import torch

from uae.data.sources import samples_at
from uae.flow.noise import gaussian, stream
from uae.flow.path import noised, velocity_target
from uae.models.unified import UnifiedAutoEncoder
from uae.scenes.source import SceneSource
from uae.train.pretrain import Noising, Teacher, flow_matching

TEXTS = ["A small red circle at the top left.", "Two blue bars."]


@pytest.fixture
def model(random_model_folder):
    return UnifiedAutoEncoder.from_pretrained(random_model_folder)


@pytest.fixture
def noising(model):
    eps = gaussian([stream(0, i) for i in range(2)], model.decoder.latent_shape())
    return Noising(torch.tensor([0.3, 0.8]), eps, torch.tensor([False, False]))


def test_the_target_is_the_guided_velocity(model, noising):
    x_0, eps, sigma = torch.randn_like(noising.eps), noising.eps, noising.sigma
    negative = model.settings.negative_caption
    with torch.no_grad():
        target = Teacher(model, 2.5).target(x_0, eps, sigma, [TEXTS[0], negative])
        x = noised(x_0, eps, sigma)
        v_c = model.decoder.velocity(x, sigma, model.condition([TEXTS[0], negative]))
        v_neg = model.decoder.velocity(x, sigma, model.condition([negative] * 2))
    assert (v_c[0] - v_neg[0]).abs().max() > 1e-4, "the model must hear its caption"
    # 1e-5: float32 sums over captions padded to other lengths
    torch.testing.assert_close(target[0], v_neg[0] + 2.5 * (v_c - v_neg)[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(target[1], v_neg[1], atol=1e-5, rtol=0)


def test_scale_one_learns_from_the_images(model, noising):
    x_0 = torch.randn_like(noising.eps)
    target = Teacher(model, 1.0).target(x_0, noising.eps, noising.sigma, TEXTS)
    assert torch.equal(target, velocity_target(x_0, noising.eps))


def test_a_student_like_its_teacher_lacks_the_guidance_alone(model, noising):
    """L = (w - 1)^2 mean (v_c - v_neg)^2 before the first update."""
    source = SceneSource("train", 2, model.decoder.size_px, 0)
    samples = samples_at(source, 0, 2, seed=0)
    losses = []
    for scale in (1.5, 3.0):
        loss = flow_matching(model, samples, TEXTS, noising, Teacher(model, scale))
        losses.append(loss.item())
    assert losses[0] > 0
    assert losses[1] == pytest.approx(16 * losses[0], rel=1e-3)  # (3 - 1)^2 / (1.5 - 1)^2
