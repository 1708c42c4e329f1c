"""Audit of a run's RL stages: how many of their samples were excluded from the updates.

Excluded samples teach nothing, so a stage that excludes many is not the one the recipe describes:

- warn: more than a tenth of a stage's samples were excluded
- alarm: so many that no step of a stage had a sample in its update
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from uae.report.audit import Audit, Status
from uae.report.format import value_text
from uae.report.statistics import Estimate, proportion
from uae.report.tables import StageCurves

NAME = "Excluded samples"
MAX_SHARE = 0.1

_EXCLUDED, _GRADIENT = "group/excluded_samples", "optim/grad_norm"
_SIDES = (  # (stage, phase that handles each sample once, metrics of the side, its samples)
    ("encoder_rl", "update", _EXCLUDED, _GRADIENT, "captions in encoder RL"),
    ("decoder_rl", "update", _EXCLUDED, _GRADIENT, "redraws in decoder RL"),
    ("joint", "caption", f"encoder/{_EXCLUDED}", f"encoder/{_GRADIENT}", "captions in joint RL"),
    ("joint", "redraw", _EXCLUDED, f"decoder/{_GRADIENT}", "redraws in joint RL"),
)
_MEANING = "They teach nothing: truncated captions, or redraws and scores that failed."


@dataclass(frozen=True, slots=True)
class _Side:
    """Samples that one side of a stage excluded, over all of its steps."""

    words: str
    share: Estimate
    is_idle: bool
    """Whether no step had a sample in its update: the gradient is 0 without any."""

    @property
    def status(self) -> Status:
        if self.share.value <= MAX_SHARE:
            return "ok"
        return "alarm" if self.is_idle else "warn"


def exclusion_audit(
    curves: Sequence[StageCurves], samples_per_step: Mapping[tuple[str, str], int]
) -> tuple[Audit, ...]:
    """Judge the shares of excluded samples; there is no such audit where no RL was.

    `samples_per_step` is what a phase handles in one step, by (stage, phase).
    """
    sides = _sides(curves, samples_per_step)
    if not sides:
        return ()
    order: tuple[Status, ...] = ("ok", "warn", "alarm")
    worst = max(sides, key=lambda side: (order.index(side.status), side.share.value))
    shares = ", ".join(f"{value_text(s.share.value, 'share')} of the {s.words}" for s in sides)
    sentence = f"The updates left out {shares}."
    idle = [side.words for side in sides if side.status == "alarm"]
    if worst.status != "ok":
        sentence += f" {_MEANING}"
    if idle:
        sentence += f" No step had any that count among the {' and the '.join(idle)}."
    return (Audit(NAME, worst.status, sentence, worst.share, "share"),)


def _sides(
    curves: Sequence[StageCurves], samples_per_step: Mapping[tuple[str, str], int]
) -> list[_Side]:
    by_stage = {stage.stage: stage.series for stage in curves}
    sides = []
    for stage, phase, excluded_name, gradient_name, words in _SIDES:
        series = by_stage.get(stage, {})
        if excluded_name in series:
            counts = series[excluded_name].values
            num_samples = samples_per_step[stage, phase] * len(counts)
            share = proportion(int(sum(counts)), num_samples)
            sides.append(_Side(words, share, is_idle=not any(series[gradient_name].values)))
    return sides
