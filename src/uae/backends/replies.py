"""Reading what judges reply in JSON, with or without words around it."""

import json
from collections.abc import Iterator
from typing import Any

from uae.core.errors import UsageError
from uae.core.unicode import check_text


def json_objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a text, from left to right; what is inside one is not looked at."""
    decoder, start = json.JSONDecoder(), text.find("{")
    while start >= 0:
        try:
            values, end = decoder.raw_decode(text, start)
            check_text(values, "the reply")
        except (ValueError, RecursionError, UsageError):
            end = start + 1
        else:
            yield values
        start = text.find("{", end)
