"""The similarity backbones of `--backbone`."""

from collections.abc import Mapping

from uae.core.device import device_of
from uae.core.provenance import weights_digest
from uae.rewards.loading import load_backbone
from uae.rewards.loading import load_backbones as load
from uae.rewards.similarity import Similarity

_FLAG = "--backbone"


def load_backbones(chosen: Mapping[str, str], device: str) -> dict[str, Similarity]:
    """Load them; raises as `rewards.loading`."""
    return load(chosen, device_of(device), _FLAG)


def digests(chosen: Mapping[str, str], device: str) -> dict[str, str]:
    """Return the sha256 of each backbone's weights; one is in memory at a time."""
    return {
        name: weights_digest(load_backbone(name, place, device_of(device), _FLAG).model)
        for name, place in chosen.items()
    }
