"""What a benchmark run refuses, and how it says so."""

from pathlib import Path

import pytest
from forty_items import ITEMS, SCORES, run_forty, settings

from uae.benchmarks.results.folder import SETTINGS
from uae.benchmarks.results.result import read_result
from uae.benchmarks.results.run import BenchRun
from uae.core.errors import EnvironmentFault, NonFinite, UsageError
from uae.core.provenance import BenchSettings
from uae.runs.rows import ITEMS as ITEMS_FILE
from uae.runs.rows import ItemRow


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (settings("other"), r"model\.name: m in the run, other now"),
        (settings(version="2"), "version: 1 in the run, 2 now"),
        (settings(data={"items": "abd"}), r"data\.items: abc in the run, abd now"),
        (settings(options={"limit": 3}), r"options\.limit: absent in the run, 3 now"),
    ],
)
def test_another_run_is_refused(tmp_path: Path, changed: BenchSettings, message: str):
    run_forty(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match=message):
        BenchRun.open(tmp_path, changed)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_two_writers_are_refused(tmp_path: Path):
    with (
        BenchRun.open(tmp_path, settings()),
        pytest.raises(UsageError, match=r"in use by another run \(process"),
    ):
        BenchRun.open(tmp_path, settings())
    with BenchRun.open(tmp_path, settings()):
        pass


def test_resume_says_what_must_be_there(tmp_path: Path):
    with pytest.raises(UsageError, match="holds no benchmark run to resume"):
        run_forty(tmp_path / "new", resume="must")
    assert not (tmp_path / "new").exists()
    run_forty(tmp_path / "new", resume="never")
    with pytest.raises(UsageError, match="holds a benchmark run"):
        run_forty(tmp_path / "new", resume="never")


@pytest.mark.parametrize("name", ["photo.jpg", "run.json", SETTINGS])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, name: str):
    (tmp_path / name).write_text('{"num_scenes": 1}')
    with pytest.raises(UsageError, match="is not empty and holds no benchmark run"):
        run_forty(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "f").write_text("")
    with pytest.raises(UsageError, match="is a file: expected a folder"):
        run_forty(tmp_path / "f")


def test_an_interrupted_beginning_is_taken_up(tmp_path: Path):
    (tmp_path / "lock").write_text("")
    (tmp_path / f".{SETTINGS}.tmp").write_text("{")
    result = run_forty(tmp_path)
    assert result == read_result(tmp_path)
    assert result.num_items == 40


def test_a_folder_that_may_not_be_written_is_said(tmp_path: Path):
    with pytest.raises(EnvironmentFault, match="cannot write the run folder"):
        run_forty(Path("/proc/nothing"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no JSON", "line 1: not JSON"),
        ("[1]", "line 1: expected an object"),
        ('{"samples": {}}', "line 1: expected an object with the item's name"),
        ('{"item": 3}', "line 1: key 'item' is 3: expected text"),
        ('{"item": "1", "colour": 1}', "line 1: key 'colour' is unknown"),
        ('{"item": "1", "samples": {"right": "yes"}}', "key 'samples' is .*object of numbers"),
        ('{"item": "1", "samples": {"right": true}}', "key 'samples' is .*object of numbers"),
        ('{"item": "1", "labels": {"kind": 1}}', "key 'labels' is .*object of texts"),
        ('{"item": "1"}\n{"item": "1"}', "item '1' has two rows"),
    ],
)
def test_a_damaged_row_is_named(tmp_path: Path, line: str, message: str):
    run_forty(tmp_path)
    data = (tmp_path / ITEMS_FILE).read_text()
    (tmp_path / ITEMS_FILE).write_text(f"{line}\n{data}")
    with pytest.raises(UsageError, match=message):
        run_forty(tmp_path)
    run_forty(tmp_path.with_name("again"))  # the lock was given back


def test_items_that_are_not_asked_are_told(tmp_path: Path):
    run_forty(tmp_path)
    with pytest.raises(UsageError, match=r"rows of 37 items that are not asked, '10' first"):
        run_forty(tmp_path, items=["0", "1", "2"])
    with pytest.raises(UsageError, match="item '1' comes twice"):
        run_forty(tmp_path, items=["0", "1", "1"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_sample_is_a_number(tmp_path: Path, value: float):
    with BenchRun.open(tmp_path, settings()) as run:
        with pytest.raises(NonFinite, match="item a: sample 'right'"):
            run.add(ItemRow(item="a", samples={"right": value}))
        assert not run.rows
    assert (tmp_path / ITEMS_FILE).read_bytes() == b""


def test_nothing_is_finished_by_halves(tmp_path: Path):
    with BenchRun.open(tmp_path, settings()) as run:
        with pytest.raises(AssertionError, match="after all of todo"):
            run.finish(SCORES)
        next(run.todo(ITEMS, str))
        with pytest.raises(AssertionError, match="after all of todo"):
            run.finish(SCORES)
        assert list(run.todo(ITEMS, str)) == ITEMS
        with pytest.raises(AssertionError, match="40 items got no row"):
            run.finish(SCORES)
