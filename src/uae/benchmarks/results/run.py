"""A benchmark run: a folder that is filled item by item, and taken up again after any stop.

settings.json   what the numbers depend on; written first, marks the folder as ours
items.jsonl     one row per item; items-rank1.jsonl and so on while several processes write
result.json     scores; there only when every item has its row
refused.jsonl   parameters that an address does not take; there only if there are any
cut_captions.json   how many captions are longer than their generator reads, if that is known
lock            held while a process writes

with BenchRun.open(folder, settings) as run:
    for item in run.todo(items, name_of):
        run.add(ItemRow(item=name_of(item), samples={"answer": 1.0}))
    result = run.finish(scores)

Several processes (`uae.core.ranks`) share the items: rank 0 opens the folder, holds the lock and
writes `items.jsonl` and the result, the others append to files of their own, which it takes in at
the end, or when a stopped run is taken up.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from uae.backends.refused_parameters import gather_refusals
from uae.benchmarks.results import folder as folders
from uae.benchmarks.results import result as results
from uae.benchmarks.results.result import BenchResult
from uae.benchmarks.results.scores import Score
from uae.core.durable import storage_faults
from uae.core.errors import UsageError
from uae.core.journal import Journal
from uae.core.provenance import BenchSettings
from uae.core.ranks import current, gathered, once, own_path
from uae.runs.claim import Resume, claim
from uae.runs.cut_captions import read_cut
from uae.runs.rows import ITEMS, ItemRow, row_values

T = TypeVar("T")
Scores = Sequence[Score] | Callable[[Sequence[ItemRow]], Sequence[Score]]
"""What is computed; or a function that tells it from the rows."""


@dataclass(eq=False)
class BenchRun:
    """An open run folder, see `BenchRun.open`. Use as a context manager."""

    folder: Path
    _begun: Mapping[str, Any]
    _rows: dict[str, ItemRow]
    _num_before: int
    _journal: Journal
    _held: ExitStack
    _items: dict[str, None] | None = None

    @classmethod
    def open(
        cls,
        folder: Path,
        settings: BenchSettings,
        *,
        resume: Resume = "auto",
        retry_failed: bool = False,
    ) -> "BenchRun":
        """Begin a run, or take one up.

        Args:
            folder: Made if missing. Must be empty, or a run with equal settings.
            settings: All that the numbers depend on.
            resume: `must` refuses a folder without a run, `never` one with a run.
            retry_failed: Do items again that were excluded for something that may pass.

        Raises:
            UsageError: The folder is in use, of another run, no run folder or against `resume`, or
                a row in it is wrong.
            EnvironmentFault: It cannot be written.
        """
        with storage_faults("cannot write the run folder", folder), ExitStack() as undo:
            if current().is_first:
                undo.callback(claim(folder, folders.BENCHMARK, resume).release)
            begun, rows = once(
                lambda: (
                    folders.settle(folder, settings),
                    folders.take_up(folder, retry_failed=retry_failed),
                )
            )
            folders.check_settings(folder, begun, settings)  # those of every rank
            journal = undo.enter_context(Journal(own_path(folder / ITEMS), lock=False))
            by_item = {row.item: row for row in rows}
            return cls(folder, begun, by_item, len(rows), journal, undo.pop_all())

    def __enter__(self) -> "BenchRun":
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    @property
    def rows(self) -> Mapping[str, ItemRow]:
        """Rows by item: those that were there, and those that this rank has added."""
        return self._rows

    def missing(self, items: Iterable[T], name_of: Callable[[T], str]) -> Iterator[T]:
        """Yield those of all items of the run that have no row; nothing is kept of the others.

        Raises:
            UsageError: Two items share a name, or there are rows of items that are not among these.
        """
        names: dict[str, None] = {}
        for item in items:
            name = name_of(item)
            if name in names:
                raise UsageError(f"item {name!r} comes twice: expected different names")
            names[name] = None
            if name not in self._rows:
                yield item
        foreign = sorted(set(self._rows) - set(names))
        if foreign:
            raise UsageError(
                f"{self.folder / ITEMS} has rows of {len(foreign)} items that are not asked, "
                f"{foreign[0]!r} first: they belong to another run; choose another folder"
            )
        self._items = names

    def todo(
        self,
        items: Iterable[T],
        name_of: Callable[[T], str],
        group_of: Callable[[T], str] | None = None,
    ) -> Iterator[T]:
        """Yield this rank's share of what is `missing`; a process alone has all of it.

        Groups with something missing go to the ranks in turn, so that shares are even after a
        resume too: `group_of` says what items have in common that one rank must do.
        """
        ranks = current()
        numbers: dict[str, int] = {}
        for item in self.missing(items, name_of):
            number = numbers.setdefault((group_of or name_of)(item), len(numbers))
            if number % ranks.size == ranks.rank:
                yield item

    def add(self, row: ItemRow) -> None:
        """Append a row; when this returns a kill loses nothing of it.

        Raises:
            NonFinite: A sample is NaN or infinite; nothing is written.
        """
        assert row.item not in self._rows, f"item {row.item} has a row already"
        self._journal.append(row_values(row))
        self._rows[row.item] = row

    def finish(self, scores: Scores) -> BenchResult:
        """Compute the scores from the rows of all ranks and write `result.json`.

        `items.jsonl` then has the rows in the order of the items.
        """
        items = self._items
        assert items is not None, "finish() comes after all of todo()"
        own = list(self._rows.values())[self._num_before :]
        rows = self._rows | {row.item: row for part in gathered(own) for row in part}
        missing = sorted(set(items) - set(rows))
        assert not missing, f"{len(missing)} items got no row, {missing[:3]} first"
        return once(lambda: self._write([rows[item] for item in items], scores))

    def _write(self, rows: Sequence[ItemRow], scores: Scores) -> BenchResult:
        by_name = sorted(rows, key=lambda row: row.item)
        with storage_faults("cannot write", self.folder):
            refused = gather_refusals(self.folder)
            cut = read_cut(self.folder)
        result = BenchResult(
            settings=self._begun["settings"],
            num_items=len(rows),
            scores=results.score_rows(by_name, scores(by_name) if callable(scores) else scores),
            excluded=results.exclusions(by_name),
            failed=results.failed_parts(by_name),
            refused=refused,
            cut=cut,
            environment=self._begun["environment"],
            environment_changes=tuple(self._begun["environment_changes"]),
        )
        self._journal.sync()
        with storage_faults("cannot write the result in", self.folder):
            folders.write_rows(self.folder, rows)
            folders.write_json(self.folder / results.RESULT, results.result_values(result))
        return result
