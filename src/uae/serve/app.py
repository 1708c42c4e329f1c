"""The server: OpenAI's chat completions by the encoder, and image generations by the decoder.

Order of a request: key, place in the queue, body, turn at the model. So a stranger costs nothing,
and no more bodies are held than there are places.
"""

import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from uae.models.chat import Reply, grow_replies
from uae.models.unified import UnifiedAutoEncoder
from uae.serve.chat_request import ChatRequest
from uae.serve.chatting import completion, events, prepare_chat
from uae.serve.drawing import draw_pictures, size_of
from uae.serve.errors import ApiError
from uae.serve.front import Front, for_pages
from uae.serve.protocol import Health, ImageRequest, ModelCard, ModelList
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
    async def health() -> Health:
        return Health(model=name, num_requests=queue.num_requests)

    app.include_router(_models(model, door))
    app.include_router(_work(model, door, queue))
    return for_pages(Front(app), cors_origins)


def _models(model: UnifiedAutoEncoder, door: Door) -> APIRouter:
    """Make the routes that name the model."""
    router = APIRouter(prefix="/v1/models", dependencies=[Depends(door.check_key)])
    card = ModelCard(
        id=door.name,
        created=int(time.time()),
        caption_prompt=model.settings.caption_prompt,
        size=size_of(model),
    )

    @router.get("")
    async def models() -> ModelList:
        return ModelList(data=[card])

    @router.get("/{model_id:path}")
    async def one_model(model_id: str) -> ModelCard:
        door.check_model(model_id)
        return card

    return router


def _work(model: UnifiedAutoEncoder, door: Door, queue: ModelQueue) -> APIRouter:
    """Make the routes that ask the model."""
    first = [Depends(door.check_key), Depends(queue.place)]
    router = APIRouter(prefix="/v1", dependencies=first)

    @router.post("/chat/completions")
    async def chat_completions(
        request: Request,
        asked: Annotated[ChatRequest, Depends(door.chat)],
        _turn: Annotated[None, Depends(queue.turn)],
    ) -> Response:
        chat = await queue.run(prepare_chat, model, asked)
        growing = queue.iterate(grow_replies(model.encoder, chat.prompts, chat.config))
        if asked.stream:
            stream = events(chat, growing, include_usage=asked.stream_options.include_usage)
            return StreamingResponse(stream, media_type="text/event-stream")
        replies: tuple[Reply, ...] = ()
        async for grown in growing:
            replies = grown
            if await request.is_disconnected():
                return Response(status_code=CLIENT_IS_GONE)
        return _json(completion(chat, replies))

    @router.post("/images/generations")
    async def images_generations(
        asked: Annotated[ImageRequest, Depends(door.drawing)],
        _turn: Annotated[None, Depends(queue.turn)],
    ) -> Response:
        return _json(await queue.run(draw_pictures, model, asked))

    return router


def _json(value: BaseModel) -> Response:
    return Response(value.model_dump_json(), media_type="application/json")


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
