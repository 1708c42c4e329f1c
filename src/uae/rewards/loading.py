"""Loads rewards, and the similarity backbones among them, wherever they come from."""

from collections.abc import Mapping
from pathlib import Path

from uae.core.errors import UsageError
from uae.models.hub import found
from uae.models.loading import read_config
from uae.models.settings import resolve
from uae.rewards.places import check_place
from uae.rewards.reward import Reward
from uae.rewards.similarity import Similarity
from uae.rewards.table import REWARDS

_FLAG = "similarity backbone"


def load_rewards(places: Mapping[str, str], device: str = "cpu") -> dict[str, Reward]:
    """Load rewards by name; see `load_backbone`."""
    for place in places.values():
        check_place(place)
    rewards: dict[str, Reward] = {}
    for name, place in places.items():
        with found(_FLAG, f"{name}={place}"):
            rewards[name] = load_reward(place, device)
    return rewards


def load_backbones(
    places: Mapping[str, str], device: str = "cpu", flag: str = _FLAG
) -> dict[str, Similarity]:
    """Load similarity backbones by name; see `load_backbone`."""
    for place in places.values():
        check_place(place)
    return {name: load_backbone(name, place, device, flag) for name, place in places.items()}


def load_backbone(name: str, place: str, device: str = "cpu", flag: str = _FLAG) -> Similarity:
    """Load one backbone.

    Args:
        name: Its name.
        place: Folder, preset, hub id or dreamsim:KIND.
        device: "cpu" or "cuda:1", say.
        flag: What named it, for messages.

    Raises:
        UsageError: It is not there, or of another kind.
        EnvironmentFault: The hub cannot be reached, or the package of DreamSim is not installed.
    """
    with found(flag, f"{name}={place}"):
        return load_similarity(place, device)


def load_similarity(place: str | Path, device: str = "cpu") -> Similarity:
    """Load a backbone by its place alone; see `load_backbone`."""
    reward = load_reward(str(place), device)
    if not isinstance(reward, Similarity):
        raise UsageError(f"{str(place)!r} is a reward that compares no features")
    return reward


def load_reward(place: str, device: str = "cpu") -> Reward:
    """Load a reward by its place.

    Raises:
        UsageError: It is of no kind there is; or its weights are damaged, incomplete or of other
            shapes.
    """
    kind, colon, _ = place.partition(":")
    if not (colon and kind in REWARDS):
        place = str(resolve(place))
        kind = read_config(place).model_type
    if kind not in REWARDS:
        raise UsageError(
            f"similarity backbone {place!r} is a {kind!r} model: expected clip, siglip, dinov2 or "
            "dinov3_vit"
        )
    return REWARDS[kind](place, device)
