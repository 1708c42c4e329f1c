"""Requests that meet: through a real server, whose model waits for a word from the test."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection

import pytest
import uvicorn

from uae.models.chat import Reply
from uae.serve import app as app_module
from uae.serve.app import build_app

HELLO = {"model": "tiny", "messages": [{"role": "user", "content": "Hello."}]}
PATIENCE_S = 20


class SlowModel:
    """Says a word whenever it is let; counts who is with it at the same time."""

    def __init__(self) -> None:
        self.let = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.num_inside, self.max_inside = 0, 0

    def grow(self, *_) -> Iterator[tuple[Reply, ...]]:
        self.num_inside += 1
        self.max_inside = max(self.max_inside, self.num_inside)
        try:
            self.begun.release()
            for number in range(1, 6):
                assert self.let.acquire(timeout=PATIENCE_S)
                yield (Reply("word " * number, number, "stop" if number == 5 else None),)
        finally:
            self.num_inside -= 1


@pytest.fixture
def slow(monkeypatch) -> SlowModel:
    slow = SlowModel()
    monkeypatch.setattr(app_module, "grow_replies", slow.grow)
    return slow


@contextmanager
def serving(model, max_waiting: int) -> Iterator[int]:
    """Serve in a thread; yield the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = build_app(model, "tiny", max_waiting=max_waiting)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
    assert not thread.is_alive()


def connect(port: int) -> closing[HTTPConnection]:
    return closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S))


def ask(connection: HTTPConnection, **change: object) -> None:
    connection.request("POST", "/v1/chat/completions", json.dumps(HELLO | change))


def answer(port: int) -> str:
    with connect(port) as connection:
        ask(connection)
        response = connection.getresponse()
        assert response.status == 200
        return json.loads(response.read())["choices"][0]["message"]["content"]


def wait_for_requests(port: int, num: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with connect(port) as connection:
            connection.request("GET", "/health")
            if json.loads(connection.getresponse().read())["num_requests"] == num:
                return
        time.sleep(0.02)
    raise AssertionError(f"never {num} requests")


def test_one_at_a_time_and_beyond_the_limit_a_429(model, slow):
    with serving(model, max_waiting=1) as port, ThreadPoolExecutor(2) as others:
        answers = [others.submit(answer, port) for _ in range(2)]
        wait_for_requests(port, 2)
        with connect(port) as connection:
            ask(connection)
            refused = connection.getresponse()
            assert refused.status == 429
            assert refused.headers["Retry-After"] == "5"
            assert json.loads(refused.read())["error"]["code"] == "queue_full"
        slow.let.release(10)
        assert [a.result(PATIENCE_S) for a in answers] == ["word " * 5] * 2
        assert slow.max_inside == 1
        slow.let.release(5)
        assert answer(port) == "word " * 5


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_gives_its_turn_up(model, slow, stream):
    with serving(model, max_waiting=4) as port:
        with connect(port) as leaving:
            ask(leaving, stream=stream)
            assert slow.begun.acquire(timeout=PATIENCE_S)
            if stream:
                with closing(leaving.getresponse()) as response:
                    assert response.read(10)
        time.sleep(0.2)  # the server hears of it
        slow.let.release(1)  # the step that is under way ends; four are left
        wait_for_requests(port, 0)
        slow.let.release(5)
        assert answer(port) == "word " * 5
