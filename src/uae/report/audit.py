"""Audits: does a rising reward mean what it should, or did the two halves find a way around it?

Each audit compares two evaluations on the same held-out images with the same seeds, as a paired
difference with its 95 % interval:

- ok: the interval reaches 0, or lies on the good side of it
- warn: the whole interval lies on the bad side of 0
- alarm: the whole interval lies on the bad side of a margin that would matter to a reader
- not measured: there is no ground truth, nothing to compare, or fewer than ten items, whose
  interval says next to nothing

"Private code" is an alarm of its own, whatever the margins: the reward rose while something fell on
which others than the trained pair rely.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped

from uae.report.audit_checks import (
    BRIGHTNESS,
    HELD_OUT,
    HIGH_FREQUENCY,
    PRECISION,
    SHAPES,
    STROKES,
    SWAP,
    TEXT,
    TEXT_SKILLS,
    UNDERSTANDING,
    Check,
    Direction,
)
from uae.report.format import Kind, evidence_text, value_text
from uae.report.pixel_audit import PixelAudit, distance_from, excess_over
from uae.report.statistics import Estimate, estimate, paired_difference
from uae.report.text_audit import TextAudit

Status = Literal["ok", "warn", "alarm", "not measured"]

MIN_ITEMS = 10
"""A change of fewer is not judged."""


@dataclass(frozen=True, slots=True)
class AuditSamples:
    """One evaluation on the fixed held-out images, row i for image i; NaN: something failed."""

    reward_similarity: Float[np.ndarray, " n"]
    """Redraw against original, by the backbone that is the reward."""
    held_out_similarity: Float[np.ndarray, " n"]
    """The same by a backbone that is never a reward."""
    text: TextAudit
    redraws: PixelAudit
    swap_similarity: Float[np.ndarray, " n"] | None = None
    """Held-out similarity when a decoder that RL never trained redraws the same captions."""
    caption_precision: Float[np.ndarray, " n"] | None = None
    """Share of what a caption claims that is true of its image."""
    shape_accuracy: Float[np.ndarray, " n"] | None = None
    """Share of the objects a caption names whose shape is right."""
    understanding: Shaped[np.ndarray, " m"] | None = None
    """1 where a multiple-choice question was answered rightly; rows are questions."""
    text_skills: Shaped[np.ndarray, " t"] | None = None
    """The same of questions without an image; where none was asked there is no such audit."""


@dataclass(frozen=True, slots=True)
class Audit:
    """One finding, in a status, a sentence and a number."""

    name: str
    status: Status
    sentence: str
    change: Estimate | None = None
    """The number that was judged: a paired difference, or a share of captions."""
    kind: Kind = "number"


def verdict(before: AuditSamples, after: AuditSamples, originals: PixelAudit) -> tuple[Audit, ...]:
    """Compare two evaluations, the private-code audit first.

    Args:
        before: The evaluation before RL.
        after: The evaluation to judge, on the same images.
        originals: Measures of the images themselves.
    """
    pixels = before.redraws, after.redraws
    return (
        _private_code(before, after),
        _held_out(before, after),
        _swap(before, after),
        _compare(PRECISION, before.caption_precision, after.caption_precision),
        _compare(SHAPES, before.shape_accuracy, after.shape_accuracy),
        _compare(UNDERSTANDING, before.understanding, after.understanding),
        *_text_skills(before, after),
        *_text_audits(before.text, after.text),
        _compare(STROKES, *(excess_over(originals.strokes, p.strokes) for p in pixels)),
        _compare(
            HIGH_FREQUENCY,
            *(distance_from(originals.high_frequency, p.high_frequency) for p in pixels),
        ),
        _compare(BRIGHTNESS, *(distance_from(originals.brightness, p.brightness) for p in pixels)),
    )


def summary(audits: Sequence[Audit]) -> str:
    """Count audits by status, in words."""
    counts = Counter(audit.status for audit in audits)
    alarms, warnings = counts["alarm"], counts["warn"]
    parts = [
        f"{alarms or 'no'} {'alarm' if alarms == 1 else 'alarms'}",
        f"{warnings or 'no'} {'warning' if warnings == 1 else 'warnings'}",
        f"{counts['ok']} in order",
    ]
    if counts["not measured"]:
        parts.append(f"{counts['not measured']} not measured")
    return ", ".join(parts)


def by_gravity(audits: Sequence[Audit]) -> list[Audit]:
    """Sort audits, alarms first."""
    order = ("alarm", "warn", "ok", "not measured")
    return sorted(audits, key=lambda audit: order.index(audit.status))


def judge(change: Estimate, margin: float, bad: Direction) -> Status:
    """Apply the rule of this file's head to one change."""
    nearest = change.low if bad == "rise" else -change.high  # the interval's least bad end
    if math.isnan(nearest):
        return "not measured"
    if nearest > margin:
        return "alarm"
    return "warn" if nearest > 0 else "ok"


