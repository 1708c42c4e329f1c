"""DreamSim through a module of the same interface as its package (ssundaram21/dreamsim 0.2.1)."""

import importlib.machinery
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from uae.data.scenes.graph import scene_at
from uae.data.scenes.render import render_image
from uae.data.sources import to_pixels
from uae.errors import EnvironmentFault, UsageError
from uae.rewards.dreamsim import KINDS, load_dreamsim
from uae.rewards.similarity import cosine


class PerceptualModel(nn.Module):
    """The package's model, with one random layer for the networks inside."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 8, 32, 32)

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        assert image.shape[1:] == (3, 224, 224)
        assert image.min() >= 0
        assert image.max() <= 1
        features = self.layer(image - 0.5).flatten(1).squeeze()
        features = features if features.ndim > 1 else features[None]
        features = (features.T - features.mean(1)).T
        return (features.T / features.norm(dim=1)).T

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return 1 - F.cosine_similarity(self.embed(first), self.embed(second), dim=-1)


def load(
    pretrained: bool = True,
    device: str = "cuda",
    cache_dir: str = "./models",
    normalize_embeds: bool = True,
    dreamsim_type: str = "ensemble",
    use_patch_model: bool = False,
) -> tuple[PerceptualModel, None]:
    assert pretrained
    assert dreamsim_type in KINDS
    assert Path(cache_dir).is_dir()
    print(f"Using cached {cache_dir}")  # noqa: T201
    torch.hub.set_dir(cache_dir)
    return PerceptualModel().to(device), None


@pytest.fixture
def package(monkeypatch, tmp_path):
    module = ModuleType("dreamsim")
    module.__spec__ = importlib.machinery.ModuleSpec("dreamsim", None)
    module.__dict__["dreamsim"] = load
    monkeypatch.setitem(sys.modules, "dreamsim", module)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)


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
