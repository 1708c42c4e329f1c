"""Two runs of one benchmark, compared item by item."""

import json
from pathlib import Path

import pytest
from forty_items import ITEMS, SCORES, row_of, run_forty, settings

from uae.benchmarks.results.compare import compare, comparison_text, comparison_values
from uae.benchmarks.results.run import BenchRun
from uae.benchmarks.results.scores import Score
from uae.core.errors import UsageError
from uae.report.statistics import paired_difference
from uae.runs.rows import ItemRow


def run_rows(folder: Path, rows: list[ItemRow], **changes) -> Path:
    with BenchRun.open(folder, settings(**changes)) as run:
        by_item = {row.item: row for row in rows}
        for item in run.todo(by_item, str):
            run.add(by_item[item])
        run.finish([Score(name="overall", sample="right")])
    return folder


def right(**values: float | int) -> list[ItemRow]:
    return [ItemRow(item=item, samples={"right": value}) for item, value in values.items()]


def test_runs_of_two_models(tmp_path: Path):
    run_forty(tmp_path / "a", model="a")
    run_forty(tmp_path / "b", model="b")
    found = compare(tmp_path / "a", tmp_path / "b")
    assert [x.score for x in found.scores] == SCORES
    assert found.num_items == 40
    assert found.settings == ("model.name: a in the run, b now",)
    sides = [
        [row.samples["right"] for item in ITEMS if (row := row_of(item, model)).samples]
        for model in "ab"
    ]
    overall = found.scores[0]
    expected = paired_difference(*sides)
    assert overall.difference.value == pytest.approx(expected.value)
    assert overall.difference.num_excluded == 6
    assert overall.difference.low <= expected.low  # three items share a cluster
    assert overall.after.value - overall.before.value == pytest.approx(expected.value)
    moves = found.moves["right"]
    ups = sum(y > x for x, y in zip(*sides, strict=True))
    downs = sum(y < x for x, y in zip(*sides, strict=True))
    assert (moves.num_up, moves.num_down, moves.num_same) == (ups, downs, 34 - ups - downs)
    json.dumps(comparison_values(found), allow_nan=False)


def test_independent_items_have_the_paired_interval(tmp_path: Path):
    before, after = right(a=0, b=0, c=1, d=1), right(a=1, b=1, c=1, d=0)
    found = compare(run_rows(tmp_path / "1", before), run_rows(tmp_path / "2", after))
    assert found.scores[0].difference == paired_difference([0, 0, 1, 1], [1, 1, 1, 0])
    assert "overall  50.0 % -> 75.0 %  (+25.0 points, 95 % interval" in comparison_text(found)


def test_what_moved_most_comes_first(tmp_path: Path):
    before, after = right(a=0.1, b=0.5, c=0.9, d=0.3, e=0.2), right(a=0.2, b=0.5, c=0.4, d=0.8, e=0)
    found = compare(run_rows(tmp_path / "1", before), run_rows(tmp_path / "2", after), num_moved=3)
    moves = found.moves["right"]
    assert [move.item for move in moves.most] == ["c", "d", "e"]
    assert (moves.most[0].before, moves.most[0].after) == (0.9, 0.4)
    assert (moves.num_up, moves.num_down, moves.num_same) == (2, 2, 1)
    text = comparison_text(found)
    assert "overall  0.400 -> 0.380  (-0.020, 95 % interval" in text
    assert "may be chance" in text
    assert "right: 2 up, 2 down, 1 unchanged\n  item c: 0.9 -> 0.4" in text


def test_a_run_against_itself_has_not_moved(tmp_path: Path):
    run_forty(tmp_path)
    found = compare(tmp_path, tmp_path)
    assert all(x.difference.value == 0 for x in found.scores)
    assert not any(moves.most for moves in found.moves.values())


def test_other_items_are_refused_unless_asked_for(tmp_path: Path):
    first = run_rows(tmp_path / "1", right(a=0, b=1, c=1))
    second = run_rows(tmp_path / "2", right(b=1, c=0, **{f"x{i}": 1 for i in range(7)}))
    with pytest.raises(UsageError) as error:
        compare(first, second)
    assert f"1 (a) only in {first}, 7 (x0, x1, x2, x3, x4, ...) only in {second}" in str(
        error.value
    )
    found = compare(first, second, allow_different_items=True)
    assert found.num_items == 2
    assert found.only_before == ("a",)
    assert len(found.only_after) == 7
    assert found.scores[0].difference.value == -0.5
    assert "only in the first: 1 (a)" in comparison_text(found)


def test_nothing_in_common_is_said(tmp_path: Path):
    first, second = run_rows(tmp_path / "1", right(a=0)), run_rows(tmp_path / "2", right(b=0))
    with pytest.raises(UsageError, match="have no item in common"):
        compare(first, second, allow_different_items=True)


def test_other_data_is_refused_unless_asked_for(tmp_path: Path):
    first = run_rows(tmp_path / "1", right(a=0))
    second = run_rows(tmp_path / "2", right(a=1), data={"items": "xyz"})
    with pytest.raises(UsageError, match=r"different data: data\.items: abc in the run, xyz now"):
        compare(first, second)
    assert compare(first, second, allow_different_items=True).num_items == 1


@pytest.mark.parametrize("change", [{"version": "2"}, {"benchmark": "fifty"}])
def test_other_rules_are_never_compared(tmp_path: Path, change: dict[str, str]):
    first = run_rows(tmp_path / "1", right(a=0))
    second = run_rows(tmp_path / "2", right(a=1), **change)
    with pytest.raises(UsageError, match="only runs of one benchmark and version"):
        compare(first, second, allow_different_items=True)


def test_an_unfinished_run_is_not_compared(tmp_path: Path):
    first = run_rows(tmp_path / "1", right(a=0))
    with pytest.raises(UsageError, match=r"holds no result\.json"):
        compare(first, tmp_path)
