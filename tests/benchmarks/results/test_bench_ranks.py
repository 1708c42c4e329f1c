"""A run shared by several processes: killed anywhere, it ends as that of one process."""

import os
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
import rank_group
from forty_items import ITEMS, SCORES, Killed, row_of, run_forty, settings
from hypothesis import given
from hypothesis import strategies as st

from uae.benchmarks.results import run as run_module
from uae.benchmarks.results.folder import take_up
from uae.benchmarks.results.result import RESULT
from uae.benchmarks.results.run import BenchRun
from uae.core import ranks
from uae.core.journal import Journal, to_line
from uae.core.ranks import Ranks
from uae.runs.rows import ITEMS as ITEMS_FILE
from uae.runs.rows import ItemRow, row_values

FILES = (ITEMS_FILE, RESULT, "settings.json")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    run_forty(folder)
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    assert not list(folder.glob("*-rank*"))
    return {name: (folder / name).read_bytes() for name in FILES}


def logged(path: Path) -> list[tuple[int, str]]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(rank), item) for rank, item in map(str.split, lines)]


# -- processes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_share_the_items_and_end_as_one_process(tmp_path: Path, uninterrupted, size: int):
    processes = rank_group.start(size, rank_group.forty, tmp_path / "run", tmp_path / "log")
    assert rank_group.ended(processes) == [0] * size
    assert contents(tmp_path / "run") == uninterrupted
    begun = logged(tmp_path / "log")
    assert sorted(int(item) for _, item in begun) == list(range(40))
    assert dict(reversed(begun)) == {i: str(i) for i in range(size)}
    assert all(int(item) % size == rank for rank, item in begun)


def test_groups_that_are_killed_lose_nothing_and_do_nothing_twice(tmp_path: Path, uninterrupted):
    rng = random.Random(3)
    folder, num_kills = tmp_path / "run", 0
    for size in (2, 3, 1, 3, 2):
        log = tmp_path / f"log{num_kills}"
        kept = rank_group.rows_on_disk(folder) if folder.exists() else set()
        processes = rank_group.start(size, rank_group.forty, folder, log, 0.02)
        stop_after = rng.randrange(2, 8)
        while len(logged(log)) < stop_after and any(p.is_alive() for p in processes):
            time.sleep(0.002)
        num_kills += (folder / RESULT).exists() is False
        rank_group.kill(processes)
        assert not kept & {item for _, item in logged(log)}
        assert kept <= rank_group.rows_on_disk(folder)
    assert num_kills == 5
    last = rank_group.start(2, rank_group.forty, folder, tmp_path / "last")
    assert rank_group.ended(last) == [0, 0]
    assert contents(folder) == uninterrupted


def test_a_rank_that_fails_ends_the_others_and_its_rows_are_kept(tmp_path: Path, uninterrupted):
    processes = rank_group.start(2, rank_group.with_a_faulty_rank, tmp_path)
    assert rank_group.ended(processes) == [1, 1]
    assert not (tmp_path / RESULT).exists()
    assert rank_group.rows_on_disk(tmp_path) == {*ITEMS[::2], *ITEMS[1:20:2]}
    run_forty(tmp_path)
    assert contents(tmp_path) == uninterrupted


def test_ranks_with_different_settings_are_refused(tmp_path: Path):
    processes = rank_group.start(2, rank_group.with_other_settings, tmp_path)
    assert rank_group.ended(processes) == [1, 2]
    assert not rank_group.rows_on_disk(tmp_path) & set(ITEMS[1::2])


# -- what a stopped group leaves ----------------------------------------------------------------


def left_behind(folder: Path, names: Sequence[str], torn: bytes = b"") -> None:
    data = b"".join(to_line(row_values(row_of(name))) for name in names)
    (folder / "items-rank1.jsonl").write_bytes(data + torn)


def run_beside_another_rank(folder: Path) -> None:
    with BenchRun.open(folder, settings()) as run:
        for item in run.todo(ITEMS, str):
            run.add(row_of(item))
        left_behind(folder, ["30", "35"])  # rows that the other rank has handed over
        run.finish(SCORES)


