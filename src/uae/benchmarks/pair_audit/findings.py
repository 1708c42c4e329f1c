"""Scores of a pair audit's rows, the audits of `report.audit` on them, and both in lines."""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from uae.benchmarks.pair_audit.questions import (
    IMAGE,
    KIND,
    SIDES,
    TEXT_SKILLS,
    UNDERSTANDING,
    QuestionSet,
    parsed_name,
    sample_name,
)
from uae.benchmarks.results.result import BenchResult
from uae.benchmarks.results.scores import Score
from uae.report.audit import Audit, AuditSamples, by_gravity, summary, verdict
from uae.report.format import value_text
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


def matrix_name(writes: str, draws: str, key: str) -> str:
    """Name a cell of the swap matrix."""
    return f"{writes} captions, {draws} decoder: {key}"


def scores_of(backbone_names: Sequence[str], questions: Sequence[QuestionSet]) -> list[Score]:
    """Return the swap matrix by backbone, text and pixels of both sides, then their answers."""
    names = [
        matrix_name(writes, draws, key)
        for key in backbone_names
        for writes, draws in itertools.product(SIDES, SIDES)
    ]
    names += [f"{side} {measure}" for measure in TEXT for side in SIDES]
    names += [f"{of} {measure}" for measure in PIXELS for of in ("original", *SIDES)]
    scores = [
        Score(name=name, sample=name, where={KIND: IMAGE}, is_share=name.split()[-1] in SHARES)
        for name in names
    ]
    return [*scores, *(score for asked in questions for score in asked.scores)]


def audits_of(
    rows: Sequence[ItemRow], reward: Sequence[str], backbones: Sequence[str]
) -> tuple[Audit, ...]:
    """Compare both sides; what is not measured says so."""
    by_kind: dict[str, list[ItemRow]] = {IMAGE: [], UNDERSTANDING: [], TEXT_SKILLS: []}
    for row in sorted(rows, key=lambda row: row.item):
        if not row.excluded:
            by_kind[row.labels[KIND]].append(row)
    held_out = [name for name in backbones if name not in reward]

    def column(name: str, kind: str = IMAGE) -> Float[np.ndarray, " n"]:
        values = [row.samples.get(name, np.nan) for row in by_kind[kind]]
        return np.array(values, dtype=np.float64)

    def mean(side: str, decoder: str, names: Sequence[str]) -> Float[np.ndarray, " n"]:
        columns = [column(matrix_name(side, decoder, name)) for name in names]
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


def summary_text(result: BenchResult, audits: Sequence[Audit]) -> str:
    """Write the swap matrix of each backbone, then the audits, the gravest first."""
    lines = [
        f"{result.settings['model']['name']}, before: {result.settings['options']['before']}",
        f"{result.num_items} items, {result.num_excluded} left out",
    ]
    lines += result.marks
    keys = [x.score.name for x in result.scores]
    first = matrix_name("before", "before", "")
    for name in (key.removeprefix(first) for key in keys if key.startswith(first)):
        lines += ["", f"{name:24}" + "".join(f"{side + ' decoder':>16}" for side in SIDES)]
        for writes in SIDES:
            values = [result.by_name(matrix_name(writes, draws, name)) for draws in SIDES]
            cells = "".join(f"{value_text(x.value):>16}" for x in values)
            lines.append(f"  {writes + ' captions':22}{cells}")
    lines += [*_answer_lines(result, UNDERSTANDING), *_answer_lines(result, TEXT_SKILLS)]
    lines += ["", summary(audits)]
    lines += [f"  {audit.status:12}  {audit.sentence}" for audit in by_gravity(audits)]
    return "\n".join(lines)


def _answer_lines(result: BenchResult, kind: str) -> list[str]:
    names = [sample_name(side, kind) for side in SIDES]
    figures = {x.score.name: x.estimate for x in result.scores if x.score.name in names}
    lines = [
        f"  {name:22}{value_text(x.value, 'share'):>16}  n = {x.n}, "
        f"{_unparsed(result, side, kind)} unparsed, {x.num_excluded} left out"
        for side, (name, x) in zip(SIDES, figures.items(), strict=False)
    ]
    return ["", f"questions answered rightly, {kind}", *lines] if lines else []


def _unparsed(result: BenchResult, side: str, kind: str) -> int:
    """Count the replies that named no option, which count as wrong."""
    parsed = result.by_name(parsed_name(side, kind))
    return round(parsed.n * (1 - parsed.value)) if parsed.n else 0
