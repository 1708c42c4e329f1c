"""One rule for a torn last line and for a damaged line, whatever journal it stands in."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uae.backends.refused_parameters import REFUSALS, read_refusals
from uae.benchmarks.rewriting import REWRITES, _take_in
from uae.core.errors import UsageError
from uae.core.journal import Journal, read_journal, to_line
from uae.core.metrics_file import METRICS, read_metrics
from uae.data.captions import CaptionsWriter
from uae.data.captions import read_rows as read_captions
from uae.data.given_captions import read_table
from uae.runs.rows import ITEMS, read_rows

ROWS = [{"n": i, "text": f"\u2028 {i}"} for i in range(3)]
WHOLE = b"".join(map(to_line, ROWS))


def row(values: object, where: str) -> dict:
    if not isinstance(values, dict):
        raise UsageError(f"{where}: expected an object")
    return values


@given(st.integers(0, len(WHOLE)))
def test_a_journal_cut_anywhere_is_taken_up_and_ends_as_if_it_had_not_been(tmp_path_factory, size):
    path = tmp_path_factory.mktemp("cut") / "x.jsonl"
    path.write_bytes(WHOLE[:size])
    assert read_journal(path, row) == ROWS[: len(read_journal(path, row))]
    with Journal(path, lock=True) as journal:
        kept = journal.take_up(row)
        for values in ROWS[len(kept) :]:
            journal.append(values)
    assert len(kept) == sum(size >= len(b"".join(map(to_line, ROWS[:n]))) - 1 for n in (1, 2, 3))
    assert path.read_bytes() == WHOLE


def test_a_line_that_is_wrong_is_refused_before_anything_is_changed(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(to_line(ROWS[0]) + b"\n[]\n" + b'{"torn')
    before = path.read_bytes()
    with (
        Journal(path, lock=True) as journal,
        pytest.raises(UsageError, match="line 3: expected an object"),
    ):
        journal.take_up(row)
    assert path.read_bytes() == before


CAPTION = {"image": "a.jpg", "caption": "a"}
JOURNALS = {
    "captions": ("x.jsonl", CAPTION, read_captions),
    "captions of others": ("x.jsonl", CAPTION, read_table),
    "rows": (ITEMS, {"item": "a", "samples": {"right": 1.0}}, read_rows),
    "metrics": (METRICS, {"step": 0, "stage": "s", "session": "s", "wall_s": 0.0}, read_metrics),
    "rewrites": (REWRITES, {"prompt": "a", "rewrite": "b", "is_truncated": False}, _take_in),
    "refusals": (
        REFUSALS,
        {"base_url": "u", "model": "m", "param": "seed"},
        lambda path: read_refusals(path.parent),
    ),
}
TORN = (b'{"image": "b', b"{", b"\xff", b"\0" * 9)


@pytest.mark.parametrize("torn", TORN)
@pytest.mark.parametrize("name", JOURNALS)
def test_every_reader_leaves_a_torn_last_line_out_and_says_so(tmp_path, caplog, name, torn):
    file, values, read = JOURNALS[name]
    path = tmp_path / file
    path.write_bytes(to_line(values) + b"\n" + torn)
    assert len(read(path)) == 1
    assert f"{path}, line 3 was cut short and left out" in caplog.text


@pytest.mark.parametrize("name", JOURNALS)
def test_every_reader_takes_a_whole_last_line_without_its_break(tmp_path, caplog, name):
    file, values, read = JOURNALS[name]
    (tmp_path / file).write_bytes(to_line(values)[:-1])
    assert len(read(tmp_path / file)) == 1
    assert not caplog.records


@pytest.mark.parametrize("damaged", TORN)
@pytest.mark.parametrize("name", JOURNALS)
def test_a_damaged_line_is_named_and_ends_all_but_metrics(tmp_path, caplog, name, damaged):
    file, values, read = JOURNALS[name]
    path = tmp_path / file
    path.write_bytes(damaged + b"\n" + to_line(values))
    if name == "metrics":
        assert len(read(path)) == 1
        assert f"{path}, line 1 is damaged" in caplog.text
    else:
        with pytest.raises(UsageError, match=r"jsonl, line 1: not JSON"):
            read(path)


def test_a_name_that_is_no_unicode_survives(tmp_path: Path):
    with CaptionsWriter(tmp_path / "x.jsonl") as writer:
        writer._journal.append(CAPTION | {"image": "a\udcff.jpg"})
    assert [x.image for x in read_captions(tmp_path / "x.jsonl")] == ["a\udcff.jpg"]
    assert json.loads((tmp_path / "x.jsonl").read_bytes())["image"] == "a\udcff.jpg"
