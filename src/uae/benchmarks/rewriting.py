"""Prompts in the encoder's own words: expanded into descriptions, which the decoder then draws.

Published rows "with a rewriter" are of longer prompts too, most of them by another model. Here the
encoder writes in a chat of text alone, always the most probable words, one prompt at a time: a
rewrite depends on model and prompt, not on a batch.

rewrites.jsonl   one object a line (prompt, rewrite, is_truncated), appended as it is made;
                 rewrites-rank1.jsonl and so on while several processes write
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uae.core.errors import UsageError
from uae.core.journal import Journal, take_in
from uae.core.json_lines import check_keys
from uae.core.ranks import current, once, own_path, share
from uae.core.unicode import check_text
from uae.models.chat import Message, chat_prompts, context_length
from uae.models.unified import UnifiedAutoEncoder
from uae.models.vlm.family import Prompts

REWRITES = "rewrites.jsonl"
WORDING = "rewritten by the encoder"
INSTRUCTION = (
    "Expand this prompt into a detailed description of one image. Keep every object, number, color "
    "and position that it asks for, and reply with the description alone."
)
"""Stands before the prompt and an empty line; another wording makes another set of images."""

_KEYS = {"prompt": str, "rewrite": str, "is_truncated": bool}


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A prompt and its description, "" where the encoder wrote no word.

    It is truncated when it reached the model's limit without an end.
    """

    prompt: str
    rewrite: str
    is_truncated: bool


def rewrite_prompts(
    load: Callable[[], UnifiedAutoEncoder],
    prompts: Iterable[str],
    folder: Path,
    show: Callable[[int, int], None],
) -> dict[str, Rewrite]:
    """Return each prompt's rewrite; those in the folder's file, see `REWRITES`, are kept.

    The model is loaded where something is missing, which makes the folder; its encoder writes as
    much as its captions may have. `show` is told (prompts done, prompts in all).

    Raises:
        UsageError: A prompt is too long for the encoder, another process writes to the file, or a
            line of it is wrong.
    """
    path = folder / REWRITES
    wanted = list(dict.fromkeys(prompts))
    rewrites = once(lambda: _take_in(path))
    if missing := [prompt for prompt in wanted if prompt not in rewrites]:
        model = load()
        # all are read before the first is answered, which may take hours
        chats = [(prompt, _chat(model, prompt)) for prompt in missing]
        num_kept = len(wanted) - len(chats)
        with Journal(own_path(path), lock=True) as journal:
            show(num_kept, len(wanted))
            for number, (prompt, chat) in enumerate(share(chats), start=1):
                journal.append(asdict(_rewrite(model, prompt, chat)))
                # the other ranks are about as far
                show(num_kept + number * current().size, len(wanted))
        rewrites = once(lambda: _take_in(path))
    return {prompt: rewrites[prompt] for prompt in wanted}


def _chat(model: UnifiedAutoEncoder, prompt: str) -> Prompts:
    chat = chat_prompts(model.encoder, [Message("user", (f"{INSTRUCTION}\n\n{prompt}",))])
    num_tokens, limit = chat.token_ids.shape[1], context_length(model.encoder)
    num_new = model.settings.max_new_tokens
    if num_tokens + num_new > limit:
        raise UsageError(
            f"the prompt {prompt[:60]!r} is too long to be rewritten: {num_tokens} tokens with the "
            f"instruction, and {num_new} for the reply, are more than the encoder's {limit}"
        )
    return chat


def _rewrite(model: UnifiedAutoEncoder, prompt: str, chat: Prompts) -> Rewrite:
    replies = model.encoder.sample(chat, None, max_new_tokens=model.settings.max_new_tokens)
    return Rewrite(prompt, replies.texts[0].strip(), bool(replies.truncated[0]))


def _take_in(path: Path) -> dict[str, Rewrite]:
    """Return the rewrites that are there, in the one file."""
    expected = "one object a line; delete the line to have its prompt rewritten again"
    return take_in(path, _parse, lambda rewrite: rewrite.prompt, expected)


def _parse(values: Any, where: str) -> Rewrite:
    check_text(values, where)
    check_keys(values, _KEYS, _KEYS, where)
    for key, kind in _KEYS.items():
        if not isinstance(values[key], kind):
            expected = "text" if kind is str else "true or false"
            raise UsageError(f"{where}: key {key!r} is {values[key]!r}: expected {expected}")
    return Rewrite(**values)
