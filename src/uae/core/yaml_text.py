"""YAML as people mean it: every file of users is read here, and every file for them written here.

YAML 1.1, which PyYAML reads, takes `010` for 8, `1:30` for 90, `off` for false, `1_0` for ten and
`2026-11-30` for a date. As in YAML 1.2, numbers are decimal here, `true` and `false` alone are
booleans, and anything else is text as written: whoever needs a number then refuses it by its key.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from uae.core.errors import UsageError

_KINDS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": ("<<", ["<"]),
}
"""Values that are no text, by the name of their tag: a pattern, and its first characters."""


class Loader(yaml.SafeLoader):
    """Reads plain values by the kinds above."""

    yaml_implicit_resolvers = {}  # noqa: RUF012


class Dumper(yaml.SafeDumper):
    """Quotes the texts that either version of YAML would take for something else."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: list(resolvers)
        for first, resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }


def _tag(kind: str) -> str:
    return f"tag:yaml.org,2002:{kind}"


for _kind, (_pattern, _first) in _KINDS.items():
    for _side in (Loader, Dumper):
        _side.add_implicit_resolver(_tag(_kind), re.compile(f"^(?:{_pattern})$"), _first)


_SPECIAL = re.compile(r"\.(?=inf|nan)", re.IGNORECASE)


def _number(_loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int | float | str:
    """Read what is a number by its form or by a tag such as `!!int`, which may be wrong."""
    text = str(node.value)
    try:
        return int(text) if node.tag == _tag("int") else float(_SPECIAL.sub("", text))
    except ValueError:
        return text


Loader.add_constructor(_tag("int"), _number)
Loader.add_constructor(_tag("float"), _number)


@contextmanager
def parsing(text: str, source: object) -> Iterator[Loader]:
    """Give a loader of a text; what is no YAML is a `UsageError` by source and line."""
    loader = None
    try:
        loader = Loader(text)
        yield loader
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"{source}{line}: not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{source}: not YAML: {error}") from error
    finally:
        if loader:
            loader.dispose()


def text_of(path: Path) -> str:
    """Read a file's text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start} is not UTF-8: expected YAML") from error


def read_yaml(path: Path) -> Any:
    """Read a file's values; what is no YAML is a `UsageError` that names the line."""
    with parsing(text_of(path), path) as loader:
        return loader.get_single_data()


def to_yaml(values: object) -> str:
    """Write values, keys in their order."""
    return yaml.dump(values, Dumper=Dumper, sort_keys=False)