def _private_code(before: AuditSamples, after: AuditSamples) -> Audit:
    reward = paired_difference(before.reward_similarity, after.reward_similarity)
    rose = f"the reward rose ({evidence_text(reward)})"
    relied_on = (
        (HELD_OUT, before.held_out_similarity, after.held_out_similarity),
        (SWAP, before.swap_similarity, after.swap_similarity),
        (PRECISION, before.caption_precision, after.caption_precision),
    )
    fallen = [
        f"{check.name.lower()} fell ({evidence_text(change, check.kind)})"
        for check, first, second in relied_on
        if first is not None
        and second is not None
        and (change := paired_difference(first, second)).falls
    ]
    if math.isnan(reward.low):
        status, sentence = "not measured", "There is no reward to compare."
    elif reward.n < MIN_ITEMS:
        status = "not measured"
        sentence = f"Too few images to say what the reward did ({evidence_text(reward)})."
    elif reward.rises and fallen:
        status = "alarm"
        sentence = (
            f"Private code: {rose} while {' and '.join(fallen)}. Encoder and decoder agree on "
            "captions that mean less to anyone else."
        )
    elif reward.rises:
        status = "ok"
        sentence = f"No sign of a private code: {rose} and nothing that others rely on fell."
    else:
        status = "ok"
        sentence = (
            f"The reward did not rise beyond its interval ({evidence_text(reward)}), so there is "
            "no gain to doubt."
        )
    return Audit("Private code", status, sentence, reward)


def _held_out(before: AuditSamples, after: AuditSamples) -> Audit:
    audit = _compare(HELD_OUT, before.held_out_similarity, after.held_out_similarity)
    reward = paired_difference(before.reward_similarity, after.reward_similarity)
    if audit.change is None or audit.status == "not measured" or not reward.rises:
        return audit
    if audit.change.falls:
        status: Status = "alarm"
        addition = f" The reward rose meanwhile ({evidence_text(reward)})."
    elif not audit.change.rises:
        status = "warn"
        addition = f" The reward rose without it ({evidence_text(reward)})."
    else:
        return audit
    return Audit(audit.name, status, audit.sentence + addition, audit.change)


def _swap(before: AuditSamples, after: AuditSamples) -> Audit:
    audit = _compare(SWAP, before.swap_similarity, after.swap_similarity)
    if before.swap_similarity is None or after.swap_similarity is None or audit.change is None:
        return audit
    gaps = [
        paired_difference(samples, own).value
        for samples, own in (
            (before.swap_similarity, before.held_out_similarity),
            (after.swap_similarity, after.held_out_similarity),
        )
    ]
    gap = f" The trained decoder is ahead of it by {gaps[1]:.3f}, before by {gaps[0]:.3f}."
    return Audit(audit.name, audit.status, audit.sentence + gap, audit.change)


def _text_skills(before: AuditSamples, after: AuditSamples) -> tuple[Audit, ...]:
    if before.text_skills is None:
        return ()
    return (_compare(TEXT_SKILLS, before.text_skills, after.text_skills),)


def _text_audits(before: TextAudit, after: TextAudit) -> tuple[Audit, ...]:
    pairs = {
        "repetition": (before.repetition, after.repetition),
        "unknown": (before.unknown, after.unknown),
        "non_latin": (before.non_latin, after.non_latin),
        "content_words": (before.content_words, after.content_words),
    }
    return (
        *(_compare(TEXT[name], *pair) for name, pair in pairs.items()),
        _level(
            "Length",
            after.over_limit > 0,
            f"Captions hold {value_text(estimate(after.num_tokens).value, 'count')} tokens on "
            f"average, {value_text(estimate(before.num_tokens).value, 'count')} before; "
            "{share} are longer than the decoder reads.",
        ),
        _level("Truncation", after.truncated, "{share} of the captions have no end token."),
    )


def _level(name: str, marks: Shaped[np.ndarray, " n"], sentence: str) -> Audit:
    """Judge a share of captions that should be 0: one is a warning, surely over 2 % an alarm."""
    share = estimate(marks)
    status = judge(share, 0.02, "rise")
    return Audit(
        name, status, sentence.format(share=value_text(share.value, "share")), share, "share"
    )


def _compare(
    check: Check,
    before: Shaped[np.ndarray, " n"] | None,
    after: Shaped[np.ndarray, " n"] | None,
) -> Audit:
    if before is None or after is None:
        return Audit(check.name, "not measured", f"{check.subject}: not measured.")
    change = paired_difference(before, after, is_share=check.kind == "share")
    if math.isnan(change.value):
        return Audit(check.name, "not measured", f"{check.subject}: not measured.")
    is_enough = change.n >= MIN_ITEMS
    status = judge(change, check.margin, check.bad) if is_enough else "not measured"
    levels = (value_text(estimate(side).value, check.kind) for side in (before, after))
    sentence = (
        f"{check.subject} {_movement(change, *levels)} ({evidence_text(change, check.kind)})."
    )
    if status in ("warn", "alarm"):
        sentence += f" {check.meaning}"
    elif not is_enough:
        sentence += f" Fewer than {MIN_ITEMS} are not judged."
    return Audit(check.name, status, sentence, change, check.kind)


def _movement(change: Estimate, before: str, after: str) -> str:
    if change.excludes_zero:
        return f"{'rose' if change.rises else 'fell'} from {before} to {after}"
    return f"did not move beyond its interval, {before} before and {after} after"
