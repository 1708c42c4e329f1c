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
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Shaped

from uae.report.audit_checks import (
    HELD_OUT,
    OF_ENCODER,
    OF_PIXELS,
    OF_TEXT,
    PRECISION,
    SWAP,
    TEXT_SKILLS,
    AuditSamples,
    Check,
    Direction,
)
from uae.report.format import Kind, evidence_text, movement_text, value_text
from uae.report.pixel_audit import PixelAudit
from uae.report.statistics import Estimate, estimate, paired_difference
from uae.report.text_audit import TextAudit

Status = Literal["ok", "warn", "alarm", "not measured"]

MIN_ITEMS = 10
"""A change of fewer is not judged."""


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
    """Compare an evaluation with the one before RL, the private-code audit first."""
    skills = () if before.text_skills is None else (TEXT_SKILLS,)

    def compare(check: Check) -> Audit:
        return _compare(check, check.values(before, originals), check.values(after, originals))

    return (
        _private_code(before, after, originals),
        _held_out(compare(HELD_OUT), before, after),
        _swap(compare(SWAP), before, after),
        *map(compare, (*OF_ENCODER, *skills, *OF_TEXT)),
        *_text_levels(before.text, after.text),
        *map(compare, OF_PIXELS),
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


def _private_code(before: AuditSamples, after: AuditSamples, originals: PixelAudit) -> Audit:
    reward = _of_reward(before, after)
    rose = f"the reward rose ({evidence_text(reward)})"
    fallen = [
        f"{check.name.lower()} fell ({evidence_text(change, check.kind)})"
        for check in (HELD_OUT, SWAP, PRECISION)
        if (first := check.values(before, originals)) is not None
        and (second := check.values(after, originals)) is not None
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


def _of_reward(before: AuditSamples, after: AuditSamples) -> Estimate:
    return paired_difference(before.reward_similarity, after.reward_similarity)


def _held_out(audit: Audit, before: AuditSamples, after: AuditSamples) -> Audit:
    reward = _of_reward(before, after)
    if audit.change is None or audit.status == "not measured" or not reward.rises:
        return audit
    if audit.change.rises:
        return audit
    status, words = ("alarm", "meanwhile") if audit.change.falls else ("warn", "without it")
    addition = f" The reward rose {words} ({evidence_text(reward)})."
    return replace(audit, status=status, sentence=audit.sentence + addition)


def _swap(audit: Audit, before: AuditSamples, after: AuditSamples) -> Audit:
    gaps = [
        paired_difference(samples.swap_similarity, samples.held_out_similarity).value
        for samples in (before, after)
        if samples.swap_similarity is not None
    ]
    if len(gaps) < 2 or audit.change is None:
        return audit
    gap = f" The trained decoder is ahead of it by {gaps[1]:.3f}, before by {gaps[0]:.3f}."
    return replace(audit, sentence=audit.sentence + gap)


def _text_levels(before: TextAudit, after: TextAudit) -> tuple[Audit, Audit]:
    now, then = (value_text(estimate(x.num_tokens).value, "count") for x in (after, before))
    return (
        _level(
            "Length",
            after.over_limit > 0,
            f"Captions hold {now} tokens on average, {then} before; "
            "{share} are longer than the decoder reads.",
        ),
        _level("Truncation", after.truncated, "{share} of the captions have no end token."),
    )


def _level(name: str, marks: Shaped[np.ndarray, " n"], sentence: str) -> Audit:
    """Judge a share of captions that should be 0: one is a warning, surely over 2 % an alarm."""
    share = estimate(marks)
    status = judge(share, 0.02, "rise")
    sentence = sentence.format(share=value_text(share.value, "share"))
    return Audit(name, status, sentence, share, "share")


def _compare(
    check: Check,
    before: Shaped[np.ndarray, " n"] | None,
    after: Shaped[np.ndarray, " n"] | None,
) -> Audit:
    unmeasured = Audit(check.name, "not measured", f"{check.subject}: not measured.")
    if before is None or after is None:
        return unmeasured
    change = paired_difference(before, after, is_share=check.kind == "share")
    if math.isnan(change.value):
        return unmeasured
    is_enough = change.n >= MIN_ITEMS
    status = judge(change, check.margin, check.bad) if is_enough else "not measured"
    movement = movement_text(change, estimate(before), estimate(after), check.kind)
    sentence = f"{check.subject} {movement} ({evidence_text(change, check.kind)})."
    if status in ("warn", "alarm"):
        sentence += f" {check.meaning}"
    elif not is_enough:
        sentence += f" Fewer than {MIN_ITEMS} are not judged."
    return Audit(check.name, status, sentence, change, check.kind)
