# the package is optional and untyped
# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
"""DreamSim, image similarity tuned on people's choices (arXiv 2306.09344, ssundaram21/dreamsim).

Its distance is 1 - cos(f(x), f(x')); what is measured here is the cosine.
"""

import importlib.util
import io
from contextlib import redirect_stdout
from pathlib import Path

import torch

from uae.errors import EnvironmentFault, UsageError
from uae.rewards.similarity import Preparation, Similarity

EXTRA = "dreamsim"
PREFIX = "dreamsim:"
"""Before a kind, where a folder or hub id would stand."""
KINDS = (
    "ensemble",
    "dino_vitb16",
    "clip_vitb32",
    "open_clip_vitb32",
    "dinov2_vitb14",
    "synclr_vitb16",
)


def load_dreamsim(place: str, device: str = "cpu") -> Similarity:
    """Load DreamSim by the package of that name, which downloads its weights once.

    Images are resized to 224 x 224 without keeping their proportions; each network inside
    normalises them itself.

    Args:
        place: dreamsim:KIND, such as dreamsim:ensemble.
        device: "cpu" or "cuda:1", say.

    Raises:
        UsageError: There is no such kind.
        EnvironmentFault: The package is not installed.
        OSError: The weights cannot be downloaded.
    """
    kind = place.removeprefix(PREFIX)
    if kind not in KINDS:
        expected = ", ".join(PREFIX + kind for kind in KINDS)
        raise UsageError(f"similarity backbone {place}: expected one of {expected}")
    if importlib.util.find_spec("dreamsim") is None:
        raise EnvironmentFault(f'{place} needs the package dreamsim: pip install "uae[{EXTRA}]"')
    from dreamsim import dreamsim

    hub = torch.hub.get_dir()
    weights = Path(hub) / "dreamsim"
    weights.mkdir(parents=True, exist_ok=True)
    try:
        with redirect_stdout(io.StringIO()):  # it prints where it looks; stdout is for results
            model, _ = dreamsim(dreamsim_type=kind, device=device, cache_dir=str(weights))
    finally:
        torch.hub.set_dir(hub)  # it sets its own, for the whole process
    preparation = Preparation(
        size_px=224, crop_px=None, resampling="bicubic", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )
    return Similarity(model, model.embed, preparation)
