"""From an image request to the model and back."""

import secrets
import time
from dataclasses import replace

from uae.data.sources import to_images
from uae.models.chat import context_length
from uae.models.unified import UnifiedAutoEncoder
from uae.serve.errors import ApiError
from uae.serve.fields import shown
from uae.serve.protocol import ImageRequest, ImagesResponse, ImageUsage, picture


def size_of(model: UnifiedAutoEncoder) -> str:
    """Return width x height of what a model draws."""
    return f"{model.decoder.size_px}x{model.decoder.size_px}"


def draw_pictures(model: UnifiedAutoEncoder, asked: ImageRequest) -> ImagesResponse:
    """Draw the prompt, as `uae draw` does: the same seed gives the same image.

    Raises:
        ApiError: 400: the prompt is empty or too long for the encoder, or another size is asked
            for.
    """
    prompt = _prompt(model, asked)
    sampling = model.settings.sampling
    if asked.num_inference_steps is not None:
        sampling = replace(sampling, num_steps=asked.num_inference_steps)
    if asked.guidance_scale is not None:
        sampling = replace(sampling, guidance_scale=asked.guidance_scale)
    seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
    images = to_images(model.draw([prompt] * asked.n, seed=seed, sampling=sampling))
    num_tokens = model.conditioner.num_tokens(prompt)
    return ImagesResponse(
        created=int(time.time()),
        data=[picture(image) for image in images],
        size=size_of(model),
        usage=ImageUsage(input_tokens=num_tokens, total_tokens=num_tokens),
        seed=seed,
        warnings=_warnings(num_tokens, model.settings.max_caption_tokens),
    )


def _prompt(model: UnifiedAutoEncoder, asked: ImageRequest) -> str:
    if asked.size not in ("auto", size_of(model)):
        raise ApiError(
            400,
            f"size {shown(asked.size)}: this model draws {size_of(model)} alone: give that or auto",
            param="size",
            code="invalid_value",
        )
    prompt = asked.prompt.strip()
    if not prompt:
        message = "prompt is empty: expected a text"
        raise ApiError(400, message, param="prompt", code="invalid_value")
    num_tokens, limit = model.conditioner.num_tokens(prompt), context_length(model.encoder)
    if num_tokens > limit:
        message = f"prompt has {num_tokens} tokens, the model reads at most {limit}: shorten it"
        raise ApiError(400, message, param="prompt", code="context_length_exceeded")
    return prompt


def _warnings(num_tokens: int, limit: int) -> list[str]:
    if num_tokens <= limit:
        return []
    return [
        f"the prompt has {num_tokens} tokens, the decoder was trained for {limit}: its end may be "
        "ignored"
    ]
