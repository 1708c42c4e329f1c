"""The prompts of a benchmark, by the names that their images go by, and lines that hold one."""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from uae.core.errors import UsageError
from uae.core.identity import text_digests
from uae.core.json_lines import check_keys, parse_json

YES_FORMS, NO_FORMS = ("Yes", "yes", " Yes", " yes"), ("No", "no", " No", " no")
"""How an answer to a question about an image may begin."""

P = TypeVar("P")
C = TypeVar("C")

_LINE_KEYS = ("tag", "include", "exclude", "prompt")


@dataclass(frozen=True, slots=True)
class PromptSet(Generic[P]):
    """Prompts by name, in the order in which they were read."""

    by_name: Mapping[str, P]

    @property
    def prompts(self) -> tuple[P, ...]:
        return tuple(self.by_name.values())

    @property
    def digests(self) -> dict[str, str | None]:
        """The sha256 of each prompt with all that was read of it, by its name."""
        return text_digests({name: repr(prompt) for name, prompt in self.by_name.items()})

    @property
    def sha256(self) -> str:
        """Of all that was read, names left out."""
        return hashlib.sha256(repr(self.prompts).encode()).hexdigest()


def parse_order(
    line: str,
    where: str,
    known: Mapping[str, Sequence[str]],
    clause_of: Callable[[dict[str, Any], int, str], C],
    tags: Collection[str] = (),
) -> tuple[str, str, tuple[C, ...], tuple[C, ...]]:
    """Return tag, prompt and clauses of a line as GenEval and GenEval++ write them.

    Args:
        line: JSON object with "tag", "prompt", "include" and perhaps "exclude".
        where: Its place, for messages.
        known: Keys of a clause of "include" and of "exclude"; the first two must be there.
        clause_of: Makes a clause of an object, its number in the list, and its place.
        tags: Those that there are; any text if not given.

    Raises:
        UsageError: The line is wrong; names the key.
    """
    values = parse_json(line, where, "one object with tag and prompt")
    check_keys(values, _LINE_KEYS, ("tag", "include", "prompt"), where)
    if tags and values["tag"] not in tags:
        expected = ", ".join(tags)
        raise UsageError(f"{where}: key 'tag' is {values['tag']!r}: expected one of {expected}")
    tag, prompt = text_at(values, "tag", where), text_at(values, "prompt", where)
    include, exclude = (
        tuple(_clauses(values.get(name, []), f"{where}: key '{name}", keys, clause_of))
        for name, keys in known.items()
    )
    if not include:
        raise UsageError(f"{where}: key 'include' is empty: expected at least one clause")
    return tag, prompt, include, exclude


def _clauses(
    values: object,
    where: str,
    known: Sequence[str],
    clause_of: Callable[[dict[str, Any], int, str], C],
) -> Iterator[C]:
    if not isinstance(values, list):
        raise UsageError(f"{where}' is {values!r}: expected a list of clauses")
    for index, clause in enumerate(values):
        place = f"{where}[{index}]'"
        check_keys(clause, known, known[:2], place)
        yield clause_of(clause, index, place)


def text_at(values: Mapping[str, Any], key: str, where: str) -> str:
    """Return the text of a key; raises `UsageError` where it holds none."""
    text = values[key]
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"{where}: key {key!r} is {text!r}: expected text")
    return text


def count_at(values: Mapping[str, Any], where: str) -> int:
    """Return a clause's count, from 1 on; raises `UsageError` where it has none."""
    count = values["count"]
    if type(count) is not int or count < 1:
        raise UsageError(f"{where}: count {count!r}: expected a whole number from 1 on")
    return count
