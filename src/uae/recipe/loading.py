"""A recipe from its sources: flags go before `UAE_*` variables, those before the file.

Every value keeps the name of its source, so that an error can say where to look.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from uae.core.errors import UsageError
from uae.core.yaml_text import Loader, parsing, text_of
from uae.recipe.keys import CHOICES, RecipeKey

RECIPES = Path(__file__).parent / "presets"
ENVIRONMENT_PREFIX = "UAE_"
OTHER_VARIABLES = {"UAE_API_KEY"}
"""Variables of `uae serve`."""
_EXPECTED = {  # pydantic's error types, without the suffix
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "string": "text",
    "list": "a list, e.g. [encoder, rewards]",
    "dict": "names with values, e.g. {clip: 1.0}",
}
_BOUND = {  # pydantic's error types that come with what was expected
    "literal_error": "{expected}",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge:g} or more",
}

Config = TypeVar("Config")
Keys = Mapping[str, RecipeKey]


@dataclass(frozen=True, slots=True)
class Setting:
    """A value given for a key, and where: `demo.yaml, line 4`, `UAE_SEED` or `--seed`."""

    key: str
    value: Any
    source: str


def find_recipe(name: str) -> Path:
    """Return the file of a recipe: a path, or the name of one that comes with the package."""
    path = Path(name)
    if path.is_file():
        return path
    packaged = {p.stem: p for p in sorted(RECIPES.glob("*.yaml"))}
    if name in packaged:
        return packaged[name]
    if path.is_dir():
        raise UsageError(f"recipe {name!r} is a folder: expected a YAML file in it")
    raise UsageError(
        f"recipe {name!r} does not exist: expected a YAML file, or one of "
        f"{', '.join(packaged) or 'none packaged'}{_guess(name, packaged)}"
    )


def read_file(path: Path, keys: Keys) -> list[Setting]:
    """Read a recipe's YAML; what is wrong is a `UsageError` that names file, line and key."""
    with parsing(text_of(path), path) as loader:
        node = loader.get_single_node()
        return list(_settings_of(loader, node, path, "", keys)) if node else []


def _settings_of(
    loader: Loader, node: yaml.Node, path: Path, section: str, keys: Keys
) -> Iterator[Setting]:
    if isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null"):
        return
    if not isinstance(node, yaml.MappingNode):
        raise UsageError(
            f"{_place(path, node)}: {section or 'the file'} holds no keys: expected "
            + (f"{{name: {node.value}, ...}}" if section in CHOICES else "`key: value` lines")
        )
    for name, name_node, value_node in _pairs(node, path, section):
        if name not in keys:
            raise UsageError(f"{_place(path, name_node)}: unknown key {name}{_guess(name, keys)}")
        if not keys[name].kind:
            yield from _settings_of(loader, value_node, path, name, keys)
            continue
        if isinstance(value_node, yaml.MappingNode):
            _pairs(value_node, path, name)
        value = loader.construct_object(value_node, deep=True)
        yield Setting(name, value, _place(path, name_node))


def _pairs(
    node: yaml.MappingNode, path: Path, section: str
) -> list[tuple[str, yaml.Node, yaml.Node]]:
    """Return the keys of a section, each with its nodes, and refuse one that is there twice."""
    first: dict[str, int] = {}
    pairs = []
    for name_node, value_node in node.value:
        name = f"{section}.{name_node.value}" if section else str(name_node.value)
        if name in first:
            raise UsageError(
                f"{_place(path, name_node)}: key {name} is there twice, first in line "
                f"{first[name]}: keep one"
            )
        first[name] = name_node.start_mark.line + 1
        pairs.append((name, name_node, value_node))
    return pairs


def _place(path: Path, node: yaml.Node) -> str:
    return f"{path}, line {node.start_mark.line + 1}"


