"""Models of this package as a command line names them, looked for before anything is loaded."""

from pathlib import Path

from uae.core.errors import UsageError
from uae.models.settings import SETTINGS_FILE, expected_model, pinned, resolve


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
    """Check what KIND:NAME, or NAME alone, names of this package.

    Raises:
        UsageError: As `check_ours`.
    """
    kind, colon, name = text.partition(":")
    if text and not colon:
        check_ours(flag, text)
    elif kind == "uae" and name:
        check_ours(flag, name)
