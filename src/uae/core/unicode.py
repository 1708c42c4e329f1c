"""Text that is no Unicode: half of a surrogate pair, which file names and JSON can bring in.

Python keeps the bytes of a file name that are no UTF-8 as such halves, and JSON can spell them
(`"\\ud800"`). No encoder takes them: they are shown as U+FFFD, and refused in what models read.
"""

import re
from collections.abc import Mapping

from uae.core.errors import UsageError

_HALVES = re.compile("[\ud800-\udfff]")


def readable(text: str) -> str:
    """Return text that can be encoded: U+FFFD stands for what is no Unicode."""
    return _HALVES.sub("\ufffd", text)


def escaped(json_text: str) -> str:
    """Return JSON that can be encoded, and that says the same."""
    return _HALVES.sub(lambda half: f"\\u{ord(half[0]):04x}", json_text)


def check_text(value: object, where: str) -> None:
    """Refuse text that is no Unicode, in nested values too, keys among them.

    `where` is file and line, or whatever names the place.
    """
    if isinstance(value, str):
        half = _HALVES.search(value)
        if half:
            raise UsageError(
                f"{where}: character {half.start() + 1} is \\u{ord(half[0]):04x}, half of a "
                f"surrogate pair: expected text in Unicode, found {value[:40]!r}"
            )
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            check_text(key, where)
            check_text(inner, f"{where}: key {key!r}")
    elif isinstance(value, list | tuple):
        for inner in value:
            check_text(inner, where)
