# transformers types sub-configs as unions
# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
"""Chats with the encoder: turns of texts and images, and replies that can be read as they grow."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from PIL import Image

from uae.flow.noise import stream
from uae.models.vlm.encoder import Encoder
from uae.models.vlm.family import Prompts, SampledTokens
from uae.models.vlm.sampling import uniforms

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length"]

HALF_A_CHARACTER = "\ufffd"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: texts and images in their order."""

    role: Role
    parts: tuple[str | Image.Image, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyConfig:
    """How replies are chosen.

    Attributes:
        max_new_tokens: Longest reply, the end token included.
        temperature: 0 takes the most probable words.
        stop: Texts before which a reply ends.
        seed: Seed of the choice of words.
        num_replies: Replies to one chat, each with draws of its own.
        num_top: Tell of each token how likely it was, and of so many likeliest ones; None for
            nothing of it.
    """

    max_new_tokens: int
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    num_replies: int = 1
    num_top: int | None = None


@dataclass(frozen=True, slots=True)
class SaidToken:
    """A token of a reply, special or not, as text.

    Attributes:
        text: A part of a character reads as U+FFFD.
        log_prob: By raw logits, whatever the temperature.
        top: The likeliest tokens in its place, as (text, log-probability).
    """

    text: str
    log_prob: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply so far; what is said stays said.

    Attributes:
        text: Without special tokens and space around it.
        num_tokens: Tokens sampled, the end token included.
        finish_reason: `stop` at the end token or a stop text, `length` at the limit, None before.
        tokens: All that were sampled, if `ReplyConfig.num_top` asks for them.
    """

    text: str = ""
    num_tokens: int = 0
    finish_reason: FinishReason | None = None
    tokens: tuple[SaidToken, ...] = ()


def chat_prompts(encoder: Encoder, messages: Sequence[Message]) -> Prompts:
    """Tokenise a chat up to the reply that is asked for."""
    chat = [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
                for part in message.parts
            ],
        }
        for message in messages
    ]
    images = [part for m in messages for part in m.parts if isinstance(part, Image.Image)]
    return encoder.chat_prompts([chat], images)


def context_length(encoder: Encoder) -> int:
    """Return how many tokens the encoder reads and writes in all."""
    return encoder.family.max_tokens


def grow_replies(
    encoder: Encoder, prompts: Prompts, config: ReplyConfig
) -> Iterator[tuple[Reply, ...]]:
    """Reply to one chat, yielding all replies after each token; the last have finish reasons.

    A reply depends on the chat and on (seed, its number) alone.
    """
    draws = None
    if config.temperature > 0:
        streams = [stream(config.seed, "reply", i) for i in range(config.num_replies)]
        draws = uniforms(streams, config.max_new_tokens)
    growing = [_Growing(config.stop) for _ in range(config.num_replies)]
    sampled = encoder.sample_tokens(
        prompts,
        draws,
        num_captions=config.num_replies,
        temperature=config.temperature or 1.0,
        max_new_tokens=config.max_new_tokens,
        num_top=config.num_top,
    )
    for number, tokens in enumerate(sampled, start=1):
        is_last = number == config.max_new_tokens
        said = _said(encoder, tokens)
        columns = zip(
            growing, tokens.token_ids.tolist(), tokens.running.tolist(), said, strict=True
        )
        for one, token_id, is_running, told in columns:
            if one.reply.finish_reason is None:
                one.add(encoder, token_id, told, has_ended=not is_running, is_last=is_last)
        yield tuple(one.reply for one in growing)
        if all(one.reply.finish_reason for one in growing):
            return


@dataclass(slots=True)
class _Growing:
    stop: tuple[str, ...]
    token_ids: list[int] = field(default_factory=list)
    reply: Reply = Reply()

    def add(
        self,
        encoder: Encoder,
        token_id: int,
        told: tuple[SaidToken, ...],
        *,
        has_ended: bool,
        is_last: bool,
    ) -> None:
        self.token_ids.append(token_id)
        [text] = encoder.decode(torch.tensor([self.token_ids]))
        said, is_stopped = settled(text, self.stop, is_whole=has_ended or is_last)
        reason: FinishReason | None = "length" if is_last else None
        if has_ended or is_stopped:
            reason = "stop"
        self.reply = Reply(said, len(self.token_ids), reason, self.reply.tokens + told)


def _said(encoder: Encoder, tokens: SampledTokens) -> list[tuple[SaidToken, ...]]:
    """Return the token of each reply as text, or nothing of it where nothing was asked for."""
    likely = tokens.likely
    if likely is None:
        return [()] * len(tokens.token_ids)
    rows = zip(
        tokens.token_ids.tolist(),
        likely.log_probs.tolist(),
        likely.top_ids.tolist(),
        likely.top_log_probs.tolist(),
        strict=True,
    )
    return [
        (SaidToken(_text_of(encoder, token_id), log_prob, _pairs(encoder, top_ids, top)),)
        for token_id, log_prob, top_ids, top in rows
    ]


def _pairs(
    encoder: Encoder, token_ids: Sequence[int], log_probs: Sequence[float]
) -> tuple[tuple[str, float], ...]:
    pairs = zip(token_ids, log_probs, strict=True)
    return tuple((_text_of(encoder, i), log_prob) for i, log_prob in pairs if log_prob > -math.inf)


def _text_of(encoder: Encoder, token_id: int) -> str:
    return encoder.tokenizer.decode([token_id])


def settled(text: str, stop: Sequence[str], *, is_whole: bool) -> tuple[str, bool]:
    """Return what of a text stays whatever follows, and whether a stop text stands in it.

    Half a character, and an end that may begin a stop text, are held back until more is known.
    """
    found = [text.index(s) for s in stop if s in text]
    if found:
        return text[: min(found)], True
    if is_whole:
        return text, False
    text = text.rstrip(HALF_A_CHARACTER)
    begun = [k for s in stop for k in range(1, len(s)) if text.endswith(s[:k])]
    return text[: len(text) - max(begun, default=0)], False
