"""`uae compare`: two runs of one benchmark, item by item."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from uae.commands.talk import PLAINLY, SWITCH, Talk, json_line, write
from uae.errors import EXIT_DONE

if TYPE_CHECKING:
    from uae.eval.results.compare import Comparison


def compare(
    before: Annotated[Path, Parameter(name="RUN_A")],
    after: Annotated[Path, Parameter(name="RUN_B")],
    /,
    *,
    allow_different_items: Annotated[bool, SWITCH] = False,
    talk: Talk = PLAINLY,
) -> int:
    """Compare two runs of one benchmark: paired differences with 95 % intervals, and what moved.

    Try:
        uae compare runs/mmt-before runs/mmt-after
        uae compare runs/mmt-before runs/mmt-after --json

    Args:
        before: Folder that an `uae eval` benchmark wrote.
        after: Folder of the same benchmark and version; differences are this one minus the other.
        allow_different_items: Compare the items that both have, though one has others too, or
            though their data differ.
        talk: Format and verbosity.
    """
    talk.begin()
    from uae.eval.results.compare import compare as compare_runs
    from uae.eval.results.compare import comparison_text, comparison_values

    found = compare_runs(before, after, allow_different_items=allow_different_items)
    if talk.for_reader == "json":
        write(json_line(comparison_values(found)))
    elif talk.for_reader == "quiet":
        _write_differences(found)
    else:
        write(comparison_text(found))
    return EXIT_DONE


def _write_differences(found: "Comparison") -> None:
    for change in found.scores:
        write(f"{change.score.name} {change.difference.value}")
