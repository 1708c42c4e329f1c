"""A module of the same interface as the package of DreamSim (ssundaram21/dreamsim 0.2.1)."""

import importlib.machinery
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from uae.rewards.places import DREAMSIM_KINDS


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
    assert dreamsim_type in DREAMSIM_KINDS
    assert Path(cache_dir).is_dir()
    print(f"Using cached {cache_dir}")  # noqa: T201
    torch.hub.set_dir(cache_dir)
    return PerceptualModel().to(device), None


def install(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Stand in for the package, with a hub folder of its own."""
    module = ModuleType("dreamsim")
    module.__spec__ = importlib.machinery.ModuleSpec("dreamsim", None)
    module.__dict__["dreamsim"] = load
    monkeypatch.setitem(sys.modules, "dreamsim", module)
    monkeypatch.setenv("TORCH_HOME", str(home))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
