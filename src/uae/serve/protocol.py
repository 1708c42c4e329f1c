"""Responses of OpenAI's protocol and its request for images; that for a chat: `chat_request.py`.

Fields that are not OpenAI's: `seed`, `num_inference_steps` and `guidance_scale` of a drawing,
`caption_prompt` and `size` of a model, `seed` and `warnings` of a drawing's response.
"""

import base64
import io
from typing import Annotated, ClassVar, Literal

from PIL import Image
from pydantic import BaseModel, Field, PositiveFloat

from uae.models.chat import FinishReason
from uae.serve.chat_request import MAX_CHOICES
from uae.serve.fields import Fields

MAX_STEPS = 1000

# -- chat: response --------------------------------------------------------------------------------


class Usage(BaseModel):
    """Tokens of the prompt, images included, and of all choices, end tokens included."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TopLogprob(BaseModel):
    """A token as text, and its log-probability by raw logits, whatever the temperature."""

    token: str
    logprob: float
    bytes: list[int] | None
    """Of the text in UTF-8; null where the token is a part of a character."""


class TokenLogprob(TopLogprob):
    """A token of a reply, the end token included, and the likeliest ones in its place."""

    top_logprobs: list[TopLogprob]


class Logprobs(BaseModel):
    """The tokens of a reply, or of a part of it."""

    content: list[TokenLogprob]


class ReplyMessage(BaseModel):
    """A reply of the model."""

    role: Literal["assistant"] = "assistant"
    content: str


class Choice(BaseModel):
    """One of `n` replies."""

    index: int
    message: ReplyMessage
    finish_reason: FinishReason | None
    logprobs: Logprobs | None = None


class ChatCompletion(BaseModel):
    """Response to a chat."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class ChunkChoice(BaseModel):
    """News of one of `n` replies: role and content, where there is something new of them."""

    index: int
    delta: dict[str, str]
    finish_reason: FinishReason | None = None
    logprobs: Logprobs | None = None


class ChatChunk(BaseModel):
    """One event of a streamed response."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None


# -- images ----------------------------------------------------------------------------------------


class ImageRequest(Fields):
    """POST /v1/images/generations."""

    neutral: ClassVar = {
        "response_format": ("b64_json",),
        "output_format": ("png",),
        "quality": ("auto", "standard"),
        "background": ("auto", "opaque"),
        "stream": (False,),
        "partial_images": (0,),
        "negative_prompt": ("",),
        "style": (),
        "complexity": (),
        "frame_count": (),
        "frame_duration_ms": (),
        "svg": (),
        "extra_body": ({},),
    }
    harmless: ClassVar = frozenset(
        {"user", "metadata", "moderation", "output_compression", "safety_identifier"}
    )

    model: str
    prompt: str
    n: int = Field(default=1, ge=1, le=MAX_CHOICES)
    size: str = "auto"
    seed: int | None = None
    num_inference_steps: int | None = Field(default=None, ge=1, le=MAX_STEPS)
    guidance_scale: Annotated[PositiveFloat, Field(allow_inf_nan=False)] | None = None


class Picture(BaseModel):
    """One image: PNG in base64."""

    b64_json: str


class ImageUsage(BaseModel):
    """Tokens of the prompt; images have none."""

    input_tokens: int
    output_tokens: int = 0
    total_tokens: int


class ImagesResponse(BaseModel):
    """Response to a drawing. The same prompt and `seed` draw the same images."""

    created: int
    data: list[Picture]
    output_format: Literal["png"] = "png"
    size: str
    usage: ImageUsage
    seed: int
    warnings: list[str]


def picture(image: Image.Image) -> Picture:
    """Pack an image."""
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    return Picture(b64_json=base64.b64encode(buffer.getvalue()).decode("ascii"))


# -- models ----------------------------------------------------------------------------------------


class ModelCard(BaseModel):
    """The model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "uae"
    caption_prompt: str
    """The text that asks it for a caption; it stands before the image."""
    size: str
    """Width x height of what it draws."""


class ModelList(BaseModel):
    """GET /v1/models."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Health(BaseModel):
    """GET /health."""

    status: Literal["ok"] = "ok"
    model: str
    num_requests: int
    """At the model and waiting."""
