"""A judge behind an address, in a process of its own that can be killed and started again."""

import hashlib
import json
import math
import os
import signal
import time
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from faults.trials import fork, wait
from tests.stub_endpoint import Answer, said, stub
from uae.backends.client import Client, EndpointConfig
from uae.backends.endpoint import Endpoint
from uae.backends.judge import ChatJudge

_POINTS = ("completeness", "fluency", "insight")


class JudgeServer:
    """Answers by a hash of the question: the same however often it is started.

    with JudgeServer() as server:
        server.judge.reply(image, "", "Is it red?", 200)
        server.kill()
        server.start()
    """

    def __init__(self) -> None:
        """Start on a free port."""
        self._url = ""
        self.start()

    @property
    def judge(self) -> ChatJudge:
        """A judge that asks here, each question once."""
        config = EndpointConfig(base_url=self._url, model="fixed", max_tries=1)
        return ChatJudge(Endpoint(Client(config)))

    def start(self) -> None:
        """Start, on the same port as before, and return when it listens."""
        reader, writer = os.pipe()
        self._process = fork(partial(_serve, urlsplit(self._url).port or 0, os.getpid(), writer))
        os.close(writer)
        with os.fdopen(reader) as pipe:
            self._url = pipe.readline().strip()

    def kill(self) -> None:
        """Kill it, whatever it is at."""
        os.kill(self._process, signal.SIGKILL)
        wait(self._process)

    def __enter__(self) -> "JudgeServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _serve(port: int, parent: int, pipe: int) -> int:
    with stub(_answer, port) as server:
        os.write(pipe, f"{server.url}\n".encode())
        while os.getppid() == parent:  # a trial that is killed leaves no server behind
            time.sleep(0.5)
    return 0


def _answer(_path: str, body: dict[str, Any]) -> Answer:
    """Return a probability where one is asked, else verdicts on an image and on two captions.

    They stand in one object, of which each benchmark reads the keys that it knows.
    """
    question = body["messages"][-1]["content"][-1]["text"]
    digest = hashlib.sha256(question.encode()).digest()
    if body.get("logprobs"):
        right, wrong = ("two", "three") if question.startswith("How many") else ("Yes", "No")
        p = (digest[0] + 1) / 257
        return said("", top={right: math.log(p), wrong: math.log(1 - p)})
    captions = {
        name: {point: 1 + digest[first + i] % 10 for i, point in enumerate(_POINTS)}
        for name, first in (("A", 2), ("B", 8))
    }
    verdict = {"correct": digest[0] % 2, "reason": "its hash", "choice": "AB"[digest[1] % 2]}
    return said(json.dumps(verdict | captions))
