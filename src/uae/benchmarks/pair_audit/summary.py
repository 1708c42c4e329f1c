"""What a pair audit's numbers depend on, and its result in lines."""

from collections.abc import Mapping, Sequence
from typing import Any

from uae.benchmarks.pair_audit.questions import (
    SIDES,
    TEXT_SKILLS,
    UNDERSTANDING,
    parsed_name,
    sample_name,
)
from uae.benchmarks.pair_audit.run import AuditTask, matrix_name
from uae.benchmarks.results.result import BenchResult
from uae.core.provenance import BenchSettings, ModelStamp, image_digests, images_stamp
from uae.report.audit import Audit, by_gravity, summary
from uae.report.format import value_text


def settings_of(
    task: AuditTask,
    stamps: Mapping[str, ModelStamp],
    backbones: Mapping[str, str],
    version: str,
    questions: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> BenchSettings:
    """Return what the numbers of a run depend on; what is measured is the trained model.

    Args:
        task: What is audited.
        stamps: Of both sides.
        backbones: sha256 of their weights, by name.
        version: Of the rules.
        questions: sha256 of the files of questions, by kind.
        options: How they are asked.

    Raises:
        UsageError: An image cannot be read.
    """
    before, images = stamps["before"], image_digests(task.images)
    return BenchSettings(
        benchmark="pair-audit",
        version=version,
        model=stamps["after"],
        data={
            **images_stamp(task.out, images).files,
            **{f"backbone {name}": digest for name, digest in backbones.items()},
            **{f"before {name}": digest for name, digest in before.files.items()},
            **{f"questions {kind}": digest for kind, digest in (questions or {}).items()},
        },
        options={"before": before.name, "reward": list(task.reward), **(options or {})},
        inputs={"image": images},
    )


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
    found = {x.score.name: x.estimate for x in result.scores if x.score.name in names}
    lines = [
        f"  {name:22}{value_text(x.value, 'share'):>16}  n = {x.n}, "
        f"{_unparsed(result, side, kind)} unparsed, {x.num_excluded} left out"
        for side, (name, x) in zip(SIDES, found.items(), strict=False)
    ]
    return ["", f"questions answered rightly, {kind}", *lines] if lines else []


def _unparsed(result: BenchResult, side: str, kind: str) -> int:
    """Count the replies that named no option, which count as wrong."""
    parsed = result.by_name(parsed_name(side, kind))
    return round(parsed.n * (1 - parsed.value)) if parsed.n else 0
