"""The one place where metrics are written: `metrics.jsonl` always, trackio when asked for.

One JSON object per line: `step`, `stage` (the loop, or `evaluation`), `session` (the series of
checkpoints, or `evaluation`), `wall_s` (seconds since the run began, pauses left out) and values
named `group/name`.
"""

import logging
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from uae.core.durable import storage_faults
from uae.core.errors import NonFinite
from uae.core.journal import Journal, write_journal
from uae.core.metrics_file import METRICS, read_metrics
from uae.runs.progress import Progress
from uae.runs.tracking import SampleRow, Tracker

log = logging.getLogger(__name__)

_NAME = re.compile(r"[a-z0-9_]+(/[a-z0-9_.-]+)+")
_SHOWN = "reward/mean"


class Metrics:
    """Appends to the metrics of a run.

    metrics.begin("rl", from_step=12)                 # forgets what came after the checkpoint
    with metrics.step(12, "encoder_rl", num_steps):
        metrics.write({"reward/mean": 0.7})
    """

    def __init__(self, folder: Path, tracker: Tracker | None = None) -> None:
        self.path = folder / METRICS
        self._tracker = tracker
        self.progress = Progress()
        self._session = ""
        self._place: tuple[int, str] | None = None
        self._shown: int | float | None = None
        self._keep(read_metrics(self.path) if self.path.exists() else [])

    def begin(self, session: str, from_step: int) -> None:
        """Enter a session and drop its lines of `from_step` and later: those steps are redone."""
        self._session = session
        lines = read_metrics(self.path)
        kept = [x for x in lines if x["session"] != session or x["step"] < from_step]
        if len(kept) < len(lines):
            log.info("dropped %d metrics lines of steps redone", len(lines) - len(kept))
            self._journal.close()
            self._keep(kept)

    @contextmanager
    def step(
        self, step: int, stage: str, num_steps: int, num_done: int | None = None
    ) -> Iterator[None]:
        """Say which step the body is, and show progress when it is done.

        `num_done` counts the loop's own steps after the body, where it shares `step` with another.
        """
        self._place = (step, stage)
        yield
        self._place = None
        self.progress.show(stage, num_done or step + 1, num_steps, self._shown)

    def write(self, values: Mapping[str, int | float]) -> None:
        """Append the values of the current step.

        Raises:
            NonFinite: A value is NaN or infinite; nothing is written.
            EnvironmentFault: The line cannot be written; the file stays as it was.
        """
        assert self._place is not None, "write() belongs inside step()"
        self.write_at(*self._place, values)

    def write_at(
        self,
        step: int,
        stage: str,
        values: Mapping[str, int | float],
        *,
        session: str | None = None,
    ) -> None:
        """Append values outside a loop, e.g. of an evaluation. Raises as `write`.

        By default they belong to the session begun last, whose later lines a resume drops.
        """
        numbers = {name: _checked(name, value, step, stage) for name, value in values.items()}
        place = {"step": step, "stage": stage, "session": session or self._session}
        wall_s = round(self._wall_before + time.monotonic() - self._start, 3)
        self._journal.append(place | {"wall_s": wall_s} | numbers)
        self._shown = numbers.get(_SHOWN, self._shown)
        if self._tracker:
            self._tracker.log(step, stage, numbers)

    def holds(self, step: int, stage: str) -> bool:
        """Tell whether a step of a stage was written, by this process or one before it."""
        lines = read_metrics(self.path)
        return any(line["stage"] == stage and line["step"] == step for line in lines)

    def table(self, step: int, stage: str, rows: Sequence[SampleRow]) -> None:
        """Show the fixed images of an evaluation in trackio, if it is in use."""
        if self._tracker:
            self._tracker.table(step, stage, rows)

    def sync(self) -> None:
        self._journal.sync()

    def close(self) -> None:
        self.progress.close()
        if self._tracker:
            self._tracker.finish()
        self._journal.close()

    def _keep(self, lines: Sequence[Mapping[str, Any]]) -> None:
        self._wall_before = lines[-1]["wall_s"] if lines else 0.0
        self._start = time.monotonic()
        with storage_faults("cannot write", self.path):
            write_journal(self.path, lines)
        self._journal = Journal(self.path, lock=False)


def _checked(name: str, value: int | float, step: int, stage: str) -> int | float:
    if not _NAME.fullmatch(name):
        raise ValueError(f"metric {name!r} is not named group/name in lower case")
    if not math.isfinite(value):
        raise NonFinite(f"metric {name} is {value} at step {step} of {stage}: the run stops here")
    return value
