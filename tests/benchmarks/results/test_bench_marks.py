"""A run that is less than its benchmark says so in result, page and comparison."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from uae.benchmarks.results.compare import compare, comparison_text, comparison_values
from uae.benchmarks.results.notes import gaps_option, marks_of, part_option
from uae.benchmarks.results.page import write_comparison, write_page
from uae.benchmarks.results.result import BenchResult, exclusions, read_result
from uae.benchmarks.results.run import BenchRun
from uae.benchmarks.results.scores import Score
from uae.core.provenance import BenchSettings, ModelStamp
from uae.runs.rows import ItemRow

MISSING = "INCOMPLETE, no score of the benchmark: 1 missing images: <b>"
PART = "PART of the benchmark: 3 of 3,127 prompts"


def finished(folder: Path, **options) -> Path:
    stamp = ModelStamp(name="m", dtype="none", backend="none")
    settings = BenchSettings(benchmark="x", version="1", model=stamp, options=options)
    with BenchRun.open(folder, settings) as run:
        for item in run.todo(["a"], str):
            run.add(ItemRow(item=item, samples={"right": 1.0}))
        run.finish([Score(name="overall", sample="right")])
    return folder


def incomplete(folder: Path, missing: str = "<b>") -> Path:
    gaps = gaps_option({"missing images": [missing], "unreadable images": []})
    return finished(folder, is_complete=False, **gaps)


def test_a_whole_run_has_no_mark(tmp_path):
    run = finished(tmp_path / "run", is_complete=True, **part_option(800, 800, "prompts"))
    assert read_result(run).marks == ()
    assert json.loads((run / "result.json").read_text())["marks"] == []
    assert 'class="callout"' not in write_page(run).read_text()
    found = compare(run, run)
    assert "first: " not in comparison_text(found)
    assert gaps_option({"missing images": []}) == {}


def test_result_and_page_say_what_is_missing(tmp_path):
    run = incomplete(tmp_path / "run")
    assert read_result(run).marks == (MISSING,)
    assert json.loads((run / "result.json").read_text())["marks"] == [MISSING]
    head = write_page(run).read_text().partition("</header>")[0]
    assert f'<p class="callout">{MISSING[:-3]}&lt;b&gt;</p>' in head


@given(st.lists(st.sampled_from(["", "no reply", "refused"]), min_size=1, max_size=30))
@example(["", "no reply", "refused", "no reply"])
def test_items_that_are_left_out_are_counted_by_reason_in_a_mark(reasons):
    rows = [
        ItemRow(item=f"{i:02}", excluded=reason, samples={} if reason else {"right": 1.0})
        for i, reason in enumerate(reasons)
    ]
    result = BenchResult(
        settings={}, num_items=len(rows), scores=(), excluded=exclusions(rows), environment={}
    )
    counts = {reason: reasons.count(reason) for reason in ("no reply", "refused")}
    said = ", ".join(f"{num} {reason}" for reason, num in counts.items() if num)
    num, total = sum(counts.values()), len(rows)
    mark = f"LEFT OUT: {num} of {total} items count in no score: {said}"
    assert result.marks == ((mark,) if num else ())


def test_a_run_whose_items_lack_parts_says_which(tmp_path):
    stamp = ModelStamp(name="m", dtype="none", backend="none")
    with BenchRun.open(tmp_path, BenchSettings(benchmark="x", version="1", model=stamp)) as run:
        for item in run.todo(["a", "b"], str):
            failed = {"ask-8": "timed out"} | ({"ask-16": "timed out"} if item == "b" else {})
            run.add(ItemRow(item=item, samples={"right": 1.0}, failed=failed))
        run.finish([Score(name="overall", sample="right")])
    assert read_result(tmp_path).marks == ("PARTS FAILED, items by part: 1 ask-16, 2 ask-8",)
    assert 'class="callout">PARTS FAILED' in write_page(tmp_path).read_text()


def test_a_comparison_marks_each_side(tmp_path):
    first = incomplete(tmp_path / "before")
    second = finished(tmp_path / "after", **part_option(3, 3127, "prompts"))
    found = compare(first, second)
    lines = comparison_text(found).splitlines()
    assert lines[1:3] == [f"first: {MISSING}", f"second: {PART}"]
    assert comparison_values(found)["marks"] == {"first": [MISSING], "second": [PART]}
    write_comparison(tmp_path / "page.html", first, second, found)
    head = (tmp_path / "page.html").read_text().partition("</header>")[0]
    assert "<b>before</b> INCOMPLETE" in head
    assert f"<b>after</b> {PART}" in head


def test_two_runs_that_lack_the_same_are_marked_though_nothing_differs(tmp_path):
    found = compare(incomplete(tmp_path / "1"), incomplete(tmp_path / "2"))
    assert found.settings == ()
    assert comparison_text(found).count("INCOMPLETE") == 2


def test_a_run_that_names_no_gaps_is_marked_all_the_same():
    mark = "INCOMPLETE, no score of the benchmark: not every prompt has an image"
    assert marks_of({"options": {"is_complete": False}}) == (mark,)
    assert marks_of({}) == ()


@given(st.integers(1, 60))
@example(21)
def test_the_count_is_that_of_all_names_however_many_are_kept(num):
    names = [f"{i}.png" for i in range(num)]
    gap = gaps_option({"missing images": names})["gaps"]["missing images"]
    assert gap["num"] == num
    assert gap["first"] == names[:20]
    [mark] = marks_of({"options": gaps_option({"missing images": names})})
    assert f" {num} missing images: 0.png" in mark
    assert mark.endswith(f", and {num - 5} more") or num <= 5


@pytest.mark.parametrize(("num", "is_part"), [(1, True), (552, True), (553, False), (554, False)])
def test_a_part_is_fewer_than_were_published(num, is_part):
    assert bool(part_option(num, 553, "prompts")) is is_part
