"""A benchmark's plan carried out: the rows that the folder lacks, then the scores of all.

What is measured costs time or money, so each answer has a row of its own at once; what is computed
from several, an image's mean say, has another row, so that runs are compared by it.
"""

from collections.abc import Callable
from pathlib import Path

from uae.backends.circuit_breaker import Outages
from uae.benchmarks.benchmark import Plan
from uae.benchmarks.results.pictures import with_pictures
from uae.benchmarks.results.result import BenchResult
from uae.benchmarks.results.run import BenchRun, Resume
from uae.core.ranks import current


def run_plan(
    plan: Plan,
    folder: Path,
    *,
    resume: Resume = "auto",
    retry_failed: bool = False,
    show: Callable[[int, int], None] = lambda _done, _total: None,
) -> BenchResult:
    """Make each row that the folder does not hold yet, and score all.

    Args:
        plan: Of the run.
        folder: Run folder, see `results.run`.
        resume: `must` refuses a folder without a run, `never` one with a run.
        retry_failed: Measure again what failed for something that may pass.
        show: Told (done, in all) of the works that measure, before the first and after each.

    Raises:
        UsageError: The folder is of another run, or who is asked is refused.
        RunFailed: Who is asked failed several times running; what is done stays done.
    """
    measured = plan.measured
    if measured is None:
        measured = [work.item for work in plan.works if work.is_asked]
    with BenchRun.open(folder, plan.settings, resume=resume, retry_failed=retry_failed) as run:
        num_done = len(run.rows.keys() & set(measured))
        has_answered = any(map(plan.is_answered, run.rows.values()))
        outages = Outages(plan.asked, folder, has_answered=has_answered)
        show(num_done, len(measured))
        todo = run.todo(plan.works, lambda work: work.item, lambda work: work.group or work.item)
        for work in todo:
            row = work.make(run.rows)
            row = with_pictures(row, {"image": work.image}, folder) if work.image else row
            run.add(row)
            if work.is_asked:
                num_done += current().size  # the others are about as far
                reason = "" if plan.is_answered(row) else row.excluded
                if not reason.startswith("image: "):  # nobody was asked
                    outages.add(row.item, reason, row.excluded_detail)
                show(num_done, len(measured))
        return run.finish(plan.scores)