def read_environment(environment: Mapping[str, str], keys: Keys) -> list[Setting]:
    """Read the variables `UAE_*`, e.g. UAE_ENCODER_RL_KL_BETA; each must stand for a key."""
    spelled = {ENVIRONMENT_PREFIX + k.replace(".", "_").upper(): v for k, v in keys.items()}
    settings = []
    for variable in sorted(environment):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in OTHER_VARIABLES:
            continue
        given = f"environment variable {variable}"
        unknown = f"{given} stands for no recipe key"
        key, inner = _key_of(variable, spelled, "_", given, unknown)
        settings.append(_setting(key, inner.lower(), environment[variable], variable))
    return settings


def read_flags(tokens: Sequence[str], keys: Keys, own_flags: Sequence[str] = ()) -> list[Setting]:
    """Read `--encoder-rl.kl-beta 0.1` and `--encoder-rl.kl-beta=0.1`; a flag alone means true.

    Args:
        tokens: What the command line holds besides the command's own flags.
        keys: All keys.
        own_flags: The command's own flags, to guess from where one is unknown.
    """
    spelled = {_flag(name): key for name, key in keys.items()}
    settings: list[Setting] = []
    rest = list(tokens)
    while rest:
        token = rest.pop(0)
        flag, has_value, value = token.partition("=")
        if not flag.startswith("--"):
            raise UsageError(f"unexpected argument {token!r}: expected --KEY VALUE")
        if any(setting.source == flag for setting in settings):
            raise UsageError(f"{flag} is given twice: keep one")
        name = _flag(flag.removeprefix("--"))
        key, inner = _key_of(name, spelled, ".", flag, f"unknown option {flag}", own_flags)
        if not has_value:
            value = _value_after(flag, key, rest)
        settings.append(_setting(key, inner.replace("-", "_"), value, flag))
    return settings


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _value_after(flag: str, key: RecipeKey, rest: list[str]) -> str:
    is_alone = not rest or rest[0].startswith("--")
    if is_alone and key.kind == "bool":
        return "true"
    if is_alone:
        raise UsageError(f"{flag} needs a value ({key.kind})")
    return rest.pop(0)


def _key_of(
    written: str, spelled: Keys, separator: str, given: str, unknown: str, own: Sequence[str] = ()
) -> tuple[RecipeKey, str]:
    """Return the key that is written so, and the name below it where the key is a table.

    Args:
        written: A flag or a variable.
        spelled: All keys by how they are written there.
        separator: What stands between the parts of a key.
        given: What a message calls it that says that it is a section.
        unknown: What a message says of it where there is no such key.
        own: More names to guess from.
    """
    key = spelled.get(written)
    if key and key.kind:
        return key, ""
    known = [name for name, each in spelled.items() if each.kind]
    if key:
        inside = [name for name in known if name.startswith(written + separator)]
        raise UsageError(f"{given} is a section: set a key of it: {', '.join(inside)}")
    for name in known:
        inner = written.removeprefix(name + separator)
        if spelled[name].is_table and inner != written and "." not in inner:
            return spelled[name], inner
    raise UsageError(f"{unknown}{_guess(written, [*known, *own])}")


def _setting(key: RecipeKey, inner: str, text: str, source: str) -> Setting:
    """Read a value from a flag or a variable as YAML would, text excepted."""
    if inner:
        return Setting(key.name, {inner: text}, source)
    if key.is_text:
        return Setting(key.name, text, source)
    try:
        with parsing(text, source) as loader:
            return Setting(key.name, loader.get_single_data(), source)
    except UsageError as error:
        raise UsageError(f"{source}: {text!r} is no value: expected {key.kind}") from error


def build(config_type: type[Config], *layers: Sequence[Setting]) -> Config:
    """Make the configuration; a later layer goes before an earlier one, key by key.

    Raises:
        UsageError: Values that do not fit their types or each other; names keys and sources.
    """
    chosen: dict[str, Setting] = {}
    for layer in layers:
        chosen |= _joined(layer)
    adapter = TypeAdapter(config_type)
    # The defaults are written out: a section made of the given keys alone would take its class's
    # defaults where the recipe has others, e.g. lose the learning rate if only its warm-up is set.
    values = adapter.dump_python(config_type())
    _take_choices(values, chosen)
    for key, setting in chosen.items():
        section, _, name = key.rpartition(".")
        place = _section(values, section)
        if not isinstance(place[name], bool | str):
            _refuse_true(setting)
        place[name] = setting.value
    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        faults = [_fault(fault, chosen) for fault in error.errors(include_url=False)]
        raise UsageError("\n".join(faults)) from error