@pytest.mark.parametrize("torn", [b"", b"{", b'{"item": "39", "samples": {"right"', b"\xff"])
def test_rows_of_other_ranks_are_taken_up(tmp_path: Path, uninterrupted, torn: bytes):
    run_forty(tmp_path, items=ITEMS[:3])
    (tmp_path / RESULT).unlink()
    # 1 and 2 are in both: the kill came after they were taken in
    left_behind(tmp_path, ["1", "2", "7", "9"], torn)
    done: list[str] = []
    run_forty(tmp_path, before_item=done.append)
    assert done == [item for item in ITEMS if item not in ("0", "1", "2", "7", "9")]
    assert contents(tmp_path) == uninterrupted


@pytest.mark.parametrize("stop", range(1, 5))
def test_a_stop_at_any_step_of_taking_up_and_of_the_end_changes_nothing(
    tmp_path: Path, uninterrupted, monkeypatch, stop: int
):
    run_forty(tmp_path, items=ITEMS[:3])
    (tmp_path / RESULT).unlink()
    left_behind(tmp_path, ["2", "7"])
    with monkeypatch.context() as patch:
        steps = iter(range(1, 100))

        def stopping(real):
            def step(*arguments, **options):
                if next(steps) == stop:
                    raise Killed
                return real(*arguments, **options)

            return step

        patch.setattr(Path, "replace", stopping(Path.replace))
        real_unlink = Path.unlink
        patch.setattr(
            Path,
            "unlink",
            lambda self, **options: (
                stopping(real_unlink)(self) if "rank" in self.name else real_unlink(self, **options)
            ),
        )
        with pytest.raises(Killed):
            run_beside_another_rank(tmp_path)
    assert rank_group.rows_on_disk(tmp_path) >= {"0", "1", "2", "7"}
    run_forty(tmp_path)
    assert contents(tmp_path) == uninterrupted


def test_a_row_that_two_files_have_is_kept_once(tmp_path: Path):
    rows = [row_of(item) for item in ("1", "2", "7")]
    (tmp_path / ITEMS_FILE).write_bytes(b"".join(map(to_line, map(row_values, rows[:2]))))
    left_behind(tmp_path, ["2", "7"])
    assert take_up(tmp_path, retry_failed=False) == rows
    assert (tmp_path / ITEMS_FILE).read_bytes() == b"".join(map(to_line, map(row_values, rows)))


def test_a_failed_row_of_another_rank_can_be_tried_again(tmp_path: Path):
    failed = ItemRow(item="5", excluded="no reply", can_retry=True)
    (tmp_path / "items-rank2.jsonl").write_bytes(to_line(row_values(failed)))
    assert take_up(tmp_path, retry_failed=False) == [failed]
    assert take_up(tmp_path, retry_failed=True) == []
    assert (tmp_path / ITEMS_FILE).read_bytes() == b""


# -- shares -------------------------------------------------------------------------------------


@given(
    groups=st.lists(st.integers(0, 12), max_size=40),
    done=st.sets(st.integers(0, 39)),
    size=st.integers(1, 4),
)
def test_groups_stay_together_and_go_to_the_ranks_in_turn(groups, done, size):
    rows = {str(i): ItemRow(item=str(i)) for i in sorted(done) if i < len(groups)}
    shares: list[list[int]] = []
    with pytest.MonkeyPatch.context() as patch, Journal(Path(os.devnull), lock=False) as journal:
        for rank in range(size):
            patch.setattr(run_module, "current", lambda rank=rank: Ranks(rank, size, rank))
            run = BenchRun(Path(), {}, rows, len(rows), journal, ExitStack())
            items = range(len(groups))
            shares.append(list(run.todo(items, str, lambda i: str(groups[i]))))
    assert sorted(i for part in shares for i in part) == sorted(set(range(len(groups))) - done)
    chosen = [{groups[i] for i in part} for part in shares]
    assert sum(map(len, chosen)) == len(set().union(*chosen))
    assert max(map(len, chosen)) - min(map(len, chosen)) <= 1


def test_a_rank_parts_when_all_are_done_or_have_ended(tmp_path: Path):
    assert rank_group.ended(rank_group.start(2, rank_group.one_late, tmp_path)) == [0, 0]
    assert rank_group.ended(rank_group.start(2, rank_group.one_gone, tmp_path)) == [0, 1]
    assert (tmp_path / "done").exists()


def test_a_run_of_one_process_meets_nobody(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(ranks, "_group", None)  # a meeting would fail
    assert run_forty(tmp_path).num_items == len(ITEMS)
