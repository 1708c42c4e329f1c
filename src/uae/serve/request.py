"""The door: who may come in, and with what."""

import asyncio
import hmac
from dataclasses import dataclass
from typing import TypeVar

from fastapi import Request

from uae.serve.chat_request import ChatRequest
from uae.serve.drawing import ImageRequest
from uae.serve.fields import ApiError, parse_request, shown

MAX_BODY_BYTES = 32 * 2**20
BODY_TIMEOUT_S = 60

R = TypeVar("R", ChatRequest, ImageRequest)


@dataclass(frozen=True, slots=True)
class Door:
    """Checks requests; its methods of a request are dependencies in the sense of FastAPI."""

    model: str
    """Name of the one that is served."""
    api_key: str | None
    """None lets all in."""

    async def check_key(self, request: Request) -> None:
        """Raise 401 unless the request bears the key."""
        if self.api_key is None:
            return
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        is_right = hmac.compare_digest(key.strip().encode(), self.api_key.encode())
        if scheme.lower() != "bearer" or not is_right:
            raise ApiError(
                401,
                "the API key is missing or wrong: send Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def check_model(self, name: str) -> None:
        """Raise 404 for a model that is not served."""
        if name.rstrip("/") != self.model.rstrip("/"):  # folders are given with a slash, too
            raise ApiError(
                404,
                f"model {shown(name)} is not served here, {self.model!r} is",
                param="model",
                code="model_not_found",
            )

    async def chat(self, request: Request) -> ChatRequest:
        return await self._read(request, ChatRequest)

    async def drawing(self, request: Request) -> ImageRequest:
        return await self._read(request, ImageRequest)

    async def _read(self, request: Request, kind: type[R]) -> R:
        fields = parse_request(await _body(request), kind)
        self.check_model(fields.model)
        return fields


async def _body(request: Request) -> bytes:
    """Read a body of bounded size, in bounded time."""
    if int(request.headers.get("content-length", "0")) > MAX_BODY_BYTES:
        raise _too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise _too_large()
    except TimeoutError as error:
        message = f"the body did not arrive within {BODY_TIMEOUT_S} seconds"
        raise ApiError(408, message, code="body_timeout") from error
    return bytes(body)


def _too_large() -> ApiError:
    message = f"the body is larger than {MAX_BODY_BYTES // 2**20} MiB: send fewer or smaller images"
    return ApiError(413, message, code="body_too_large", headers={"Connection": "close"})
