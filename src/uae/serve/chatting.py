"""From a chat request to the model and back."""

import secrets
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image
from pydantic_core import to_json

from uae.data.base64_image import NotBase64, is_data_url, open_base64
from uae.data.untrusted.file import UnreadableImage
from uae.models.chat import (
    HALF_A_CHARACTER,
    Message,
    Reply,
    ReplyConfig,
    SaidToken,
    chat_prompts,
    context_length,
)
from uae.models.unified import UnifiedAutoEncoder
from uae.models.vlm.family import Prompts
from uae.serve.chat_request import AssistantMessage, ChatRequest, ImagePart
from uae.serve.fields import ApiError, shown

MAX_ASPECT = 200  # Qwen2.5-VL's own limit, as in `data/questions.py`
MAX_IMAGES = 16


@dataclass(frozen=True, slots=True)
class Chat:
    """A request that the model can answer."""

    id: str
    created: int
    model: str
    prompts: Prompts
    config: ReplyConfig

    def response(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """Return a response, or a part of a streamed one, without its usage."""
        place = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return place | {"choices": choices}

    def usage(self, replies: Sequence[Reply]) -> dict[str, int]:
        """Count tokens, images and end tokens included."""
        prompt = int(self.prompts.mask.sum())
        completion = sum(reply.num_tokens for reply in replies)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    def logprobs(self, tokens: Sequence[SaidToken]) -> dict[str, Any] | None:
        """Pack tokens; None where they were not asked for."""
        if self.config.num_top is None:
            return None
        content = [
            _token(said.text, said.log_prob) | {"top_logprobs": [_token(*x) for x in said.top]}
            for said in tokens
        ]
        return {"content": content}


def _token(text: str, log_prob: float) -> dict[str, Any]:
    """Pack a token, with its text in UTF-8 where it is no part of a character."""
    data = None if HALF_A_CHARACTER in text else list(text.encode())
    return {"token": text, "logprob": log_prob, "bytes": data}


def prepare_chat(model: UnifiedAutoEncoder, request: ChatRequest) -> Chat:
    """Open the images and tokenise.

    Raises:
        ApiError: 400: the last turn is not the user's, `top_logprobs` comes without `logprobs`, an
            image cannot be opened, or the prompt leaves no room in the context.
    """
    if request.messages[-1].role != "user":
        message = f"messages: the last is by {request.messages[-1].role!r}, expected one by 'user'"
        raise ApiError(400, message, param="messages", code="invalid_value")
    if request.top_logprobs and not request.logprobs:
        message = f"top_logprobs {request.top_logprobs} needs logprobs true"
        raise ApiError(400, message, param="top_logprobs", code="invalid_value")
    messages = _messages(request)
    prompts = chat_prompts(model.encoder, messages)
    return Chat(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=request.model,
        prompts=prompts,
        config=ReplyConfig(
            max_new_tokens=_max_new_tokens(model, request, int(prompts.mask.sum())),
            temperature=request.temperature,
            stop=tuple(request.stop),
            seed=secrets.randbelow(2**31) if request.seed is None else request.seed,
            num_replies=request.n,
            num_top=request.top_logprobs if request.logprobs else None,
        ),
    )


def _messages(request: ChatRequest) -> list[Message]:
    parts = [part for message in request.messages for part in message.content]
    num_images = sum(isinstance(part, ImagePart) for part in parts)
    if num_images > MAX_IMAGES:
        message = f"messages: {num_images} images, at most {MAX_IMAGES} allowed"
        raise ApiError(400, message, param="messages", code="too_many_images")
    messages = []
    for i, message in enumerate(request.messages):
        content: list[str | Image.Image] = []
        for k, part in enumerate(message.content):
            if isinstance(part, ImagePart):
                param = f"messages[{i}].content[{k}].image_url.url"
                content.append(open_data_url(part.image_url.url, param))
            else:
                content.append(part.text)
        if isinstance(message, AssistantMessage) and message.refusal is not None:
            content.append(message.refusal)
        role = "system" if message.role == "developer" else message.role
        messages.append(Message(role, tuple(content)))
    return messages


def open_data_url(url: str, param: str) -> Image.Image:
    """Return the image of a data: URL as upright RGB; its format is told by content.

    Raises:
        ApiError: 400, naming `param`: another kind of URL, no base64, or no image that we open.
    """
    if not is_data_url(url):
        raise ApiError(
            400,
            f"{param} {shown(url)}: this server fetches nothing: send the image itself as "
            "data:image/png;base64,...",
            param=param,
            code="invalid_image_url",
        )
    try:
        return open_base64(url, param, MAX_ASPECT)
    except UnreadableImage as error:
        code = "invalid_base64_image" if isinstance(error, NotBase64) else "invalid_image"
        raise ApiError(400, str(error), param=param, code=code) from error


def _max_new_tokens(model: UnifiedAutoEncoder, request: ChatRequest, num_prompt: int) -> int:
    """Return the limit of a reply: what is asked for or the model's setting, and what is left.

    Clients ask for limits that suit the longest contexts there are (VLMEvalKit: 32768); a reply
    that the context cuts ends with the reason "length".

    Raises:
        ApiError: The prompt leaves no room.
    """
    limit = context_length(model.encoder)
    if num_prompt >= limit:
        raise ApiError(
            400,
            f"the chat has {num_prompt} tokens, which leaves no room for a reply in the model's "
            f"context of {limit}: shorten the chat",
            param="messages",
            code="context_length_exceeded",
        )
    wanted = request.max_completion_tokens or request.max_tokens or model.settings.max_new_tokens
    return min(wanted, limit - num_prompt)


def completion(chat: Chat, replies: Sequence[Reply]) -> dict[str, Any]:
    """Pack finished replies."""
    choices = [
        {
            "index": i,
            "message": {"role": "assistant", "content": reply.text},
            "finish_reason": reply.finish_reason,
            "logprobs": chat.logprobs(reply.tokens),
        }
        for i, reply in enumerate(replies)
    ]
    return chat.response("chat.completion", choices) | {"usage": chat.usage(replies)}


async def events(
    chat: Chat, growing: AsyncIterator[tuple[Reply, ...]], *, include_usage: bool
) -> AsyncIterator[str]:
    """Yield server-sent events: the role of each reply, its text as it grows, how it ended."""

    def event(choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> str:
        chunk = chat.response("chat.completion.chunk", choices)
        chunk |= {"usage": usage} if include_usage else {}
        return f"data: {to_json(chunk, inf_nan_mode='null').decode()}\n\n"

    def delta(i: int, new: dict[str, str], **end: Any) -> dict[str, Any]:
        return {"index": i, "delta": new, "finish_reason": None, "logprobs": None} | end

    replies = (Reply(),) * chat.config.num_replies
    begin = {"role": "assistant", "content": ""}
    yield event([delta(i, begin) for i in range(len(replies))])
    async for grown in growing:
        news = [
            delta(
                i,
                {"content": new.text[len(old.text) :]} if new.text != old.text else {},
                finish_reason=new.finish_reason,
                logprobs=chat.logprobs(new.tokens[len(old.tokens) :]),
            )
            for i, (old, new) in enumerate(zip(replies, grown, strict=True))
            if (new.text, new.finish_reason, new.tokens)
            != (old.text, old.finish_reason, old.tokens)
        ]
        if news:
            yield event(news)
        replies = grown
    if include_usage:
        yield event([], chat.usage(replies))
    yield "data: [DONE]\n\n"
