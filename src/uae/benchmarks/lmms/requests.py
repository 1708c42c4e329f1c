"""Requests of a task of lmms-eval, in our terms."""

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from uae.core.errors import UsageError
from uae.core.unicode import check_text
from uae.models.chat import Message, ReplyConfig

MAX_NEW_TOKENS = 128
_NEUTRAL = {"do_sample": (False, True, None), "num_beams": (1, None), "top_p": (1, None)}
_OF_OTHERS = {"image_aspect_ratio"}
"""LLaVA's; many tasks give it to all models."""


def turn(context: str, images: Sequence[Any] | None) -> Message:
    """Return the user's turn of a simple task, the images first."""
    check_text(context, "a task's question")
    return Message("user", (*(_image(image) for image in images or ()), context))


def chat(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Return the turns of a chat task, of text and images; raises `UsageError`."""
    return [Message(m["role"], tuple(_part(part) for part in m["content"])) for m in messages]


def _part(part: Mapping[str, Any]) -> str | Image.Image:
    if part["type"] not in ("text", "image"):
        raise UsageError(f"a task shows {part['type']}: the encoder reads text and images alone")
    if part["type"] == "image":
        return _image(part["url"])
    check_text(part["text"], "a task's question")
    return part["text"]


def _image(value: Any) -> Image.Image:
    if not isinstance(value, Image.Image):
        raise UsageError(f"a task gives a {type(value).__name__} as image: expected a PIL image")
    return value.convert("RGB")


def reply_config(choices: Mapping[str, Any], seed: int, num_free: int) -> ReplyConfig:
    """Translate a task's `generation_kwargs`; what would change the result is refused by name."""
    is_greedy = choices.get("do_sample") is False or not choices.get("temperature")
    known = (
        {"max_new_tokens", "temperature", "until"}
        | _OF_OTHERS
        | ({"top_p"} if is_greedy else set())
    )
    for name in choices.keys() - known:
        if choices[name] not in _NEUTRAL.get(name, ()):
            raise UsageError(f"generation_kwargs: {name} {choices[name]!r} is not supported")
    until = choices.get("until") or ()
    return ReplyConfig(
        max_new_tokens=min(choices.get("max_new_tokens", MAX_NEW_TOKENS), num_free),
        temperature=0.0 if is_greedy else choices["temperature"],
        stop=(until,) if isinstance(until, str) else tuple(until),
        seed=seed,
    )
