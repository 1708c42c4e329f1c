"""Loads the similarity backbones that images are compared by, wherever they come from."""

from collections.abc import Mapping

from uae.models.hub import found
from uae.models.settings import resolve
from uae.rewards.dreamsim import load_dreamsim
from uae.rewards.places import DREAMSIM, check_place
from uae.rewards.similarity import Similarity


def load_backbones(
    places: Mapping[str, str], device: str = "cpu", flag: str = "similarity backbone"
) -> dict[str, Similarity]:
    """Load similarity backbones by name.

    Raises:
        UsageError: One is not there, or of another kind.
        EnvironmentFault: The hub cannot be reached, or the package of DreamSim is not installed.
    """
    for place in places.values():
        check_place(place)
    return {name: load_backbone(name, place, device, flag) for name, place in places.items()}


def load_backbone(
    name: str, place: str, device: str = "cpu", flag: str = "similarity backbone"
) -> Similarity:
    """Load one backbone.

    Args:
        name: Its name.
        place: Folder, preset, hub id or dreamsim:KIND.
        device: "cpu" or "cuda:1", say.
        flag: What named it, for messages.

    Raises:
        UsageError: It is not there, or of another kind.
        EnvironmentFault: As `load_backbones`.
    """
    with found(flag, f"{name}={place}"):
        if place.startswith(DREAMSIM):
            return load_dreamsim(place, device)
        return Similarity.from_pretrained(resolve(place), device)
