"""From an image request to the model and back."""

import base64
import io
import secrets
import time
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from PIL import Image
from pydantic import Field, PositiveFloat

from uae.data.sources import to_images
from uae.models.chat import context_length
from uae.models.unified import UnifiedAutoEncoder
from uae.serve.chat_request import MAX_CHOICES
from uae.serve.fields import ApiError, Fields, shown

MAX_STEPS = 1000


class ImageRequest(Fields):
    """POST /v1/images/generations; seed, steps and guidance scale are not OpenAI's."""

    neutral: ClassVar = {
        "response_format": ("b64_json",),
        "output_format": ("png",),
        "quality": ("auto", "standard"),
        "background": ("auto", "opaque"),
        "stream": (False,),
        "partial_images": (0,),
        "negative_prompt": ("",),
        **dict.fromkeys(("style", "complexity", "frame_count", "frame_duration_ms", "svg"), ()),
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


def size_of(model: UnifiedAutoEncoder) -> str:
    """Return width x height of what a model draws."""
    return f"{model.decoder.size_px}x{model.decoder.size_px}"


def draw_pictures(model: UnifiedAutoEncoder, request: ImageRequest) -> dict[str, Any]:
    """Draw the prompt, as `uae draw` does: the same seed gives the same image.

    Raises:
        ApiError: 400: the prompt is empty or too long for the encoder, or another size is asked
            for.
    """
    prompt, num_tokens = _prompt(model, request)
    sampling = model.settings.sampling
    if request.num_inference_steps is not None:
        sampling = replace(sampling, num_steps=request.num_inference_steps)
    if request.guidance_scale is not None:
        sampling = replace(sampling, guidance_scale=request.guidance_scale)
    seed = secrets.randbelow(2**31) if request.seed is None else request.seed
    images = to_images(model.draw([prompt] * request.n, seed=seed, sampling=sampling))
    limit = model.settings.max_caption_tokens
    warning = (
        f"the prompt has {num_tokens} tokens, the decoder was trained for {limit}: its end may be "
        "ignored"
    )
    return {
        "created": int(time.time()),
        "data": [{"b64_json": _base64_png(image)} for image in images],
        "output_format": "png",
        "size": size_of(model),
        "usage": {"input_tokens": num_tokens, "output_tokens": 0, "total_tokens": num_tokens},
        "seed": seed,
        "warnings": [warning] if num_tokens > limit else [],
    }


def _prompt(model: UnifiedAutoEncoder, request: ImageRequest) -> tuple[str, int]:
    """Return the text and its number of tokens."""
    if request.size not in ("auto", size_of(model)):
        raise ApiError(
            400,
            f"size {shown(request.size)}: this model draws {size_of(model)} alone: give that or "
            "auto",
            param="size",
            code="invalid_value",
        )
    prompt = request.prompt.strip()
    if not prompt:
        message = "prompt is empty: expected a text"
        raise ApiError(400, message, param="prompt", code="invalid_value")
    num_tokens, limit = model.conditioner.num_tokens(prompt), context_length(model.encoder)
    if num_tokens > limit:
        message = f"prompt has {num_tokens} tokens, the model reads at most {limit}: shorten it"
        raise ApiError(400, message, param="prompt", code="context_length_exceeded")
    return prompt, num_tokens


def _base64_png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
