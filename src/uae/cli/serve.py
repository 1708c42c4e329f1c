"""`uae serve`: a model behind an address, in OpenAI's protocol."""

import importlib.util
import ipaddress
import json
import logging
import os
import shlex
import socket
from typing import Annotated
from urllib.parse import urlsplit

from cyclopts import Parameter
from cyclopts.types import UInt16

from uae.cli.output import PLAINLY, SWITCH, Talk, json_line, write
from uae.cli.startup import quick_start
from uae.core.errors import EXIT_DONE, EnvironmentFault, UsageError
from uae.models.settings import find_settings

log = logging.getLogger(__name__)

API_KEY = "UAE_API_KEY"
PACKAGES = ("fastapi", "uvicorn")
SHUTDOWN_S = 5
"""Longest time for answers that are under way at Ctrl-C."""


def serve(
    *,
    api: Annotated[bool, SWITCH] = False,
    model: str = "uae-tiny",
    host: str = "127.0.0.1",
    port: UInt16 = 8000,
    device: str = "auto",
    cors_origin: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    talk: Talk = PLAINLY,
) -> int:
    """Serve a model in OpenAI's protocol: chats with the encoder, drawings by the decoder.

    Try:
        uae serve --api
        UAE_API_KEY=... uae serve --api --host 0.0.0.0 --model runs/demo/model

    Ctrl-C ends it. With the variable UAE_API_KEY every request needs that key.

    Args:
        api: Serve chat completions and image generations; there is nothing else yet.
        model: Model folder, preset or ID@REVISION on the hub; requests name it as it is given here.
        host: Address to listen at; one that others can reach needs UAE_API_KEY.
        port: Port to listen at; 0 takes a free one.
        device: auto, cpu, cuda or cuda:1.
        cors_origin: Origin of web pages whose scripts may ask, http://localhost:3000, say, or * for
            any; repeated for several. By default none may.
        talk: Format and verbosity.
    """
    talk.begin()
    if not api:
        raise UsageError("uae serve: expected --api, there is nothing else to serve yet")
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise EnvironmentFault(f'{missing[0]} is not installed: pip install "uae[serve]"')
    api_key = _api_key(host)
    origins = [_origin(text) for text in cors_origin]
    find_settings(model)
    with _bound(host, port) as listener:
        with quick_start():
            import uvicorn

            from uae.backends import own as loop
            from uae.serve.app import build_app

            app = build_app(loop.load(model, device), model, api_key=api_key, cors_origins=origins)
        listener.listen()
        _announce(listener, host, model, api_key is not None, talk)
        _log_requests()
        config = uvicorn.Config(
            app, log_config=None, server_header=False, timeout_graceful_shutdown=SHUTDOWN_S
        )
        uvicorn.Server(config).run(sockets=[listener])
    return EXIT_DONE


def _api_key(host: str) -> str | None:
    """Read the key; without one only this machine may reach the address."""
    key = os.environ.get(API_KEY)
    if key is not None and not key.strip():
        raise UsageError(f"{API_KEY} is empty: set it to a key, or unset it")
    try:
        addresses = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(f"--host {host}: {error.strerror}: expected an address") from error
    is_own = all(ipaddress.ip_address(address[0]).is_loopback for *_, address in addresses)
    if key is None and not is_own:
        raise UsageError(
            f"--host {host}: others can reach this address: set {API_KEY} to a key of your choice, "
            "or listen at 127.0.0.1"
        )
    return key


def _origin(text: str) -> str:
    """Spell the origin of a page as browsers do; * stays."""
    parts = urlsplit(text)
    origin = f"{parts.scheme}://{parts.netloc}".lower()
    is_page = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in text
    if text == "*" or (is_page and text.lower().removesuffix("/") == origin):
        return "*" if text == "*" else origin
    raise UsageError(
        f"--cors-origin {text!r}: expected the origin of a page, such as "
        "http://localhost:3000, or *"
    )


def _bound(host: str, port: int) -> socket.socket:
    """Take the port before anything is loaded; nobody is let in yet."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"--host {host} --port {port}: {reason}: choose another") from error
    return listener


def _announce(listener: socket.socket, host: str, model: str, needs_key: bool, talk: Talk) -> None:
    shown_host = f"[{host}]" if ":" in host else host
    url = f"http://{shown_host}:{listener.getsockname()[1]}/v1"
    prompt = "A large red circle in the center on a gray background."
    body = shlex.quote(json.dumps({"model": model, "prompt": prompt}))
    key = f' -H "Authorization: Bearer ${API_KEY}"' if needs_key else ""
    log.info("serving %s at %s, Ctrl-C ends it", model, url)
    log.info("try  curl %s/images/generations%s -d %s", url, key, body)
    if talk.chosen == "json":
        write(json_line({"url": url, "model": model, "needs_key": needs_key}))


def _log_requests() -> None:
    """Show the server's lines as our own; `-q` leaves warnings and errors."""
    own = logging.getLogger("uae")
    for name, level in (("uvicorn.access", own.level), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = own.handlers, False
        logger.setLevel(level)
