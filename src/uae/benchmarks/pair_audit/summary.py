"""A pair audit's result in lines."""

from collections.abc import Sequence

from uae.benchmarks.pair_audit.questions import (
    SIDES,
    TEXT_SKILLS,
    UNDERSTANDING,
    parsed_name,
    sample_name,
)
from uae.benchmarks.pair_audit.run import matrix_name
from uae.benchmarks.results.result import BenchResult
from uae.report.audit import Audit, by_gravity, summary
from uae.report.format import value_text


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
