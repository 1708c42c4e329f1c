"""Common parts of all benchmark commands: checks, progress, and the end of a run."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Literal

from cyclopts import Parameter

from uae.cli.output import Talk, json_line, write
from uae.core.errors import EXIT_DONE, EXIT_PARTIAL, UsageError
from uae.core.ranks import current, once
from uae.core.unicode import check_text

if TYPE_CHECKING:
    from uae.benchmarks.benchmark import Plan
    from uae.benchmarks.results.result import BenchResult
    from uae.runs.progress import Progress

log = logging.getLogger(__name__)

Resume = Literal["auto", "must", "never"]
MAX_LISTED = 50
"""Items named at the end of a job, of those left out."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunChoice:
    """Where a benchmark's run lies, whether it is taken up, and what it runs on."""

    out: Path
    """Folder of the run: settings, one row per item, scores."""
    resume: Resume = "auto"
    """must refuses a folder without a run, never one with a run."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""

    def check(self) -> None:
        """Refuse a folder that cannot take the run, before anything is loaded."""
        from uae.benchmarks.results.folder import BENCHMARK
        from uae.runs.claim import check_claim

        check_folder(self.out, "--out")
        # a rank that is late would find the first one's lock
        once(lambda: check_claim(self.out, BENCHMARK, self.resume))


def check_folder(folder: Path, flag: str) -> None:
    """Refuse a file where a folder is wanted; names the flag."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{flag} {folder} is a file: expected a folder")


def check_new(out: Path) -> None:
    """Refuse what can be no new folder of weights: their libraries take no name but Unicode."""
    check_text(str(out), "--out")
    if out.exists():
        raise UsageError(f"--out {out} exists already: give a new folder")


def progress_of(stage: str, unit: str, talk: Talk) -> tuple["Progress", Callable[[int, int], None]]:
    """Return a progress line, and what to tell of it (done, in all)."""
    progress, _ = stages_of(talk)
    # how far the other ranks are is an estimate
    return progress, lambda done, total: progress.show(stage, min(done, total), total, unit=unit)


def stages_of(talk: Talk) -> tuple["Progress", Callable[[str, int, int], None]]:
    """Return a progress line over several stages, and what to tell of it (what, done, in all)."""
    from uae.runs.progress import Progress

    is_shown = current().is_first and talk.chosen != "quiet"
    progress = Progress(terminal=None if is_shown else False)
    return progress, partial(progress.show, unit="image")


def carry_out(
    name: str,
    unit: str,
    plan: "Plan",
    place: RunChoice,
    talk: Talk,
    retry_failed: bool = False,
    left_out: Sequence[object] = (),
) -> int:
    """Carry out a benchmark's plan with a progress line, and return the exit code.

    With `retry_failed` it measures again what failed for something that may pass; `left_out` are
    folders of images that could not be read.
    """
    from uae.benchmarks.run import run_plan
    from uae.benchmarks.summary import summary_text

    progress, show = progress_of(name, unit, talk)
    result = run_plan(plan, place.out, resume=place.resume, retry_failed=retry_failed, show=show)
    progress.close()
    code = ended(result, place.out, (plan.text or summary_text)(result), talk, left_out)
    if why := plan.incomplete(result):
        log.warning("%s", why)
        return EXIT_PARTIAL
    return code


def ended(
    result: "BenchResult", out: Path, text: str, talk: Talk, left_out: Sequence[object] = ()
) -> int:
    """Write page and scores (`text` to people), say what was left out, and return the exit code."""
    from uae.benchmarks.results.page import write_page
    from uae.benchmarks.results.result import result_values

    page = once(lambda: write_page(out))
    if not current().is_first:
        return EXIT_DONE
    if talk.for_reader == "json":
        write(json_line(result_values(result)))
    elif talk.for_reader == "quiet":
        for x in result.scores:
            write(f"{x.score.name} {x.estimate.value}")
    else:
        write(f"{text}\n\nrun   {out}\npage  {page}\nnext  uae compare OTHER {quote(str(out))}")
    excluded = [
        f"{item}: {reason}" + (f": {detail}" if detail else "")
        for reason, items in result.excluded.items()
        for item, detail in items.items()
    ]
    failed = [
        f"{item}, {part}: {why}"
        for part, items in result.failed.items()
        for item, why in items.items()
    ]
    total = f"left out {result.num_excluded} of {result.num_items}; they count in no score"
    warn_of(total, excluded)
    warn_of(f"{len(failed)} parts of items failed; the rest of each item counts", failed)
    warn_of(f"{len(left_out)} folders could not be read", left_out)
    return EXIT_PARTIAL if excluded or failed or left_out else EXIT_DONE


def warn_of(total: str, items: Sequence[object]) -> None:
    """Warn with a count and the first lines of what it counts."""
    if items:
        more = [f"... and {len(items) - MAX_LISTED} more"] if len(items) > MAX_LISTED else []
        log.warning("\n  ".join([total, *map(str, items[:MAX_LISTED]), *more]))
