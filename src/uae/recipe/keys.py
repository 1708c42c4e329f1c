"""The keys of a recipe: names, types, defaults and meanings, from its dataclasses."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass, replace
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from uae.recipe.decoder_rl import OBJECTIVES
from uae.recipe.recipe import Recipe

CHOICES: Mapping[str, Mapping[str, type]] = {"decoder_rl.objective": OBJECTIVES}
"""Sections whose keys depend on the one named `name`: settings by that name."""


@dataclass(frozen=True, slots=True)
class RecipeKey:
    """One key by its dotted name."""

    name: str
    kind: str
    """Its type in words, "" for a section that holds other keys."""
    default: str
    help: str
    only_with: tuple[str, ...] = ()
    """Of a section with choices, the names that have this key; empty for all."""

    @property
    def is_table(self) -> bool:
        """True where the user chooses the keys below, as in `reward.clip`."""
        return self.kind.startswith("dict[")

    @property
    def is_text(self) -> bool:
        """True where a value is taken as it is written."""
        return self.kind == "str" or ("|" in self.kind and not self.kind.startswith("list["))


def recipe_keys() -> Mapping[str, RecipeKey]:
    """Return all keys and sections by dotted name, in the order of the dataclasses."""
    return {key.name: key for key in _keys_of(Recipe(), "")}


def _keys_of(values: Any, prefix: str) -> Iterator[RecipeKey]:
    """Yield the keys of a dataclass, whose values are the defaults."""
    for name, field in type(values).__pydantic_fields__.items():
        key, value = prefix + name, getattr(values, name)
        text = " ".join((field.description or "").split())
        if key in CHOICES:
            yield RecipeKey(key, "", "", text)
            yield from _keys_of_choices(CHOICES[key], f"{key}.")
        elif is_dataclass(value):
            yield RecipeKey(key, "", "", text)
            yield from _keys_of(value, f"{key}.")
        else:
            yield RecipeKey(key, _kind(field.annotation), str(value), text)


def _keys_of_choices(choices: Mapping[str, type], prefix: str) -> Iterator[RecipeKey]:
    """Yield `name`, then the keys of each choice."""
    keys: dict[str, RecipeKey] = {}
    for choice, settings in choices.items():
        for key in _keys_of(settings(), prefix):
            first = keys.setdefault(key.name, key)
            keys[key.name] = replace(first, only_with=(*first.only_with, choice))
    yield replace(keys.pop(f"{prefix}name"), kind=_either(choices), only_with=())
    yield from keys.values()


def _kind(annotation: Any) -> str:
    """Name a type: `int`, `a|b` for a choice of texts, `dict[str, float]`."""
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return _either(parts)
    if get_origin(annotation) is list:
        return f"list[{_kind(parts[0])}]"
    if get_origin(annotation) is dict:
        return f"dict[{', '.join(map(_kind, parts))}]"
    plain = [part for part in parts if isinstance(part, type) and part is not NoneType]
    return plain[0].__name__ if plain else annotation.__name__


def _either(names: Any) -> str:
    """Write a choice of texts; of a single one too, so that it is known as a choice."""
    return "|".join(names) + ("" if len(names) > 1 else "|")
