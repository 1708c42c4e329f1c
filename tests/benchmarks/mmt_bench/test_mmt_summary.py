"""The summary, by hand, and the export."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from thirty_questions import STAMP, Words, evaluate, rows, write

from uae.benchmarks.mmt_bench.benchmark import MmtOptions
from uae.benchmarks.mmt_bench.export import export_predictions
from uae.benchmarks.mmt_bench.prompt import prompt_text
from uae.benchmarks.mmt_bench.summary import ABBREVIATIONS, mmt_scores, summary_text
from uae.benchmarks.mmt_bench.task import MmtTask
from uae.benchmarks.results.notes import marks_of
from uae.benchmarks.results.result import BenchResult, exclusions, read_result, score_rows
from uae.core.errors import UsageError
from uae.report.statistics import mean_of, proportion
from uae.runs.rows import ITEMS, ItemRow, read_rows


def item(name: int, split: str, meta: str, subtask: str, right: int | None) -> ItemRow:
    labels = {"split": split, "meta_task": meta, "subtask": subtask}
    if right is None:
        return ItemRow(item=str(name), labels=labels, excluded="image: damaged")
    samples = {"answer": right, "parsed": 1, "likelihood": 1 - right}
    return ItemRow(item=str(name), labels=labels, samples=samples)


def summary(*groups: tuple[str, str, str, list[int | None]]) -> BenchResult:
    made = [
        item(100 * i + k, split, meta, subtask, right)
        for i, (split, meta, subtask, results) in enumerate(groups)
        for k, right in enumerate(results)
    ]
    return BenchResult(
        settings={},
        num_items=len(made),
        scores=score_rows(made, mmt_scores(made)),
        excluded=exclusions(made),
        environment={},
    )


BY_HAND = summary(
    ("VAL", "ocr", "font_recognition", [1, 1, 1, 0]),
    ("VAL", "ocr", "handwritten_text", [0, 1]),
    ("VAL", "localization", "small_object_detection", [0, 0, None, 1]),
)


def test_a_subtask_is_a_share_with_wilsons_interval():
    assert BY_HAND.by_name("answer/VAL/subtask/ocr/font_recognition") == proportion(3, 4)
    small = BY_HAND.by_name("answer/VAL/subtask/localization/small_object_detection")
    assert small == proportion(1, 3, num_excluded=1)


def test_a_meta_task_is_the_mean_of_its_subtasks():
    ocr = BY_HAND.by_name("answer/VAL/meta-task/ocr")
    assert ocr == mean_of([proportion(3, 4), proportion(1, 2)])
    assert ocr.value == (0.75 + 0.5) / 2  # not 4 / 6


def test_overall_is_the_share_of_all_questions():
    overall = BY_HAND.by_name("answer/VAL/overall")
    assert overall == proportion(5, 9, num_excluded=1)
    assert BY_HAND.by_name("likelihood/VAL/overall") == proportion(4, 9, num_excluded=1)
    assert BY_HAND.by_name("parsed/VAL/overall") == proportion(9, 9, num_excluded=1)


def test_one_split_has_no_row_of_all():
    assert not [x for x in BY_HAND.scores if "ALL" in x.score.name]


def test_splits_stand_apart_and_together():
    result = summary(
        ("VAL", "ocr", "font_recognition", [1, 1]),
        ("TEST", "ocr", "font_recognition", [0, 0, 1, 0]),
        ("TEST", "emotion", "face", [1]),
    )
    assert result.by_name("answer/VAL/overall") == proportion(2, 2)
    assert result.by_name("answer/TEST/overall") == proportion(2, 5)
    assert result.by_name("answer/ALL/overall") == proportion(4, 7)
    assert result.by_name("answer/TEST/meta-task/ocr") == mean_of([proportion(1, 4)])
    assert result.by_name("answer/ALL/meta-task/ocr") == mean_of([proportion(3, 6)])


def test_a_subtask_name_in_two_meta_tasks_is_two_subtasks():
    result = summary(("VAL", "ocr", "color", [1, 1]), ("VAL", "emotion", "color", [0]))
    assert result.by_name("answer/VAL/subtask/ocr/color").value == 1
    assert result.by_name("answer/VAL/subtask/emotion/color").value == 0


def test_nothing_scored_gives_no_score():
    assert not summary(("VAL", "ocr", "font_recognition", [None, None])).scores


def test_the_table_reads_like_this():
    lines = summary_text(BY_HAND).splitlines()
    assert lines[:3] == [
        "10 questions, 1 left out; 95 % intervals",
        "LEFT OUT: 1 of 10 items count in no score: 1 image: damaged",
        "  image: damaged: 1 (202)",
    ]
    table = [" ".join(line.split()) for line in lines]
    start = table.index(
        "VAL, answer: letter read from the reply; a reply that fits no rule is wrong"
    )
    assert table[start + 1] == "overall 55.6 % 26.7 to 81.1 % n = 9, 1 left out"
    assert table[start + 2].startswith("localization (Loc) 33.3 %")
    assert table[start + 3].startswith("small_object_detection 33.3 % 6.1 to 79.2 % n = 3, 1 left")
    assert table[start + 4].startswith("ocr (OCR) 62.5 %")
    assert table[start + 5].startswith("font_recognition 75.0 %")


def test_fewer_questions_than_published_are_marked(tmp_path: Path):
    tsv = write(tmp_path / "q.tsv", [*rows(4), *(replace(x, index=9) for x in rows(1, "TEST"))])
    evaluate(Words(), tsv, tmp_path / "run", STAMP, MmtOptions(limit=3))
    mark = "PART of the benchmark: 3 of 3,127 questions of VAL"
    result = read_result(tmp_path / "run")
    assert result.marks == (mark,)
    assert summary_text(result).splitlines()[1] == mark
    evaluate(Words(), tsv, tmp_path / "all", STAMP)
    assert read_result(tmp_path / "all").marks == (mark.replace("3 of", "4 of", 1),)
    other = write(tmp_path / "other.tsv", rows(4, "test"))
    evaluate(Words(), other, tmp_path / "other", STAMP)
    assert read_result(tmp_path / "other").marks == ()
    texts = write(tmp_path / "texts.tsv", [replace(x, image="") for x in rows(4)])
    evaluate(Words(), texts, tmp_path / "texts", STAMP, MmtOptions(text_only=True))
    assert read_result(tmp_path / "texts").marks == (), "another benchmark"


@pytest.mark.parametrize(("num_val", "has_mark"), [(3126, True), (3127, False), (0, False)])
def test_the_split_has_3127_questions(tmp_path: Path, num_val: int, has_mark: bool):
    tsv = write(tmp_path / "q.tsv", rows(1))
    task = MmtTask(tsv=tsv, options=MmtOptions(), items=("0",), num_val=num_val)
    assert bool(marks_of(task.settings(STAMP).values())) is has_mark


def test_there_are_32_meta_tasks_with_names_of_their_own():
    assert len(ABBREVIATIONS) == len(set(ABBREVIATIONS.values())) == 32


# -- export -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("mmt")
    questions = rows(12)
    tsv = write(folder / "q.tsv", questions)
    evaluate(Words(failing=[3]), tsv, folder / "run", STAMP, MmtOptions(limit=10))
    return folder / "run", tsv


def test_predictions_have_vlmevalkits_columns(finished: tuple[Path, Path], tmp_path: Path):
    folder, tsv = finished
    assert export_predictions(folder, tsv, tmp_path / "words_MMT-Bench_VAL.tsv") == 1
    with (tmp_path / "words_MMT-Bench_VAL.tsv").open(newline="") as file:
        written = list(csv.DictReader(file, dialect="excel-tab"))
    assert list(written[0]) == [
        *("index", "question", "hint", "A", "B", "C", "D"),
        *("answer", "category", "l2-category", "split", "prediction"),
    ]
    replies = {row.item: row.details.get("reply") for row in read_rows(folder / ITEMS)}
    assert len(written) == 10
    for row, question in zip(written, rows(12), strict=False):
        assert row["question"] == question.question.question
        reply = replies[row["index"]]
        assert row["prediction"] == (reply or "Failed to obtain answer via API.")


def test_samples_are_lmms_evals_of_the_questions_with_a_reply(finished, tmp_path: Path):
    folder, tsv = finished
    assert export_predictions(folder, tsv, tmp_path / "samples.jsonl") == 1
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert [sample["doc_id"] for sample in samples] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    by_place = {int(row.item): row for row in read_rows(folder / ITEMS)}
    for sample in samples:
        row, question = by_place[sample["doc_id"]], rows(12)[sample["doc_id"]].question
        assert sample["filtered_resps"] == [row.details["reply"]]
        assert sample["input"] == prompt_text(question)
        right = float(row.details["letter"] == question.answer)
        assert sample["accuracy"] == {"overall": right, question.l2_category: right}
        assert (sample["target"], sample["submission"]) == (question.answer, {})


def test_samples_of_hidden_answers_hold_what_is_submitted(tmp_path: Path):
    hidden = [replace(x, question=replace(x.question, answer="")) for x in rows(3, "TEST")]
    tsv = write(tmp_path / "q.tsv", hidden)
    evaluate(Words(), tsv, tmp_path / "run", STAMP, MmtOptions(hidden_answers=True))
    export_predictions(tmp_path / "run", tsv, tmp_path / "samples.jsonl")
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    letters = [row.details["letter"] for row in read_rows(tmp_path / "run" / ITEMS)]
    assert [x["submission"] for x in samples] == [
        {str(i): letter} if letter else {} for i, letter in enumerate(letters)
    ]
    assert any(letters)
    assert not any("accuracy" in sample for sample in samples)


def test_a_reply_with_tabs_and_lines_comes_back(tmp_path: Path):
    class Odd(Words):
        def answer(self, images, question: str) -> str:
            return 'A\t"so"\nI say'

    tsv = write(tmp_path / "q.tsv", rows(2))
    evaluate(Odd(), tsv, tmp_path / "run", STAMP)
    export_predictions(tmp_path / "run", tsv, tmp_path / "out.tsv")
    with (tmp_path / "out.tsv").open(newline="") as file:
        written = list(csv.DictReader(file, dialect="excel-tab"))
    assert [row["prediction"] for row in written] == ['A\t"so"\nI say'] * 2


def test_a_wrong_export_is_refused(finished: tuple[Path, Path], tmp_path: Path):
    folder, tsv = finished
    with pytest.raises(UsageError, match=r"expected a name that ends in \.tsv, \.xlsx, \.jsonl"):
        export_predictions(folder, tsv, tmp_path / "out.csv")
    with pytest.raises(UsageError, match="on another file"):
        export_predictions(folder, write(tmp_path / "q.tsv", rows(3)), tmp_path / "out.tsv")
    with pytest.raises(UsageError, match="holds no result"):
        export_predictions(tmp_path, tsv, tmp_path / "out.tsv")
