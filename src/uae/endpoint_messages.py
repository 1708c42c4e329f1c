"""What goes to an OpenAI-compatible address and what of its answers is read."""

import base64
import io
from collections.abc import Mapping
from typing import Any

from PIL import Image
from pydantic import BaseModel, Field


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
    b64_json: str


class Drawing(Body):
    data: list[_Image] = Field(min_length=1)


def to_part(part: str | Image.Image) -> Mapping[str, Any]:
    """Return a text or an image as a part of a turn; images as PNG, in their own size."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    stream = io.BytesIO()
    part.convert("RGB").save(stream, "PNG")
    encoded = base64.b64encode(stream.getvalue()).decode("ascii")
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}}
