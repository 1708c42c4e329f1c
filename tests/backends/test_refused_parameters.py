"""What an address refused stands in the run's folder, and in its result whenever it matters."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from uae.backends.client import Refusal
from uae.backends.refused_parameters import REFUSALS, gather_refusals, keeper, read_refusals
from uae.benchmarks.results.page import write_page
from uae.benchmarks.results.result import read_result
from uae.benchmarks.results.run import BenchRun
from uae.benchmarks.results.scores import Score
from uae.core.errors import EnvironmentFault, UsageError
from uae.core.provenance import BenchSettings, ModelStamp
from uae.runs.rows import ItemRow

SEED = Refusal("gpt", "http://localhost/v1", "seed")
HEAT = Refusal("gpt", "http://localhost/v1", "temperature")
LIMIT = Refusal("gpt", "http://localhost/v1", "max_tokens")
MARK = "NOT REPEATABLE: gpt at http://localhost/v1 refuses "


def open_run(folder: Path, version: str = "1") -> BenchRun:
    stamp = ModelStamp(name="m", dtype="none", backend="none")
    return BenchRun.open(folder, BenchSettings(benchmark="x", version=version, model=stamp))


def finish(run: BenchRun) -> None:
    for item in run.todo(["a", "b"], str):
        run.add(ItemRow(item=item, samples={"right": 1.0}))
    run.finish([Score(name="overall", sample="right")])


def as_rank(monkeypatch, rank: int) -> None:
    for name, value in (("WORLD_SIZE", 2), ("RANK", rank), ("LOCAL_RANK", rank)):
        monkeypatch.setenv(name, str(value))


def test_a_result_and_its_page_say_what_changes_the_numbers(tmp_path):
    with open_run(tmp_path) as run:
        for refusal in (HEAT, SEED, LIMIT, SEED):
            keeper(tmp_path)(refusal)
        finish(run)
    result = read_result(tmp_path)
    assert result.refused == (LIMIT, SEED, HEAT)
    values = json.loads((tmp_path / "result.json").read_text())
    assert values["refused"] == [asdict(x) for x in (LIMIT, SEED, HEAT)]
    marks = (
        f"{MARK}seed, and what it draws is another each time",
        f"{MARK}temperature, and its answers are drawn at random",
    )
    assert result.marks == tuple(values["marks"]) == marks
    head = write_page(tmp_path).read_text().partition("</header>")[0]
    assert all(f'<p class="callout">{mark}</p>' in head for mark in marks)


def test_nothing_is_written_where_nothing_is_refused(tmp_path):
    with open_run(tmp_path) as run:
        finish(run)
    assert not (tmp_path / REFUSALS).exists()
    assert read_result(tmp_path).refused == read_result(tmp_path).marks == ()


def test_a_run_that_was_stopped_remembers(tmp_path):
    with open_run(tmp_path) as run:
        keeper(tmp_path)(HEAT)
        run.add(ItemRow(item="a", samples={"right": 0.0}))
    with open_run(tmp_path) as run:
        finish(run)
    assert read_result(tmp_path).refused == (HEAT,)


def test_a_folder_that_becomes_another_run_forgets(tmp_path):
    with open_run(tmp_path):
        keeper(tmp_path)(HEAT)
    with open_run(tmp_path, version="2") as run:
        finish(run)
    assert read_result(tmp_path).refused == ()


def test_ranks_keep_their_own_and_the_first_gathers(tmp_path, monkeypatch):
    keeper(tmp_path)(HEAT)
    as_rank(monkeypatch, 1)
    for refusal in (HEAT, SEED):
        keeper(tmp_path)(refusal)
    as_rank(monkeypatch, 0)
    assert len(list(tmp_path.iterdir())) == 2
    assert read_refusals(tmp_path) == gather_refusals(tmp_path) == (SEED, HEAT)
    assert [path.name for path in tmp_path.iterdir()] == [REFUSALS]
    assert read_refusals(tmp_path) == (SEED, HEAT)


@pytest.mark.parametrize("line", ["{", '{"model": "gpt"}', "3"])
def test_a_damaged_file_is_named(tmp_path, line):
    (tmp_path / REFUSALS).write_text(line + "\n")
    with pytest.raises(UsageError, match=r"refused\.jsonl is damaged \(.*take it away"):
        read_refusals(tmp_path)


def test_a_folder_that_is_gone_is_a_fault_of_the_machine(tmp_path):
    with pytest.raises(EnvironmentFault, match=r"refused\.jsonl: No such file"):
        keeper(tmp_path / "gone")(SEED)
