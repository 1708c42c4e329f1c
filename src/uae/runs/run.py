"""A run: its folder, lock, configuration, metrics, checkpoints and its end by signal.

    with Run.open(folder, config) as run:
        checkpoint = run.latest("rl")
        for step in range(checkpoint.step if checkpoint else 0, num_steps):
            with run.metrics.step(step, "encoder_rl", num_steps):
                ...
                run.metrics.write({"reward/mean": reward})
            stop = run.should_stop     # asked once: a signal may come while saving
            if stop or (step + 1) % checkpoint_every == 0:
                run.checkpoint("rl", step + 1, tensors, state)
            if stop:
                raise run.stopped()

A run folder is taken up again only with an equal configuration.
"""

import logging
import shlex
import signal
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import Tensor

from uae.core.errors import Stopped, UsageError
from uae.core.lock import RunLock
from uae.data.survey import Survey
from uae.runs.checkpoint import Checkpoint, load_latest, save_checkpoint
from uae.runs.claim import Resume
from uae.runs.folder import CHECKPOINTS, check_folder, open_folder
from uae.runs.metrics import Metrics
from uae.runs.signals import StopSignals
from uae.runs.tracking import Tracker

log = logging.getLogger(__name__)


class Run:
    """An open run folder. Use as a context manager: signals are watched inside."""

    def __init__(
        self, folder: Path, metrics: Metrics, lock: RunLock, keep: int, resume_command: str
    ) -> None:
        self.folder = folder
        self.metrics = metrics
        self._lock = lock
        self._keep = keep
        self._resume_command = resume_command
        self._signals = StopSignals()
        self._saved: Path | None = None

    @classmethod
    def open(
        cls,
        folder: Path,
        config: dict[str, Any],
        config_name: str = "Recipe",
        *,
        resume: Resume = "auto",
        overwrite: bool = False,
        keep: int = 2,
        track: bool = False,
        data: Survey | None = None,
        resume_command: str | None = None,
    ) -> "Run":
        """Make a run folder, or take up a run of the same configuration.

        Args:
            folder: Made if missing.
            config: Everything the run's numbers depend on, as nested plain values.
            config_name: Name of the dataclass the values belong to.
            resume: `must` refuses a folder without a run, `never` one with a run.
            overwrite: Delete the run that is there; a folder that is no run is still refused.
            keep: Checkpoints kept per stage.
            track: Write to trackio too.
            data: The user's own images and captions, if it trains on them; kept equal on resume.
            resume_command: Printed when a signal ends the run; by default this process's command.

        Raises:
            UsageError: The folder may not be used; nothing in it was changed.
            EnvironmentFault: It cannot be written or does not answer, or trackio is missing.
        """
        check_folder(folder, config, config_name, resume, overwrite)
        lock = open_folder(folder, config, config_name, resume, overwrite, data)
        with ExitStack() as undo:
            undo.callback(lock.release)
            metrics = Metrics(folder, Tracker(folder, config) if track else None)
            undo.pop_all()
        return cls(folder, metrics, lock, keep, resume_command or own_command())

    def __enter__(self) -> "Run":
        self._signals.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._signals.__exit__()
        self.metrics.close()
        self._lock.release()

    def latest(self, stage: str) -> Checkpoint | None:
        """Return a stage's newest good checkpoint, and drop the metrics of what comes after it."""
        checkpoint = load_latest(self.folder / CHECKPOINTS / stage)
        self.metrics.begin(stage, checkpoint.step if checkpoint else 0)
        if checkpoint:
            log.info("%s goes on after step %d of %s", self.folder, checkpoint.step, stage)
        return checkpoint

    def checkpoint(
        self, stage: str, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]
    ) -> Path:
        """Save a stage after `step` finished steps, with the metrics that belong to it."""
        self.metrics.sync()
        root = self.folder / CHECKPOINTS / stage
        self._saved = save_checkpoint(root, step, tensors, state, self._keep)
        return self._saved

    @property
    def should_stop(self) -> bool:
        """True once SIGINT or SIGTERM came: finish the step, save, then `raise run.stopped()`."""
        return self._signals.requested

    def stopped(self) -> Stopped:
        """Return the error that ends the run: exit code 130 or 143, and how to resume."""
        name = signal.Signals(self._signals.number).name
        return Stopped(f"stopped by {name}, {self._how_to_go_on}", self._signals.number)

    def ended_by(self, fault: UsageError) -> UsageError:
        """Return the error that ends the run for what the user can mend, and how to resume."""
        return UsageError(f"{fault}; the run is {self._how_to_go_on}")

    @property
    def _how_to_go_on(self) -> str:
        saved = f"saved as {self._saved}" if self._saved else "before the first checkpoint"
        return f"{saved}; resume with:\n  {self._resume_command}"


def own_command() -> str:
    """Return the command of this process, fit to be typed again: it must not overwrite the run."""
    program = Path(sys.argv[0])
    is_package = program.name == "__main__.py"
    start = ["python", "-m", program.parent.name] if is_package else [program.name]
    return shlex.join(start + [a for a in sys.argv[1:] if a != "--overwrite"])
