"""Requests and responses of OpenAI's chat completions and image generations, as far as we go.

Fields that are not OpenAI's: `seed`, `num_inference_steps` and `guidance_scale` of a drawing,
`caption_prompt` and `size` of a model, `seed` and `warnings` of a drawing's response.
"""

import base64
import io
from typing import Annotated, Any, ClassVar, Literal

from PIL import Image
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
)

from uae.models.chat import FinishReason
from uae.serve.fields import Fields

MAX_CHOICES = 10
MAX_STEPS = 1000
MAX_TOP_LOGPROBS = 20

# -- chat: request ---------------------------------------------------------------------------------


class TextPart(Fields):
    """A text."""

    type: Literal["text"]
    text: str


class ImageURL(Fields):
    """An image as a data: URL; `detail` changes nothing, the model has one resolution."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class ImagePart(Fields):
    """An image."""

    type: Literal["image_url"]
    image_url: ImageURL


def _listed(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


Texts = Annotated[list[TextPart], BeforeValidator(_listed), Field(min_length=1)]
Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]
Parts = Annotated[list[Part], BeforeValidator(_listed), Field(min_length=1)]


class SystemMessage(Fields):
    """What the model is told beforehand."""

    role: Literal["system", "developer"]
    content: Texts


class UserMessage(Fields):
    """A turn of the user."""

    role: Literal["user"]
    content: Parts


class AssistantMessage(Fields):
    """A turn of the model."""

    role: Literal["assistant"]
    content: Texts


ChatMessage = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]
StopText = Annotated[str, StringConstraints(min_length=1)]


class StreamOptions(Fields):
    """What a stream holds besides the text."""

    include_usage: bool = False
    include_obfuscation: bool = False
    """Padding against listeners; there is none."""


class ChatRequest(Fields):
    """POST /v1/chat/completions."""

    neutral: ClassVar = {
        "frequency_penalty": (0,),
        "presence_penalty": (0,),
        "top_p": (1,),
        "top_k": (-1, 0),
        "min_p": (0,),
        "repetition_penalty": (1,),
        "logit_bias": ({},),
        "response_format": ({"type": "text"},),
        "modalities": (["text"],),
        "tools": ([],),
        "tool_choice": ("none", "auto"),
        "functions": ([],),
        "function_call": ("none", "auto"),
    }
    harmless: ClassVar = frozenset(
        {
            "user",
            "metadata",
            "store",
            "service_tier",
            "safety_identifier",
            "prompt_cache_key",
            "parallel_tool_calls",
        }
    )

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    temperature: float = Field(default=1.0, ge=0, le=2)
    max_tokens: PositiveInt | None = None
    max_completion_tokens: PositiveInt | None = None
    seed: int | None = None
    n: int = Field(default=1, ge=1, le=MAX_CHOICES)
    stop: Annotated[
        list[StopText],
        BeforeValidator(lambda stop: [stop] if isinstance(stop, str) else stop),
        Field(default_factory=list, max_length=4),
    ]
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=MAX_TOP_LOGPROBS)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()


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
    """What the model said."""

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
    }
    harmless: ClassVar = frozenset({"user", "moderation", "output_compression"})

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
