"""The origin of a folder of images, as a scorer reads it from the `images.json` in it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from uae.backends.refused_parameters import read_refusals
from uae.core.errors import UsageError
from uae.runs.cut_captions import read_cut

ORIGIN = "images.json"

_OURS = {"model": str, "seed": int, "prompts": str, "prompts_sha256": str}
"""What we write of every generator."""
_DRAWN_BY = ("model", "model_sha256", "commit", "dtype", "size", "seed")


def read_origin(root: Path) -> object:
    """Return what a folder's `images.json` holds; the functions below raise as this one.

    Raises:
        UsageError: It is damaged.
    """
    try:
        return json.loads((root / ORIGIN).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{root / ORIGIN} is damaged: choose another folder") from error


def _origin(root: Path) -> dict[str, Any]:
    """Return a folder's origin; empty where there is none, or another program's file."""
    origin = read_origin(root) if (root / ORIGIN).is_file() else None
    return origin if isinstance(origin, dict) else {}


def _our_origin(root: Path) -> dict[str, Any]:
    """Return what we wrote into a folder; empty where another program did, or nobody."""
    origin = _origin(root)
    is_ours = all(isinstance(origin.get(key), kind) for key, kind in _OURS.items())
    return origin if is_ours else {}


def wording_of(root: Path) -> dict[str, str]:
    """Say that a folder shows prompts in other words; empty for the benchmark's own."""
    origin = _origin(root)
    return {key: str(origin[key]) for key in ("wording", "instruction") if key in origin}


def drawn_by(root: Path) -> dict[str, Any]:
    """Return what drew a folder, as far as it is known, the seed, and what was refused or cut."""
    origin = _our_origin(root)
    by = {key: origin[key] for key in _DRAWN_BY if key in origin}
    refused = [refusal.param for refusal in read_refusals(root)] if by else []
    cut = [asdict(x) for x in read_cut(root) if x.num_cut] if by else []
    return by | {k: v for k, v in (("refused", refused), ("cut_captions", cut)) if v}


def check_prompts(root: Path, sha256: str, name: str | None = None) -> None:
    """Refuse images that were drawn for other prompts; a folder of another program is not known.

    The digest is of the prompts as those who draw count it; the name is of a prompt set that says
    how many images a prompt has.
    """
    origin = _our_origin(root)
    if origin and origin["prompts_sha256"] != sha256:
        raise UsageError(
            f"{root} holds images of other prompts: its {ORIGIN} has prompts_sha256 "
            f"{origin['prompts_sha256']} ({origin['prompts']}), --prompts has {sha256}: give the "
            "prompts that the images were drawn for"
        )
    if origin and name not in (None, origin["prompts"]):
        raise UsageError(
            f"{root} holds other images: its {ORIGIN} has prompts {origin['prompts']!r}, asked for "
            f"is {name!r}: give the --num-images that they were drawn with"
        )
