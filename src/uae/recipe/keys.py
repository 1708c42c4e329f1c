"""The keys of a recipe, read from the source of its dataclasses.

Importing those dataclasses imports torch, which takes seconds: too long for `--help`, and to tell
someone that a key or its value is wrong. What must fit together, the dataclasses check themselves.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from uae.core.config import OpenShare, Share

PLAIN = {
    "PositiveInt": "int",
    "NonNegativeInt": "int",
    "PositiveFloat": "float",
    "NonNegativeFloat": "float",
    "Share": "float",
    "OpenShare": "float",
}
"""Bounded types: the help names their kind, and an error the bound."""
_TYPES: dict[str, Any] = {
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "PositiveInt": PositiveInt,
    "NonNegativeInt": NonNegativeInt,
    "PositiveFloat": PositiveFloat,
    "NonNegativeFloat": NonNegativeFloat,
    "Share": Share,
    "OpenShare": OpenShare,
}

PACKAGE = Path(__file__).parents[1]
RECIPE = ("uae.recipe.recipe", "Recipe")


@dataclass(frozen=True, slots=True)
class RecipeKey:
    """One key. `kind` is its type as the source has it, "" for a section that holds other keys."""

    name: str
    kind: str
    default: str
    help: str
    annotation: str = ""
    """Its type with its bound, by the name in the source."""

    @property
    def type(self) -> Any:
        """The type that its values are checked by."""
        return _type(ast.parse(self.annotation, mode="eval").body)

    @property
    def is_table(self) -> bool:
        """True where the user chooses the keys below, as in `reward.clip`."""
        return self.kind.startswith("dict[")

    @property
    def is_text(self) -> bool:
        """True where a value is taken as it is written."""
        return self.kind == "str" or self.kind.startswith("Literal[")


@cache
def recipe_keys() -> Mapping[str, RecipeKey]:
    """Return all keys and sections by dotted name, in the order of the dataclasses."""
    module, definition = _definition(*RECIPE) or ("", None)
    assert isinstance(definition, ast.ClassDef), f"no class {RECIPE[1]} in {RECIPE[0]}"
    return {key.name: key for key in _keys_of(module, definition, "", {})}


@cache
def _tree(module: str) -> ast.Module:
    path = PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def _definition(module: str, name: str) -> tuple[str, ast.ClassDef | ast.expr] | None:
    """Find a class or an alias of this package, through imports; None for names from elsewhere."""
    for node in _tree(module).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return module, node.value
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("uae."):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _definition(str(node.module), alias.name)
    return None


def _keys_of(
    module: str, definition: ast.ClassDef, prefix: str, given: Mapping[str, ast.expr]
) -> Iterator[RecipeKey]:
    """Yield a class's keys; `given` are the values that replace its own defaults."""
    for i, node in enumerate(definition.body):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        name = node.target.id
        after = definition.body[i + 1] if i + 1 < len(definition.body) else None
        help_text = _text(after.value) if isinstance(after, ast.Expr) else ""
        default = given.get(name, _made_by(node.value))
        found = None
        if isinstance(node.annotation, ast.Name):
            found = _definition(module, node.annotation.id)
        if found and isinstance(found[1], ast.ClassDef):
            yield RecipeKey(prefix + name, "", "", help_text)
            below = {}
            if isinstance(default, ast.Call):
                below = {k.arg: _made_by(k.value) for k in default.keywords if k.arg}
            yield from _keys_of(found[0], found[1], f"{prefix}{name}.", below)
        else:
            kind = ast.unparse(node.annotation)
            if found and kind not in PLAIN:
                kind = ast.unparse(found[1])
            plain = re.sub(r"\w+", lambda word: PLAIN.get(word[0], word[0]), kind)
            yield RecipeKey(prefix + name, plain, _shown(default), help_text, kind)


def _type(node: ast.expr) -> Any:
    """Return the type that an annotation stands for; one that is new here is a `KeyError`."""
    if not isinstance(node, ast.Subscript):
        return _TYPES[ast.unparse(node)]
    if ast.unparse(node.value) == "Literal":
        return Literal[ast.literal_eval(node.slice)]
    assert isinstance(node.slice, ast.Tuple), f"{ast.unparse(node)} is no dict[str, VALUE]"
    key, value = node.slice.elts
    return dict[_type(key), _type(value)]


def _made_by(value: ast.expr | None) -> ast.expr:
    """Return the expression behind a default, looking into `Field(default_factory=...)`."""
    if value is None:
        return ast.Name("required")
    if isinstance(value, ast.Call) and ast.unparse(value.func) in ("Field", "field"):
        for keyword in value.keywords:
            if keyword.arg == "default_factory":
                made = keyword.value
                return made.body if isinstance(made, ast.Lambda) else ast.Call(made, [], [])
            if keyword.arg == "default":
                return keyword.value
        return _made_by(value.args[0] if value.args else None)
    return value


def _text(value: ast.expr) -> str:
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return " ".join(value.value.split())
    return ""


def _shown(default: ast.expr) -> str:
    try:
        return str(ast.literal_eval(default))
    except ValueError:
        return ast.unparse(default)
