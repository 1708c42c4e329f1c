"""`uae compare`: two runs of one benchmark, item by item."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from uae.cli.output import PLAINLY, SWITCH, Talk, json_line, write
from uae.core.durable import storage_faults
from uae.core.errors import EXIT_DONE


def compare(
    before: Annotated[Path, Parameter(name="RUN_A")],
    after: Annotated[Path, Parameter(name="RUN_B")],
    /,
    *,
    allow_different_items: Annotated[bool, SWITCH] = False,
    page: Path | None = None,
    talk: Talk = PLAINLY,
) -> int:
    """Compare two runs of one benchmark: paired differences with 95 % intervals, and what moved.

    Try:
        uae compare runs/mmt-before runs/mmt-after
        uae compare runs/mmt-before runs/mmt-after --json
        uae compare runs/unified-before runs/unified-after --page moved.html

    Args:
        before: Folder that an `uae eval` benchmark wrote.
        after: Folder of the same benchmark and version; differences are this one minus the other.
        allow_different_items: Compare the items that both have, though one has others too, or
            though their data differ.
        page: HTML file to write, with the items that moved most in pictures.
        talk: Format and verbosity.
    """
    talk.begin()
    from uae.benchmarks.results.compare import compare as compare_runs
    from uae.benchmarks.results.compare import comparison_text, comparison_values

    comparison = compare_runs(before, after, allow_different_items=allow_different_items)
    if page:
        from uae.benchmarks.results.page import write_comparison

        with storage_faults("cannot write", page):
            write_comparison(page, before, after, comparison)
    if talk.for_reader == "json":
        write(json_line(comparison_values(comparison)))
    elif talk.for_reader == "quiet":
        for change in comparison.scores:
            write(f"{change.score.name} {change.difference.value}")
    else:
        write(comparison_text(comparison))
    return EXIT_DONE
