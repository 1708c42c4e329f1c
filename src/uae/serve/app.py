"""The server: OpenAI's chat completions by the encoder, and image generations by the decoder.

Order of a request: key, place in the queue, body, turn at the model. So a stranger costs nothing,
and no more bodies are held than there are places.
"""

import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from uae.models.chat import Reply, grow_replies
from uae.models.unified import UnifiedAutoEncoder
from uae.serve.chat_request import ChatRequest
from uae.serve.chatting import completion, events, prepare_chat
from uae.serve.drawing import ImageRequest, draw_pictures, size_of
from uae.serve.fields import ApiError
from uae.serve.queue import ModelQueue
from uae.serve.request import Door

MAX_WAITING = 32
CLIENT_IS_GONE = 499
"""nginx's status for an answer that nobody reads."""


def build_app(
    model: UnifiedAutoEncoder,
    name: str,
    *,
    api_key: str | None = None,
    max_waiting: int = MAX_WAITING,
    cors_origins: Collection[str] = (),
) -> ASGIApp:
    """Serve a model.

    Args:
        model: Loaded.
        name: What requests call it.
        api_key: Expected of every request but /health; None lets all in.
        max_waiting: Requests that may wait for the one at the model.
        cors_origins: Origins of web pages whose scripts may ask; "*" for any.
    """
    queue, door = ModelQueue(max_waiting), Door(name, api_key)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        queue.close()

    app = FastAPI(title="uae", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(ApiError, _refused)
    app.add_exception_handler(HTTPException, _not_found)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _failed)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "model": name, "num_requests": queue.num_requests}

    app.include_router(_models(model, door))
    app.include_router(_work(model, door, queue))
    front = _Front(app)
    if not cors_origins:
        return front
    return CORSMiddleware(  # scripts of these pages may read errors and refusals, too
        front,
        allow_origins=cors_origins,
        allow_methods=["GET", "HEAD", "POST"],
        allow_headers=["*"],
        allow_private_network=True,
        expose_headers=["Retry-After"],
    )


class _Front:
    """Takes a path with a slash at its end as without, and answers HEAD wherever GET is served."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def send_head(message: Message) -> None:
            await send({**message, "body": b""} if "body" in message else message)

        is_head = scope["method"] == "HEAD"
        path = scope["path"].rstrip("/") or "/"
        known = {**scope, "path": path, "method": "GET" if is_head else scope["method"]}
        await self._app(known, receive, send_head if is_head else send)


def _models(model: UnifiedAutoEncoder, door: Door) -> APIRouter:
    router = APIRouter(prefix="/v1/models", dependencies=[Depends(door.check_key)])
    card = {
        "id": door.model,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "uae",
        "caption_prompt": model.settings.caption_prompt,  # its place is before the image
        "size": size_of(model),
    }

    @router.get("")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [card]}

    @router.get("/{model_id:path}")
    async def one_model(model_id: str) -> dict[str, Any]:
        door.check_model(model_id)
        return card

    return router


def _work(model: UnifiedAutoEncoder, door: Door, queue: ModelQueue) -> APIRouter:
    first = [Depends(door.check_key), Depends(queue.place)]
    router = APIRouter(prefix="/v1", dependencies=first)

    @router.post("/chat/completions")
    async def chat_completions(
        connection: Request,
        request: Annotated[ChatRequest, Depends(door.chat)],
        _turn: Annotated[None, Depends(queue.turn)],
    ) -> Response:
        chat = await queue.run(prepare_chat, model, request)
        growing = queue.iterate(grow_replies(model.encoder, chat.prompts, chat.config))
        if request.stream:
            stream = events(chat, growing, include_usage=request.stream_options.include_usage)
            return StreamingResponse(stream, media_type="text/event-stream")
        replies: tuple[Reply, ...] = ()
        async for grown in growing:
            replies = grown
            if await connection.is_disconnected():
                return Response(status_code=CLIENT_IS_GONE)
        return _json(completion(chat, replies))

    @router.post("/images/generations")
    async def images_generations(
        request: Annotated[ImageRequest, Depends(door.drawing)],
        _turn: Annotated[None, Depends(queue.turn)],
    ) -> Response:
        return _json(await queue.run(draw_pictures, model, request))

    return router


def _json(value: dict[str, Any]) -> Response:
    return Response(to_json(value, inf_nan_mode="null"), media_type="application/json")


# -- errors ----------------------------------------------------------------------------------------


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), error.status, error.headers)


async def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail.lower()}"
    refusal = ApiError(error.status_code, message, headers=error.headers)
    return await _refused(request, refusal)


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_IS_GONE)


async def _failed(request: Request, _error: Exception) -> Response:
    """Say no more than that: the traceback stands in the server's own log."""
    refusal = ApiError(500, "the server failed; its log says why", code="internal_error")
    return await _refused(request, refusal)
