"""A benchmark of forty items that needs no model, and a run of it that can be stopped anywhere."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from uae.benchmarks.results.result import BenchResult
from uae.benchmarks.results.run import BenchRun
from uae.benchmarks.results.scores import Score
from uae.core.provenance import BenchSettings, ModelStamp
from uae.runs.rows import ItemRow

ITEMS = [str(i) for i in range(40)]
SCORES = [
    Score(name="overall", sample="right"),
    Score(name="kinds", sample="right", mean_over="kind"),
    Score(name="odd", sample="right", where={"kind": "odd"}),
    Score(name="similarity", sample="similarity"),
]


class Killed(BaseException):
    """Stands for a kill: nobody catches it."""


def settings(model: str = "m", **changes) -> BenchSettings:
    stamp = ModelStamp(name=model, dtype="float32", backend="none", seeds={"noise": 1})
    values = {"benchmark": "forty", "version": "1", "data": {"items": "abc"}} | changes
    return BenchSettings(model=stamp, **values)


def row_of(item: str, model: str = "m") -> ItemRow:
    """Every seventh item fails; the others are right or wrong by chance that is fixed."""
    rng = random.Random(f"{model} {item}")
    labels = {"kind": "odd" if int(item) % 2 else "even"}
    if int(item) % 7 == 3:
        return ItemRow(item=item, labels=labels, excluded="bad luck", excluded_detail=f"no {item}")
    samples = {"right": float(rng.random() < 0.6), "similarity": rng.random()}
    return ItemRow(item=item, labels=labels, samples=samples, cluster=f"c{int(item) // 3}")


def run_forty(
    folder: Path,
    *,
    items: Sequence[str] = ITEMS,
    model: str = "m",
    before_item: Callable[[str], None] = lambda _: None,
    **options,
) -> BenchResult:
    """Run what is not done yet."""
    with BenchRun.open(folder, settings(model), **options) as run:
        for item in run.todo(items, str):
            before_item(item)
            run.add(row_of(item, model))
        return run.finish(SCORES)
