"""Places of similarity backbones, by name: known, and checked, before any is loaded."""

import importlib.util
from collections.abc import Collection, Mapping

from uae.core.errors import EnvironmentFault, UsageError

OFFICIAL = {
    "clip": "openai/clip-vit-large-patch14",
    "longclip": "zer0int/LongCLIP-L-Diffusers",
    "dinov2": "facebook/dinov2-large",
    "dinov3": "facebook/dinov3-vitl16-pretrain-lvd1689m",
}
"""The paper's four."""
KNOWN = OFFICIAL | {
    "siglip2": "google/siglip2-large-patch16-256",
    "dreamsim": "dreamsim:ensemble",
}
DREAMSIM = "dreamsim:"
"""Before a kind of DreamSim, where a folder or hub id would stand."""
DREAMSIM_KINDS = (
    "ensemble",
    "dino_vitb16",
    "clip_vitb32",
    "open_clip_vitb32",
    "dinov2_vitb14",
    "synclr_vitb16",
)


def rewarding(names: Collection[str], named: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Return the backbones to load by name: those of the model, and known ones that reward beside.

    Args:
        names: The rewarded backbones.
        named: The model's backbones, which go before known ones of the same name.
        prefix: What the user wrote before a name, e.g. "reward.".

    Raises:
        UsageError: One is neither; names those there are.
        EnvironmentFault: A rewarded one needs a package that is not installed.
    """
    for name in names:
        if name not in named and name not in KNOWN:
            raise UsageError(
                f"{prefix}{name}: the model has no such similarity backbone; expected one of "
                f"{', '.join({**named, **KNOWN})}"
            )
    places = {**named, **{name: KNOWN[name] for name in names if name not in named}}
    for place in places.values():
        check_place(place)
    return places


def check_place(place: str) -> None:
    """Look for what DreamSim needs.

    Raises:
        UsageError: There is no such kind of it.
        EnvironmentFault: Its package is not installed.
    """
    if not place.startswith(DREAMSIM):
        return
    if place.removeprefix(DREAMSIM) not in DREAMSIM_KINDS:
        expected = ", ".join(DREAMSIM + kind for kind in DREAMSIM_KINDS)
        raise UsageError(f"similarity backbone {place}: expected one of {expected}")
    if importlib.util.find_spec("dreamsim") is None:
        raise EnvironmentFault(f'{place} needs the package dreamsim: pip install "uae[dreamsim]"')
