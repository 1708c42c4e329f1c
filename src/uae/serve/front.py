"""The door before the routes: other spellings of a request, and pages of other origins."""

from collections.abc import Collection

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Front:
    """Takes a path with a slash at its end as without, and answers HEAD wherever GET is served."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, as the routes know it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def send_head(message: Message) -> None:
            await send({**message, "body": b""} if "body" in message else message)

        is_head = scope["method"] == "HEAD"
        path = scope["path"].rstrip("/") or "/"
        known = {**scope, "path": path, "method": "GET" if is_head else scope["method"]}
        await self._app(known, receive, send_head if is_head else send)


def for_pages(app: ASGIApp, origins: Collection[str]) -> ASGIApp:
    """Let scripts of web pages from these origins read the answers, errors and refusals too."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["GET", "HEAD", "POST"],
        allow_headers=["*"],
        allow_private_network=True,
        expose_headers=["Retry-After"],
    )
