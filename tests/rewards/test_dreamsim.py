"""DreamSim through a module of the same interface as its package (ssundaram21/dreamsim 0.2.1)."""

import importlib.util

import pytest
import torch
import torch.nn.functional as F
from stub_dreamsim import PerceptualModel, install

from uae.core.errors import EnvironmentFault, UsageError
from uae.data.sources import to_pixels
from uae.rewards.dreamsim import load_dreamsim
from uae.rewards.similarity import cosine
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image


@pytest.fixture
def package(monkeypatch, tmp_path):
    install(monkeypatch, tmp_path)


@pytest.fixture
def pixels():
    return to_pixels([render_image(scene_at(i, "test"), 64) for i in range(3)])


def test_the_cosine_is_one_minus_dreamsims_distance(package, pixels):
    similarity = load_dreamsim("dreamsim:ensemble")
    features = similarity.features(pixels)
    resized = F.interpolate(pixels, (224, 224), mode="bicubic", antialias=True).clamp(0, 1)
    distances = PerceptualModel()(resized[:1].expand(3, -1, -1, -1), resized)
    assert distances[1:].min() > 0.01
    torch.testing.assert_close(
        1 - cosine(features[:1].expand(3, -1), features), distances, atol=1e-5, rtol=0
    )
    alone = similarity.features(pixels[:1])
    torch.testing.assert_close(alone, features[:1], atol=1e-5, rtol=0)


def test_the_gradient_reaches_the_pixels(package, pixels):
    pixels.requires_grad_()
    load_dreamsim("dreamsim:dino_vitb16").features(pixels)[:, 0].sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().sum() > 0


def test_it_says_nothing_and_leaves_the_hubs_folder_as_it_was(package, capsys, tmp_path):
    before = torch.hub.get_dir()
    for _ in range(2):
        load_dreamsim("dreamsim:ensemble")
    assert torch.hub.get_dir() == before
    assert capsys.readouterr().out == ""
    assert [path.name for path in (tmp_path / "hub").rglob("*")] == ["dreamsim"]


def test_an_unknown_kind_is_refused(package):
    with pytest.raises(UsageError, match="dreamsim:vgg: expected one of dreamsim:ensemble, "):
        load_dreamsim("dreamsim:vgg")


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EnvironmentFault, match=r'pip install "uae\[dreamsim\]"'):
        load_dreamsim("dreamsim:ensemble")
