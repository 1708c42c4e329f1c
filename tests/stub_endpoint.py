"""An OpenAI-compatible address in this process, which answers as it is told."""

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

DIE = "die"
"""An answer that ends in its middle, with the connection."""
HANG = "hang"
"""An answer that does not come until the server is closed."""

Answer = Any
"""A JSON value (status 200), a pair of status and JSON value, raw bytes, `DIE` or `HANG`."""


def said(text: str | None, *, top: dict[str, float] | None = None, **choice: Any) -> dict[str, Any]:
    """A completion; `top` holds the first token's log-probabilities."""
    values = {"message": {"content": text}, "finish_reason": "stop", **choice}
    if top is not None:
        tokens = [{"token": token, "logprob": x} for token, x in top.items()]
        values["logprobs"] = {"content": [{"token": "", "logprob": 0, "top_logprobs": tokens}]}
    return {"model": "judge-2026", "choices": [values]}


def painted(body: dict[str, Any]) -> dict[str, Any]:
    """An image of one color, which follows from the request's seed."""
    image = io.BytesIO()
    Image.new("RGB", (8, 8), (body.get("seed", 0) % 256, 0, 0)).save(image, "PNG")
    return {"data": [{"b64_json": base64.b64encode(image.getvalue()).decode()}]}


def fault(
    status: int, message: str = "no", code: str | None = None, param: Any = None
) -> tuple[int, dict[str, Any]]:
    """An error as the protocol has it."""
    return status, {"error": {"message": message, "code": code, "type": "t", "param": param}}


def refusing(*params: str, answer: Any) -> Callable[[str, dict[str, Any]], Any]:
    """Answer requests that have none of the parameters, and refuse the others for one of them."""

    def answer_or_refuse(_path: str, body: dict[str, Any]) -> Any:
        for param in params:
            if param in body:
                message = f"Unsupported parameter: '{param}'"
                return fault(400, message, code="unsupported_parameter", param=param)
        return answer

    return answer_or_refuse


@dataclass
class Stub:
    """What is asked and answered: `answer` makes an answer from path and body of a request."""

    answer: Callable[[str, dict[str, Any]], Answer]
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    close: Callable[[], None] = lambda: None
    """Stops listening at once, as a process does that is killed."""


@contextmanager
def stub(answer: Callable[[str, dict[str, Any]], Answer], port: int = 0) -> Iterator[Stub]:
    """Serve until the context ends, by default on a free port."""
    served = Stub(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(served.answer(self.path, {}))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.asked.append(body)
            served.keys.append(self.headers["Authorization"])
            self._send(served.answer(self.path, body))

        def _send(self, answer: Answer) -> None:
            if answer == HANG:
                served.closing.wait()
                return
            status, values = answer if isinstance(answer, tuple) else (200, answer)
            data = values if isinstance(values, bytes) else json.dumps(values).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("retry-after-ms", "1")
            self.send_header("Content-Length", str(1000 if answer == DIE else len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def close() -> None:
        served.closing.set()
        server.shutdown()
        server.server_close()

    served.close = close
    try:
        yield served
    finally:
        close()
        thread.join()
