"""From a request's body to its fields: what is unknown or would be ignored is refused by name."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from uae.serve.errors import ApiError

MAX_SHOWN = 60


class Fields(BaseModel):
    """A part of a request; null stands for the default, as at OpenAI."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Parameters that we lack, with the values under which they change nothing."""
    harmless: ClassVar[frozenset[str]] = frozenset()
    """Parameters that change no result."""


R = TypeVar("R", bound=Fields)


def parse_request(body: bytes, kind: type[R]) -> R:
    """Read a body.

    Raises:
        ApiError: 400 with the field at fault.
    """
    try:
        raw = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}", code="invalid_json") from error
    if not isinstance(raw, dict):
        raise ApiError(400, "the body is not a JSON object", code="invalid_json")
    try:
        return kind.model_validate(_known(_without_nulls(raw), kind))
    except ValidationError as error:
        raise _refusal(error, raw) from error


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    return value


def _known(raw: Mapping[str, Any], kind: type[Fields]) -> dict[str, Any]:
    """Leave out what changes nothing.

    Raises:
        ApiError: A parameter would change the result, and we lack it.
    """
    for name, neutral in kind.neutral.items():
        if name in raw and raw[name] not in neutral:
            allowed = " or ".join(repr(value) for value in neutral)
            raise ApiError(
                400,
                f"{name} {shown(raw[name])} is not supported: leave it out"
                + (f", or give {allowed}" if neutral else ""),
                param=name,
                code="unsupported_parameter",
            )
    return {k: v for k, v in raw.items() if k not in kind.neutral and k not in kind.harmless}


def _refusal(error: ValidationError, raw: Mapping[str, Any]) -> ApiError:
    first = error.errors(include_url=False, include_context=False)[0]
    param = _path(first["loc"], raw)
    if first["type"] == "extra_forbidden":
        message, code = f"unknown parameter {param}", "unknown_parameter"
    elif first["type"] == "missing":
        message, code = f"{param} is required", "missing_required_parameter"
    else:
        message, code = f"{param} {shown(first['input'])}: {first['msg']}", "invalid_value"
    return ApiError(400, message, param=param, code=code)


def _path(loc: Sequence[str | int], raw: Any) -> str:
    """Spell a place as messages[0].content[1]; pydantic's names of alternatives are left out."""
    path = ""
    for number, key in enumerate(loc, start=1):
        if isinstance(raw, list) and isinstance(key, int) and key < len(raw):
            path, raw = f"{path}[{key}]", raw[key]
        elif isinstance(raw, dict) and (key in raw or number == len(loc)):
            path, raw = f"{path}.{key}" if path else str(key), raw.get(key)
    return path


def shown(value: Any) -> str:
    """Show a value that may be long."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
