"""Models of this package, and files, as a command line names them: looked for before loading."""

from pathlib import Path

from uae.core.errors import UsageError
from uae.models.settings import SETTINGS_FILE, expected_model, pinned, resolve

_WEIGHTS = ("vlm", "diffusers", "local")
"""Kinds that name a folder of weights or a hub id."""
_IS_THERE = {"file": Path.is_file, "folder": Path.is_dir}
"""What KIND:NAME names on this machine, and how to tell that it is there."""


def check_ours(flag: str, name: str) -> None:
    """Refuse a folder that holds no model of this package.

    Raises:
        UsageError: Names the flag.
    """
    folder = Path(resolve(pinned(flag, name)))
    if not (folder / SETTINGS_FILE).is_file():
        raise UsageError(
            f"{flag} uae:{name} is no model folder (it has no {SETTINGS_FILE}): "
            f"{expected_model(folder)}; a model of another kind is named KIND:NAME"
        )


def check_named(flag: str, text: str) -> None:
    """Check what KIND:NAME, or NAME alone, names on this machine; of a hub id the spelling.

    Raises:
        UsageError: As `check_ours`, or it is not there.
    """
    kind, colon, name = text.partition(":")
    if text and not colon:
        check_ours(flag, text)
    elif kind == "uae" and name:
        check_ours(flag, name)
    elif name and kind in _WEIGHTS:
        from uae.models.hub import check_place  # not above: its library reads how to talk then

        check_place(flag, name, kind)
    elif name and kind in _IS_THERE and not _IS_THERE[kind](Path(name)):
        raise UsageError(f"{flag} {text} does not exist: expected a {kind}")
