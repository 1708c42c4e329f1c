"""Plain text: what people write never becomes a control token of a tokenizer.

A control token ends a turn, say, or stands for an image. Chat templates and our own code write
them; in a text that comes from outside "<|im_end|>" is ten characters like any others. So the texts
are broken apart inside such strings before a template is filled, and the pieces of the filled
template are tokenised one by one. Texts that hold no such string keep the tokens they always had.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any, Literal

from transformers import BatchEncoding, PreTrainedTokenizerBase

_BREAK = "\ud800"  # half a character: no text that a tokenizer takes holds it
BLANK = " "
"""Breaks a text for those who tokenise themselves, and so read what is broken apart as one."""


class PlainText:
    """Tokenises by a tokenizer of transformers, and keeps its control tokens out of texts.

    plain = PlainText(tokenizer, tokenizer.chat_template)
    chat = tokenizer.apply_chat_template(plain.messages(messages), tokenize=False)
    plain.encode([chat], "left")
    """

    def __init__(self, tokenizer: Any, template: str | None = None) -> None:
        """Find the control tokens: those marked as special, and those that the template writes."""
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.values()
        control = {x.content for x in added if x.special or x.content in (template or "")}
        control |= {*tokenizer.all_special_tokens}
        # a single character cannot be broken, and blanks in a template are its layout
        names = sorted((x for x in control if len(x) > 1 and x == x.strip()), key=len)
        self._control = re.compile("|".join(map(re.escape, reversed(names))) or r"(?!)")

    def broken(self, text: str, by: str = _BREAK) -> str:
        """Return a text with `by` inside each control token; any other text as it is."""
        while self._control.search(text):  # what is left of one may end another
            text = self._control.sub(lambda found: found[0][0] + by + found[0][1:], text)
        return text

    def messages(self, chat: Sequence[Mapping[str, Any]], by: str = _BREAK) -> list[dict[str, Any]]:
        """Return a chat for the template, all its texts broken; neighbours are one text."""
        return [{**message, "content": self._content(message["content"], by)} for message in chat]

    def _content(self, content: str | Sequence[Mapping[str, Any]], by: str) -> Any:
        if isinstance(content, str):
            return self.broken(content, by)
        parts: list[Mapping[str, Any]] = []
        for kind, run in itertools.groupby(content, key=lambda part: part["type"]):
            if kind == "text":
                text = self.broken("".join(part["text"] for part in run), by)
                parts.append({"type": "text", "text": text})
            else:
                parts.extend(run)
        return parts

    def token_ids(self, text: str) -> list[int]:
        """Return the tokens of a text alone."""
        return self._token_ids([self.broken(text)])[0]

    def head_of(self, text: str, num_tokens: int) -> str:
        """Return what the first tokens of a text say."""
        return self._tokenizer.decode(self.token_ids(text)[:num_tokens])

    def encode(self, chats: Sequence[str], side: Literal["left", "right"]) -> BatchEncoding:
        """Tokenise filled templates: `input_ids` and `attention_mask`, padded at a side."""
        ids = self._token_ids(chats)
        return self._tokenizer.pad({"input_ids": ids}, padding_side=side, return_tensors="pt")

    def _token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        pieces = [text.split(_BREAK) for text in texts]
        flat = list(itertools.chain(*pieces))
        encoded = iter(self._tokenizer(flat, add_special_tokens=False)["input_ids"])
        return [list(itertools.chain(*itertools.islice(encoded, len(x)))) for x in pieces]


def readers_of(parts: Iterable[Any]) -> list[PlainText]:
    """Return one for each tokenizer among a pipeline's parts."""
    tokenizers: list[Any] = [part for part in parts if isinstance(part, PreTrainedTokenizerBase)]
    return [PlainText(x, x.chat_template) for x in tokenizers]


def blanked(text: str, readers: Iterable[PlainText]) -> str:
    """Return a text with a blank in each control token of any of those that read it."""
    return reduce(lambda text, reader: reader.broken(text, BLANK), readers, text)
