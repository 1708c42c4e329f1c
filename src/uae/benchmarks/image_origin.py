"""What drew a folder of images, as a scorer reads it from the `images.json` that lies there."""

import json
from pathlib import Path
from typing import Any

from uae.backends.refused_parameters import read_refusals
from uae.core.errors import UsageError

ORIGIN = "images.json"

_OURS = {"model": str, "seed": int, "prompts": str, "prompts_sha256": str}
"""What we write of every generator."""
_DRAWN_BY = ("model", "model_sha256", "commit", "dtype", "size", "seed")


def read_origin(root: Path) -> object:
    """Return what a folder's `images.json` holds.

    Raises:
        UsageError: It is damaged.
    """
    try:
        return json.loads((root / ORIGIN).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{root / ORIGIN} is damaged: choose another folder") from error


def wording_of(root: Path) -> dict[str, str]:
    """Say for a scorer that a folder shows prompts in other words; empty for the benchmark's own.

    Raises:
        UsageError: The folder's `images.json` is damaged.
    """
    origin = read_origin(root) if (root / ORIGIN).is_file() else {}
    if not isinstance(origin, dict):  # another program's file of that name
        return {}
    return {key: str(origin[key]) for key in ("wording", "instruction") if key in origin}


def drawn_by(root: Path) -> dict[str, Any]:
    """Return what drew a folder, as far as it is known, the seed, and what an address refused.

    Raises:
        UsageError: The folder's `images.json` is damaged.
    """
    origin = _ours(root)
    found = {key: origin[key] for key in _DRAWN_BY if key in origin}
    refused = [refusal.param for refusal in read_refusals(root)] if found else []
    return found | ({"refused": refused} if refused else {})


def check_prompts(root: Path, sha256: str, name: str | None = None) -> None:
    """Refuse images that were drawn for other prompts; a folder of another program is not known.

    Args:
        root: The folder.
        sha256: Of the prompts that are asked for, as those who draw count it.
        name: Of the prompt set, where it says how many images a prompt has.

    Raises:
        UsageError: Names what was drawn and what is asked for.
    """
    origin = _ours(root)
    if not origin:
        return
    if origin["prompts_sha256"] != sha256:
        raise UsageError(
            f"{root} holds images of other prompts: its {ORIGIN} has prompts_sha256 "
            f"{origin['prompts_sha256']} ({origin['prompts']}), --prompts has {sha256}: give the "
            "prompts that the images were drawn for"
        )
    if name is not None and origin["prompts"] != name:
        raise UsageError(
            f"{root} holds other images: its {ORIGIN} has prompts {origin['prompts']!r}, asked for "
            f"is {name!r}: give the --num-images that they were drawn with"
        )


def _ours(root: Path) -> dict[str, Any]:
    """Return what we wrote into a folder; empty where another program did, or nobody."""
    origin = read_origin(root) if (root / ORIGIN).is_file() else None
    if not isinstance(origin, dict):
        return {}
    is_ours = all(isinstance(origin.get(key), kind) for key, kind in _OURS.items())
    return origin if is_ours else {}
