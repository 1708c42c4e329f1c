"""Progress on stderr: a bar where it is a terminal, a log line now and then where it is not."""

import logging
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

log = logging.getLogger(__name__)

_LOG_EVERY_S = 15.0


class Progress:
    """Shows rate, remaining time and current reward of one loop at a time."""

    def __init__(self, *, terminal: bool | None = None, log_every_s: float = _LOG_EVERY_S) -> None:
        """Draw a bar, or a log line every so often; by default a bar if stderr is a terminal."""
        self._terminal = sys.stderr.isatty() if terminal is None else terminal
        self._log_every_s = log_every_s
        self._stage = ""
        self._started_s = self._logged_s = 0.0
        self._first_step = 0
        self._bar: Bar | None = None

    def show(
        self,
        stage: str,
        done: int,
        total: int,
        reward: int | float | None = None,
        *,
        unit: str = "step",
    ) -> None:
        """Report that `done` of `total` steps, or of another unit, are finished.

        The rate is measured from the first call for a stage, so steps before a resume do not count.
        """
        now = time.monotonic()
        if stage != self._stage:
            self.close()
            self._stage, self._first_step = stage, done
            self._started_s = self._logged_s = now
        num_steps, seconds = done - self._first_step, now - self._started_s
        text = summary(num_steps, seconds, total - done, reward, unit=unit)
        if self._terminal:
            self._draw(done, total, text)
        elif now - self._logged_s >= self._log_every_s or done == total:
            self._logged_s = now
            log.info("%s %d/%d  %s", stage, done, total, text)

    def close(self) -> None:
        """Leave the bar as it is and free the line."""
        if self._bar:
            self._bar.stop()
        self._bar, self._stage = None, ""

    def _draw(self, done: int, total: int, text: str) -> None:
        if self._bar is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[summary]}"),
            )
            # no refresh thread: forked data workers would lose it, and a step refreshes anyway
            self._bar = Bar(*columns, console=Console(stderr=True), auto_refresh=False)
            self._bar.add_task(self._stage, total=total, summary="")
            self._bar.start()
        task = self._bar.task_ids[0]
        self._bar.update(task, completed=done, total=total, summary=text, refresh=True)


def summary(
    num_steps: int, seconds: float, num_left: int, reward: int | float | None, *, unit: str = "step"
) -> str:
    """Return rate, remaining time and reward, as far as they are known."""
    parts = []
    if num_steps and seconds > 0:
        rate = num_steps / seconds
        left_s = round(num_left / rate)
        hours, minutes = divmod(left_s // 60, 60)
        speed = f"{rate:.2f} {unit}s/s" if rate >= 1 else f"{1 / rate:.1f} s/{unit}"
        parts += [speed, f"{hours}:{minutes:02d}:{left_s % 60:02d} left"]
    if reward is not None:
        parts.append(f"reward {reward:.4f}")
    return "  ".join(parts)
