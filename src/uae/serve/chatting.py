"""From a chat request to the model and back."""

import secrets
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

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
from uae.serve.data_url import open_data_url
from uae.serve.errors import ApiError
from uae.serve.protocol import (
    ChatChunk,
    ChatCompletion,
    Choice,
    ChunkChoice,
    Logprobs,
    ReplyMessage,
    TokenLogprob,
    TopLogprob,
    Usage,
)

MAX_IMAGES = 16
LAST_EVENT = "data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Chat:
    """A request that the model can answer."""

    id: str
    created: int
    model: str
    prompts: Prompts
    config: ReplyConfig

    def usage(self, replies: Sequence[Reply]) -> Usage:
        """Count tokens."""
        prompt = int(self.prompts.mask.sum())
        completion = sum(reply.num_tokens for reply in replies)
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=prompt + completion,
        )

    def logprobs(self, tokens: Sequence[SaidToken]) -> Logprobs | None:
        """Pack tokens; None where they were not asked for."""
        if self.config.num_top is None:
            return None
        return Logprobs(
            content=[
                TokenLogprob(
                    **_token(said.text, said.log_prob),
                    top_logprobs=[TopLogprob(**_token(*pair)) for pair in said.top],
                )
                for said in tokens
            ]
        )


def _token(text: str, log_prob: float) -> dict[str, Any]:
    data = None if HALF_A_CHARACTER in text else list(text.encode())
    return {"token": text, "logprob": log_prob, "bytes": data}


def prepare_chat(model: UnifiedAutoEncoder, asked: ChatRequest) -> Chat:
    """Open the images and tokenise.

    Raises:
        ApiError: 400: the last turn is not the user's, `top_logprobs` comes without `logprobs`, an
            image cannot be opened, or the prompt leaves no room in the context.
    """
    if asked.messages[-1].role != "user":
        message = f"messages: the last is by {asked.messages[-1].role!r}, expected one by 'user'"
        raise ApiError(400, message, param="messages", code="invalid_value")
    if asked.top_logprobs and not asked.logprobs:
        message = f"top_logprobs {asked.top_logprobs} needs logprobs true"
        raise ApiError(400, message, param="top_logprobs", code="invalid_value")
    messages = _messages(asked)
    prompts = chat_prompts(model.encoder, messages)
    return Chat(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=asked.model,
        prompts=prompts,
        config=ReplyConfig(
            max_new_tokens=_max_new_tokens(model, asked, int(prompts.mask.sum())),
            temperature=asked.temperature,
            stop=tuple(asked.stop),
            seed=secrets.randbelow(2**31) if asked.seed is None else asked.seed,
            num_replies=asked.n,
            num_top=asked.top_logprobs if asked.logprobs else None,
        ),
    )


def _messages(asked: ChatRequest) -> list[Message]:
    parts = [part for message in asked.messages for part in message.content]
    num_images = sum(isinstance(part, ImagePart) for part in parts)
    if num_images > MAX_IMAGES:
        message = f"messages: {num_images} images, at most {MAX_IMAGES} allowed"
        raise ApiError(400, message, param="messages", code="too_many_images")
    messages = []
    for i, message in enumerate(asked.messages):
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


def _max_new_tokens(model: UnifiedAutoEncoder, asked: ChatRequest, num_prompt: int) -> int:
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
    wanted = asked.max_completion_tokens or asked.max_tokens or model.settings.max_new_tokens
    return min(wanted, limit - num_prompt)


def completion(chat: Chat, replies: Sequence[Reply]) -> ChatCompletion:
    """Pack finished replies."""
    return ChatCompletion(
        id=chat.id,
        created=chat.created,
        model=chat.model,
        choices=[
            Choice(
                index=i,
                message=ReplyMessage(content=reply.text),
                finish_reason=reply.finish_reason,
                logprobs=chat.logprobs(reply.tokens),
            )
            for i, reply in enumerate(replies)
        ],
        usage=chat.usage(replies),
    )


async def events(
    chat: Chat, growing: AsyncIterator[tuple[Reply, ...]], *, include_usage: bool
) -> AsyncIterator[str]:
    """Yield server-sent events: the role of each reply, its text as it grows, how it ended."""

    def event(choices: list[ChunkChoice], usage: Usage | None = None) -> str:
        chunk = ChatChunk(
            id=chat.id, created=chat.created, model=chat.model, choices=choices, usage=usage
        )
        return f"data: {chunk.model_dump_json(exclude=None if include_usage else {'usage'})}\n\n"

    replies = (Reply(),) * chat.config.num_replies
    begin = {"role": "assistant", "content": ""}
    yield event([ChunkChoice(index=i, delta=begin) for i in range(len(replies))])
    async for grown in growing:
        news = [
            ChunkChoice(
                index=i,
                delta={"content": new.text[len(old.text) :]} if new.text != old.text else {},
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
    yield LAST_EVENT
