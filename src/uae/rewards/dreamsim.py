# the package is optional and untyped
# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
"""DreamSim, image similarity tuned on people's choices (arXiv 2306.09344, ssundaram21/dreamsim).

Its distance is 1 - cos(f(x), f(x')); what is measured here is the cosine.
"""

import io
from contextlib import redirect_stdout
from pathlib import Path

import torch

from uae.rewards.places import DREAMSIM, check_place
from uae.rewards.similarity import Preparation, Similarity


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
    check_place(place)
    from dreamsim import dreamsim

    hub = torch.hub.get_dir()
    weights = Path(hub) / "dreamsim"
    weights.mkdir(parents=True, exist_ok=True)
    try:
        with redirect_stdout(io.StringIO()):  # it prints where it looks; stdout is for results
            model, _ = dreamsim(
                dreamsim_type=place.removeprefix(DREAMSIM), device=device, cache_dir=str(weights)
            )
    finally:
        torch.hub.set_dir(hub)  # it sets its own, for the whole process
    preparation = Preparation(
        size_px=224, crop_px=None, resampling="bicubic", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )
    return Similarity(model, model.embed, preparation)
