"""What a pair audit's rows mean: the audits of `eval.audit` on the rows' samples."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

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
    rows: Sequence[ItemRow],
    reward: Sequence[str],
    backbones: Sequence[str],
    understanding: tuple[np.ndarray, np.ndarray] | None,
    text_skills: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[Audit, ...]:
    """Compare both sides; what is not measured says so.

    Args:
        rows: Of all images.
        reward: Backbones that were the reward.
        backbones: All of them.
        understanding: Before and after, 1 where the same question was answered rightly.
        text_skills: The same of questions without an image.
    """
    scored = [row for row in sorted(rows, key=lambda row: row.item) if not row.excluded]
    held_out = [name for name in backbones if name not in reward]

    def column(name: str) -> Float[np.ndarray, " n"]:
        return np.array([row.samples.get(name, np.nan) for row in scored], dtype=np.float64)

    def mean(side: str, decoder: str, names: Sequence[str]) -> Float[np.ndarray, " n"]:
        columns = [column(f"{side} captions, {decoder} decoder: {name}") for name in names]
        return np.mean(columns, axis=0) if columns else np.full(len(scored), np.nan)

    def pixels(of: str) -> PixelAudit:
        return PixelAudit(**{measure: column(f"{of} {measure}") for measure in PIXELS})

    def samples(i: int, side: str) -> AuditSamples:
        return AuditSamples(
            reward_similarity=mean(side, side, reward),
            held_out_similarity=mean(side, side, held_out),
            text=TextAudit(**{measure: column(f"{side} {measure}") for measure in TEXT}),
            redraws=pixels(side),
            swap_similarity=mean(side, "before", held_out),
            understanding=understanding[i] if understanding else None,
            text_skills=text_skills[i] if text_skills else None,
        )

    return verdict(samples(0, "before"), samples(1, "after"), pixels("original"))
