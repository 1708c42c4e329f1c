"""Requests to an OpenAI-compatible address, and the parts of its answers that are read."""

import base64
import io
import json
import re
from collections.abc import Mapping
from typing import Any

from PIL import Image
from pydantic import BaseModel, Field

_MIN_KEY_CHARS = 4  # "x" and "no" hide nothing, and stand in any message
_KEY_CHARS = 16  # of real keys; a shorter one may be a part of words
_REASONS = ("error", "errors", "message", "msg", "detail", "details", "reason", "title")
"""Where servers say what is wrong: OpenAI, FastAPI, Ollama, problem details."""

_LOGPROBS = ("logprobs", "top_logprobs")
_NO_LOGPROBS = "they are no longer asked for, so no log-probabilities are told"

DISPENSABLE: Mapping[str, str] = {
    "max_tokens": "max_completion_tokens is sent instead, which thinking counts towards too",
    "temperature": "it is no longer sent, so answers are drawn at random and are not repeatable",
    "seed": "it is no longer sent, so what is drawn is not repeatable",
    **dict.fromkeys(_LOGPROBS, _NO_LOGPROBS),
    "response_format": "it is no longer sent, so images come in the server's own format",
}
"""Parameters that a request can do without, and what follows where an address refuses them."""


def without(options: Mapping[str, Any], param: str) -> dict[str, Any]:
    """Return the options without a refused one; `max_tokens` stays under its newer name.

    `logprobs` and `top_logprobs` go together, as neither is accepted alone.
    """
    gone = _LOGPROBS if param in _LOGPROBS else (param,)
    kept = {name: value for name, value in options.items() if name not in gone}
    if param == "max_tokens" and param in options:
        kept["max_completion_tokens"] = options[param]
    return kept


class Body(BaseModel):
    """The part of an answer that is read; servers differ in all else."""


class _Message(Body):
    content: str | None = None
    refusal: str | None = None


class _TopLogprob(Body):
    token: str
    logprob: float


class _TokenLogprobs(Body):
    top_logprobs: list[_TopLogprob] = []


class _Logprobs(Body):
    content: list[_TokenLogprobs] | None = None


class _Choice(Body):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class Completion(Body):
    model: str = ""
    choices: list[_Choice] = Field(min_length=1)


class _Image(Body):
    b64_json: str | None = None
    url: str | None = None


class Drawing(Body):
    data: list[_Image] = Field(min_length=1)


def reason_of(body: str) -> str:
    """Return what an answer with an error status says, whatever its shape; "" for nothing."""
    try:
        return _reason(json.loads(body))
    except (ValueError, RecursionError):
        return body


def _reason(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(filter(None, map(_reason, value)))
    if not isinstance(value, dict):
        return "" if value is None else str(value)
    said = next(filter(None, (_reason(value.get(key)) for key in _REASONS)), "")
    where = value.get("loc")  # FastAPI's: ["body", "n"]
    if said and isinstance(where, list):
        return f"{'.'.join(map(str, where))}: {said}"
    return said or json.dumps(value)


def masked(text: str, key: str) -> str:
    """Return a text without an API key: a real one anywhere, one that may be a word as a word."""
    if len(key) < _MIN_KEY_CHARS:
        return text
    if len(key) >= _KEY_CHARS:
        return text.replace(key, "***")
    return re.sub(rf"(?<![^\W_]){re.escape(key)}(?![^\W_])", "***", text)


def to_part(part: str | Image.Image) -> Mapping[str, Any]:
    """Return a text or an image as a part of a turn; images as PNG, in their own size."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    stream = io.BytesIO()
    part.convert("RGB").save(stream, "PNG")
    encoded = base64.b64encode(stream.getvalue()).decode("ascii")
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}}
