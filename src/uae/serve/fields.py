"""From a request's body to its fields: what is unknown or would be ignored is refused by name."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError, from_json

MAX_SHOWN = 60
_ERROR_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """Answer to a request that has no result, in the shape that OpenAI's clients read.

    Args:
        status: HTTP status, 400 or more.
        message: What is wrong and what would be right.
        param: The field at fault.
        code: A word for programs.
        headers: Of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, dict[str, str | None]]:
        """Return the JSON of the response."""
        usual = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = _ERROR_TYPES.get(self.status, usual)
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return {"error": error}


class Fields(BaseModel):
    """A part of a request; null stands for the default, as at OpenAI."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Parameters that we lack, with the values under which they change nothing."""
    harmless: ClassVar[frozenset[str]] = frozenset()
    """Parameters that change no result."""

    @model_validator(mode="before")
    @classmethod
    def _without_what_changes_nothing(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        for name, neutral in cls.neutral.items():
            if name in raw and raw[name] not in neutral:
                allowed = " or ".join(repr(value) for value in neutral)
                said = f"{shown(raw[name])} is not supported: leave it out"
                said += f", or give {allowed}" if neutral else ""
                raise refused(name, said, code="unsupported_parameter")
        return {k: v for k, v in raw.items() if k not in cls.neutral and k not in cls.harmless}


def refused(name: str, said: str, *, code: str) -> PydanticCustomError:
    """Return the error of a validator that blames one field."""
    return PydanticCustomError("refused", "{said}", {"name": name, "said": said, "code": code})


R = TypeVar("R", bound=Fields)


def parse_request(body: bytes, kind: type[R]) -> R:
    """Read a body, or raise an `ApiError` 400 with the field at fault."""
    try:
        raw = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}", code="invalid_json") from error
    if not isinstance(raw, dict):
        raise ApiError(400, "the body is not a JSON object", code="invalid_json")
    try:
        return kind.model_validate(_without_nulls(raw))
    except ValidationError as error:
        raise _refusal(error, raw) from error


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    return value


def _refusal(error: ValidationError, raw: Any) -> ApiError:
    first = error.errors(include_url=False)[0]
    param = _path(first["loc"], raw)
    if first["type"] == "refused":
        blamed = first.get("ctx", {})
        param = f"{param}.{blamed['name']}" if param else blamed["name"]
        message, code = f"{param} {blamed['said']}", blamed["code"]
    elif first["type"] == "extra_forbidden":
        message, code = f"unknown parameter {param}", "unknown_parameter"
    elif first["type"] == "missing":
        message, code = f"{param} is required", "missing_required_parameter"
    else:
        message, code = f"{param} {shown(first['input'])}: {first['msg']}", "invalid_value"
    return ApiError(400, message, param=param, code=code)


def _path(loc: Sequence[str | int], raw: Any) -> str:
    """Spell a place as messages[0].content[1].

    All lists of objects hold objects of several kinds, and pydantic names the kind after the index.
    What is no list in the request, a single `stop` say, has no index either.
    """
    path, is_kind = "", False
    for key in loc:
        if isinstance(key, int):
            is_kind, is_list = True, isinstance(raw, list)
            path, raw = (f"{path}[{key}]", raw[key]) if is_list else (path, raw)
        elif is_kind:
            is_kind = False
        else:
            path = f"{path}.{key}" if path else key
            raw = raw.get(key) if isinstance(raw, dict) else None
    return path


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
