"""What the commands of all benchmarks share: checks, progress, and how a run ends."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from uae.commands.inputs import MAX_LISTED
from uae.commands.talk import Talk, json_line, write
from uae.errors import EXIT_DONE, EXIT_PARTIAL, UsageError

if TYPE_CHECKING:
    from uae.eval.results.result import BenchResult
    from uae.train.progress import Progress

log = logging.getLogger(__name__)

Resume = Literal["auto", "must", "never"]


def check_folder(folder: Path, flag: str) -> None:
    """Refuse a file where a folder is wanted.

    Raises:
        UsageError: Names the flag.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{flag} {folder} is a file: expected a folder")


def progress_of(stage: str, unit: str, talk: Talk) -> tuple["Progress", Callable[[int, int], None]]:
    """Return a progress line, and what to tell of it (done, in all)."""
    from uae.train.progress import Progress

    progress = Progress(terminal=False if talk.chosen == "quiet" else None)
    return progress, lambda done, total: progress.show(stage, done, total, unit=unit)


def stages_of(talk: Talk) -> tuple["Progress", Callable[[str, int, int], None]]:
    """Return a progress line over several stages, and what to tell of it (what, done, in all)."""
    from uae.train.progress import Progress

    progress = Progress(terminal=False if talk.chosen == "quiet" else None)
    return progress, lambda what, done, total: progress.show(what, done, total, unit="image")


def ended(result: "BenchResult", out: Path, text: str, talk: Talk) -> int:
    """Write the page and the scores, list what was left out on stderr, and return the exit code."""
    from uae.eval.results.page import write_page
    from uae.eval.results.result import result_values

    page = write_page(out)

    if talk.for_reader == "json":
        write(json_line(result_values(result)))
    elif talk.for_reader == "quiet":
        for x in result.scores:
            write(f"{x.score.name} {x.estimate.value}")
    else:
        write(f"{text}\n\nrun   {out}\npage  {page}\nnext  uae compare OTHER {out}")
    if not result.num_excluded:
        return EXIT_DONE
    lines = [
        f"  {item}: {exclusion.reason}" + (f": {detail}" if detail else "")
        for exclusion in result.excluded
        for item, detail in exclusion.items.items()
    ]
    more = [f"  ... and {len(lines) - MAX_LISTED} more"] if len(lines) > MAX_LISTED else []
    total = f"left out {result.num_excluded} of {result.num_items}; they count in no score"
    log.warning("\n".join([total, *lines[:MAX_LISTED], *more]))
    return EXIT_PARTIAL
