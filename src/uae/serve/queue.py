"""One request at the model at a time, in their order; the rest waits, up to a limit."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from uae.serve.fields import ApiError

T = TypeVar("T")

RETRY_AFTER_S = 5


class ModelQueue:
    """Holds the one thread that the model runs in.

    A request takes a place, then its turn (both dependencies in the sense of FastAPI: they last
    until its response has been sent or its client is gone), and has its work run by `run` or
    `iterate`. The thread is one, so that work whose client is gone still ends before other work
    begins.
    """

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self.num_requests = 0  # at the model and waiting
        self._lock = asyncio.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    async def place(self) -> AsyncIterator[None]:
        """Take a place in the queue, or raise 429."""
        if self.num_requests > self._max_waiting:
            raise ApiError(
                429,
                f"{self.num_requests} requests are here already: try again later",
                code="queue_full",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )
        self.num_requests += 1
        try:
            yield
        finally:
            self.num_requests -= 1

    async def turn(self) -> AsyncIterator[None]:
        """Wait until all before are done."""
        async with self._lock:
            yield

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(work, *arguments))

    async def iterate(self, steps: Iterator[T]) -> AsyncIterator[T]:
        """Yield from an iterator that advances in the model's thread."""

        def advance() -> T | None:
            return next(steps, None)

        while (step := await self.run(advance)) is not None:
            yield step

    def close(self) -> None:
        """Begin nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)