def _take_choices(values: dict[str, Any], chosen: Mapping[str, Setting]) -> None:
    """Put the defaults of what is chosen in its section, e.g. those of the objective `awm`."""
    for section, choices in CHOICES.items():
        settings = {k: s for k, s in chosen.items() if k.startswith(f"{section}.")}
        choice = settings.pop(f"{section}.name", None)
        place = _section(values, section)
        name = choice.value if choice else place["name"]
        if name not in choices:
            source = f"{choice.source}: " if choice else ""
            raise UsageError(
                f"{source}{section}.name is {name!r}: expected one of {', '.join(choices)}"
            )
        place.clear()
        place |= asdict(choices[name]())
        for key, setting in settings.items():
            if key.rpartition(".")[2] not in place:
                raise UsageError(
                    f"{setting.source}: {key} is no setting of {section}.name {name}: "
                    f"expected one of {', '.join(place)}"
                )


def _section(values: dict[str, Any], name: str) -> dict[str, Any]:
    for part in name.split(".") if name else ():
        values = values[part]
    return values


def _joined(layer: Sequence[Setting]) -> dict[str, Setting]:
    """Return settings by key; entries of a table that are given one by one are put together."""
    joined: dict[str, Setting] = {}
    for setting in layer:
        before = joined.get(setting.key)
        if before and isinstance(before.value, dict) and isinstance(setting.value, dict):
            sources = f"{before.source}, {setting.source}"
            setting = Setting(setting.key, before.value | setting.value, sources)
        joined[setting.key] = setting
    return joined


def _refuse_true(setting: Setting) -> None:
    """Refuse true as a number, which pydantic would take for 1."""
    values = {setting.key: setting.value}
    if isinstance(setting.value, dict):
        values = {f"{setting.key}.{name}": value for name, value in setting.value.items()}
    for key, value in values.items():
        if isinstance(value, bool):
            raise UsageError(f"{setting.source}: {key} is {value}: expected a number")


def _fault(fault: Any, chosen: Mapping[str, Setting]) -> str:
    """Say one of pydantic's errors in our words."""
    if fault["type"] == "value_error":
        message = str(fault["ctx"]["error"])
        named = [setting for key, setting in chosen.items() if key in message]
        return "\n  ".join([message, *(f"{s.key} is set by {s.source}" for s in named)])
    place = [str(part) for part in fault["loc"]]
    prefixes = [".".join(place[:n]) for n in range(len(place), 0, -1)]
    key = next((p for p in prefixes if p in chosen), ".".join(place))
    kind = fault["type"]
    if kind in _BOUND:
        expected = _BOUND[kind].format(**fault["ctx"])
    else:
        expected = next((v for k, v in _EXPECTED.items() if kind.startswith(k)), fault["msg"])
    source = f"{chosen[key].source}: " if key in chosen else ""
    shown = key if len(place) <= key.count(".") + 1 else ".".join(place)
    return f"{source}{shown} is {fault['input']!r}: expected {expected}"


def _guess(name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """Return a question with the nearest known name; whole names first, then last parts.

    Nearest of all is a key of a section in the one that was named, as `decoder_rl.objective.window`
    is for `decoder_rl.window`.
    """
    close = [k for k in known if _is_inside(k, name)][:1]
    close = close or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not close:
        last = name.rpartition(".")[2]
        close = [k for k in known if k.rpartition(".")[2] == last][:1]
    return f": did you mean {close[0]}?" if close else ""


def _is_inside(known: str, name: str) -> bool:
    """Tell if a name has all words of another, first and last alike, and more between."""
    words, wanted = (re.split("[._-]", text.strip("-")) for text in (known, name))
    rest = iter(words)
    is_part = all(word in rest for word in wanted)
    return is_part and len(wanted) > 1 and (words[0], words[-1]) == (wanted[0], wanted[-1])
