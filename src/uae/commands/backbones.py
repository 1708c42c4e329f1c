"""Loads the similarity backbones that images are compared by."""

from collections.abc import Mapping

from uae.commands.judges import found
from uae.device import device_of
from uae.eval.results.stamp import weights_digest
from uae.models.settings import resolve
from uae.rewards.dreamsim import PREFIX, load_dreamsim
from uae.rewards.similarity import Similarity


def load_backbones(chosen: Mapping[str, str], device: str) -> dict[str, Similarity]:
    """Load similarity backbones by name.

    Raises:
        UsageError: One is not there, or of another kind.
        EnvironmentFault: DreamSim is asked for, and its package is not installed.
    """
    return {name: _load_backbone(name, place, device) for name, place in chosen.items()}


def digests(chosen: Mapping[str, str], device: str) -> dict[str, str]:
    """Return the sha256 of each backbone's weights; one is in memory at a time."""
    return {
        name: weights_digest(_load_backbone(name, place, device).model)
        for name, place in chosen.items()
    }


def _load_backbone(name: str, place: str, device: str) -> Similarity:
    with found("--backbone", f"{name}={place}"):
        if place.startswith(PREFIX):
            return load_dreamsim(place, device_of(device))
        return Similarity.from_pretrained(resolve(place), device_of(device))
