"""The session of a training loop: model, data, reward, learners, and its place in the run.

    for step in session.steps("encoder_rl", num_steps):
        with session.timed("caption", "encoder"):
            ...
        session.log({"reward/mean": ...})

A loop's body is a function of (recipe, data, seed, step) and of the weights, so its place is one
number: resuming skips the steps that are done and repeats nothing.
"""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from uae.data.sources import ImageSource, LostImage, Sample, samples_at
from uae.models.offload import Offload
from uae.models.unified import UnifiedAutoEncoder
from uae.rewards.reward import Rewarder
from uae.rl.advantage import Advantages
from uae.runs.run import Run
from uae.train.learner import Learner

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Session:
    """One stage of a run. `step` counts the stage's steps over all of its turns."""

    stage: str
    model: UnifiedAutoEncoder
    source: ImageSource
    rewarder: Rewarder
    learners: dict[str, Learner]
    run: Run
    seed: int
    checkpoint_every: int
    rounding: float = 0.0
    """Relative precision of a model's outputs where they are computed twice; 0 to the bit."""
    offload: Offload = field(default_factory=lambda: Offload({}))
    """Whose turn it is on the device."""
    step: int = 0
    done: int = 0
    """Steps finished before this process, by the checkpoint."""
    turn_end: int = 0
    planned: Counter[str] = field(default_factory=Counter)
    """Steps of each loop over all of its turns, where it has several."""
    _begun: Counter[str] = field(default_factory=Counter)
    _seconds: dict[str, float] = field(default_factory=dict)
    _idle_sides: set[str] = field(default_factory=set)

    def resume(self) -> None:
        """Put back weights, optimizers and place from the newest good checkpoint of the stage."""
        checkpoint = self.run.latest(self.stage)
        if checkpoint is None:
            return
        own: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for full_name, value in checkpoint.tensors.items():
            side, _, name = full_name.partition("/")
            own[side][name] = value
        for side, learner in self.learners.items():
            with self.offload.at_work(side):
                learner.restore(own[side], checkpoint.state["num_updates"][side])
        self.done = checkpoint.step

    def steps(self, loop: str, num_steps: int) -> Iterator[int]:
        """Yield the steps of a turn that are still to do, saving as the recipe says.

        Raises:
            Stopped: After the step in which the run was asked to stop; its state is saved.
        """
        offset = self._begun[loop] - self.turn_end  # from the stage's steps to the loop's own
        self.turn_end += num_steps
        self._begun[loop] += num_steps
        total = max(self.planned[loop], self._begun[loop])
        if self.step < self.done:
            self.step = min(self.done, self.turn_end)
        while self.step < self.turn_end:
            self._seconds.clear()
            with self.run.metrics.step(self.step, loop, total, self.step + offset + 1):
                yield self.step
            self.step += 1
            stop = self.run.should_stop
            if stop or self.step % self.checkpoint_every == 0:
                self.save()
            if stop:
                raise self.run.stopped()

    def save(self) -> None:
        """Write a checkpoint of the trained weights, the optimizers and the place."""
        tensors = {
            f"{side}/{name}": value
            for side, learner in self.learners.items()
            for name, value in learner.tensors().items()
        }
        updates = {side: learner.num_steps for side, learner in self.learners.items()}
        self.run.checkpoint(self.stage, self.step, tensors, {"num_updates": updates})

    def samples(self, batch_size: int) -> list[Sample]:
        """Return the current step's images, before anything in it is learned.

        Raises:
            UsageError: One is gone or has changed; the steps before are saved.
        """
        try:
            return samples_at(self.source, self.step, batch_size, self.seed)
        except LostImage as fault:
            self.save()
            raise self.run.ended_by(fault) from fault

    @contextmanager
    def timed(self, phase: str, *parts: str) -> Iterator[None]:
        """Measure the wall seconds of a phase of the step, in which these parts are at work."""
        start = time.perf_counter()
        with self.offload.at_work(*parts):
            yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._seconds[phase] = self._seconds.get(phase, 0.0) + time.perf_counter() - start

    def say_if_idle(self, side: str, advantages: Advantages, num_truncated: int = 0) -> None:
        """Warn, once for each side, of a step in which no group has two samples to compare."""
        if advantages.num_small_groups < advantages.num_groups or side in self._idle_sides:
            return
        self._idle_sides.add(side)
        num_failed = advantages.num_excluded - num_truncated
        if num_truncated >= num_failed:
            reason = f"truncated captions ({num_truncated}), see captioning.max_new_tokens"
        else:
            reason = f"failed redraws or scores ({num_failed})"
        log.warning(
            f"step {self.step} of {self.stage}: the {side} has no samples left to compare and "
            f"learns nothing, {advantages.num_excluded} of {len(advantages.values)} are excluded; "
            f"main reason: {reason}. Later steps like it are not named"
        )

    def log(self, values: dict[str, float]) -> None:
        """Write the step's metrics, seconds by phase included."""
        seconds = {f"time/{phase}_s": value for phase, value in self._seconds.items()}
        self.run.metrics.write(values | seconds)
