"""What the trials of benchmark runs look for: a trial that sees no fault would pass for ever."""

import os
import random

import pytest

from faults.benchmark_runs import Whole
from faults.kill_in_benchmark import tear
from faults.kill_of_judge import in_any_order, leaves_out
from uae.core.journal import to_line
from uae.runs.rows import ItemRow, read_rows, row_values

ANSWERED = ItemRow(item="a", samples={"p": 0.5})
ROWS = (ANSWERED, ItemRow(item="b", samples={"p": 1}))
WHOLE = Whole({"items.jsonl": b"".join(map(to_line, map(row_values, ROWS)))}, 2, 1)
LEFT_OUT = ItemRow(item="b", excluded="judge: connection lost", can_retry=True)


@pytest.mark.parametrize(
    ("rows", "is_right"),
    [
        ([ANSWERED, LEFT_OUT], True),
        ([ANSWERED, ItemRow(item="b", samples={"p": 0})], False),  # scored without an answer
        ([ItemRow(item="a", samples={"p": 0.4}), LEFT_OUT], False),
        ([ANSWERED, ItemRow(item="b", excluded="judge: refused")], False),  # lost for good
        ([ANSWERED], False),  # not counted
    ],
)
def test_a_killed_judge_may_leave_rows_out_and_nothing_else(tmp_path, rows, is_right):
    items = tmp_path / "items.jsonl"
    items.write_bytes(b"".join(map(to_line, map(row_values, rows))))
    assert leaves_out(items, WHOLE) == is_right


def test_a_row_that_is_there_twice_or_not_at_all_differs():
    twice = {"items.jsonl": WHOLE.files["items.jsonl"] + to_line(row_values(ANSWERED))}
    turned = {"items.jsonl": b"".join(WHOLE.files["items.jsonl"].splitlines(True)[::-1])}
    assert in_any_order(twice) != in_any_order(WHOLE.files)
    assert in_any_order({"items.jsonl": to_line(row_values(ANSWERED))}) != in_any_order(WHOLE.files)
    assert in_any_order(turned) == in_any_order(WHOLE.files)


@pytest.mark.parametrize("seed", range(5))
def test_what_was_written_last_is_cut_short_and_only_that(tmp_path, seed):
    items, redraw = tmp_path / "items.jsonl", tmp_path / "images" / "a.png"
    redraw.parent.mkdir()
    redraw.write_bytes(b"picture")
    items.write_bytes(WHOLE.files["items.jsonl"])
    os.utime(redraw, ns=(0, 0))
    tear(tmp_path, random.Random(seed))
    assert redraw.read_bytes() == b"picture"
    assert items.stat().st_size < len(WHOLE.files["items.jsonl"])
    assert read_rows(items) == [ANSWERED]
    os.utime(items, ns=(0, 0))
    redraw.write_bytes(b"picture")
    tear(tmp_path, random.Random(seed))
    assert len(redraw.read_bytes()) < len(b"picture")
    assert read_rows(items) == [ANSWERED]
