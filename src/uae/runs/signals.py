"""SIGINT and SIGTERM: the first asks the loop to finish its step and save, the second kills."""

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_NOTICE = b"\nuae: %s: finishing this step, then saving; once more stops at once\n"


class StopSignals:
    """Turns the first signal into a flag.

        with StopSignals() as stop:
            for step in ...:
                ...
                if stop.requested:
                    save()
                    break

    A signal that is ignored on entry (a background job of a shell ignores SIGINT) stays ignored.
    Outside the main thread Python cannot install handlers; then nothing is installed.
    """

    def __init__(self) -> None:
        self.number = 0
        """The signal that came first, 0 for none."""
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        return self.number != 0

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._first)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            # None stands for a handler that was not installed by Python and cannot be put back
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()

    def _first(self, number: int, _frame: FrameType | None) -> None:
        self.number = number
        for each in self._previous:
            signal.signal(each, signal.SIG_DFL)
        # not the logging module: the signal may have come while it held its lock or its stream
        with contextlib.suppress(OSError):
            os.write(2, _NOTICE % signal.Signals(number).name.encode())
