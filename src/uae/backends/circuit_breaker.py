"""The end of a run whose judge or model is down: going on would lose every item."""

from pathlib import Path

from uae.backends.client import FailureReason
from uae.core.errors import RunFailed
from uae.core.memory import OUT_OF_MEMORY
from uae.runs.rows import ItemRow

MAX_FAILURES_RUNNING = 5
"""Outages in a row after which a run ends."""

_OUTAGES: tuple[FailureReason, ...] = (
    "timed out",
    "rate limited",
    "server error",
    "connection lost",
)
_UNFIT: tuple[FailureReason, ...] = ("not accepted", "no answer")
"""A matter of the one item, unless there was never an answer: then of what is asked at all."""


class Outages:
    """Counts outages in a row.

    outages = Outages("judge", folder, has_answered=any(row.samples for row in rows))
    outages.count(row)  # each row that was asked for, in turn
    """

    def __init__(
        self,
        asked: str,
        folder: Path,
        *,
        has_answered: bool,
        again: str = "repeat the command with --retry-failed",
    ) -> None:
        """Begin with none.

        Args:
            asked: What is asked, "judge" say; rows that an outage excluded begin with it, as in
                "judge: timed out".
            folder: Of the run.
            has_answered: Whether something of the run was answered before.
            again: What asks once more for what failed.
        """
        self._asked = asked
        self._folder = folder
        self._again = again
        self._has_answered = has_answered
        self._num_running = 0

    def count(self, row: ItemRow) -> None:
        """Take in one more row, which has been written.

        Raises:
            RunFailed: It is the last of too many outages in a row.
        """
        self.add(row.item, row.excluded, row.excluded_detail)

    def add(self, item: str, reason: str, detail: str) -> None:
        """Take in one more item, which failed for a reason, or for none; raises as `count`."""
        self._has_answered |= not reason
        counted = _OUTAGES if self._has_answered else _OUTAGES + _UNFIT
        is_outage = reason in {f"{self._asked}: {x}" for x in (*counted, OUT_OF_MEMORY)}
        self._num_running = self._num_running + 1 if is_outage else 0
        if self._num_running >= MAX_FAILURES_RUNNING:
            raise RunFailed(
                f"{self._num_running} items running failed, {item} last ({reason}: {detail}); "
                f"{self._folder} keeps all that is done: mend the {self._asked}, then {self._again}"
            )
