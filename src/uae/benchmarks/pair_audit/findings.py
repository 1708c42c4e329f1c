"""What a pair audit's rows mean: the audits of `report.audit` on the rows' samples."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from uae.benchmarks.pair_audit.questions import (
    IMAGE,
    KIND,
    TEXT_SKILLS,
    UNDERSTANDING,
    sample_name,
)
from uae.report.audit import Audit, AuditSamples, verdict
from uae.report.pixel_audit import PixelAudit
from uae.report.text_audit import TextAudit
from uae.runs.rows import ItemRow

TEXT = (
    "repetition",
    "unknown",
    "non_latin",
    "content_words",
    "num_tokens",
    "over_limit",
    "truncated",
)
"""Measures of captions, see `TextAudit`; unknown words are those that no caption before had."""
PIXELS = ("brightness", "high_frequency", "strokes")
"""Measures of pictures, see `PixelAudit`."""
SHARES = ("repetition", "unknown", "non_latin", "content_words", "strokes")
"""Measures that lie in [0, 1]."""


def audits_of(
    rows: Sequence[ItemRow], reward: Sequence[str], backbones: Sequence[str]
) -> tuple[Audit, ...]:
    """Compare both sides; what is not measured says so.

    Args:
        rows: Of all images and questions.
        reward: Backbones that were the reward.
        backbones: All of them.
    """
    by_kind: dict[str, list[ItemRow]] = {IMAGE: [], UNDERSTANDING: [], TEXT_SKILLS: []}
    for row in sorted(rows, key=lambda row: row.item):
        if not row.excluded:
            by_kind[row.labels[KIND]].append(row)
    held_out = [name for name in backbones if name not in reward]

    def column(name: str, kind: str = IMAGE) -> Float[np.ndarray, " n"]:
        values = [row.samples.get(name, np.nan) for row in by_kind[kind]]
        return np.array(values, dtype=np.float64)

    def mean(side: str, decoder: str, names: Sequence[str]) -> Float[np.ndarray, " n"]:
        columns = [column(f"{side} captions, {decoder} decoder: {name}") for name in names]
        return np.mean(columns, axis=0) if columns else np.full(len(by_kind[IMAGE]), np.nan)

    def pixels(of: str) -> PixelAudit:
        return PixelAudit(**{measure: column(f"{of} {measure}") for measure in PIXELS})

    def answers(side: str, kind: str) -> Float[np.ndarray, " q"] | None:
        return column(sample_name(side, kind), kind) if by_kind[kind] else None

    def samples(side: str) -> AuditSamples:
        return AuditSamples(
            reward_similarity=mean(side, side, reward),
            held_out_similarity=mean(side, side, held_out),
            text=TextAudit(**{measure: column(f"{side} {measure}") for measure in TEXT}),
            redraws=pixels(side),
            swap_similarity=mean(side, "before", held_out),
            understanding=answers(side, UNDERSTANDING),
            text_skills=answers(side, TEXT_SKILLS),
        )

    return verdict(samples("before"), samples("after"), pixels("original"))
