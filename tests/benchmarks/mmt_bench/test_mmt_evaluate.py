"""MMT-Bench from file to result, with a model that needs no weights."""

import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from thirty_questions import BLUE, RED, STAMP, SUBTASKS, Words, evaluate, rows, write

from uae.benchmarks.answers import RULES, extract_answer
from uae.benchmarks.mmt_bench import task as task_module
from uae.benchmarks.mmt_bench.benchmark import MmtOptions
from uae.benchmarks.mmt_bench.evaluate import ask, plan_of
from uae.benchmarks.mmt_bench.prompt import compact_text, prompt_text
from uae.benchmarks.mmt_bench.task import MmtTask
from uae.benchmarks.results.compare import compare
from uae.benchmarks.results.result import RESULT
from uae.benchmarks.run import run_plan
from uae.core.errors import UsageError
from uae.core.provenance import ModelStamp
from uae.core.ranks import Ranks
from uae.data.questions import Question, QuestionRow
from uae.runs.rows import ITEMS, read_rows


@pytest.fixture(scope="module")
def tsv(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "q.tsv", rows())


def with_cell(row: QuestionRow, image: str) -> QuestionRow:
    return QuestionRow(row.index, row.question, image, row.split)


# -- the prompt ---------------------------------------------------------------------------------


def test_the_prompt_is_vlmevalkits():
    question = Question("What is it?", ("bar", "", "cross"), "C", "c", "l", hint="Look.")
    assert prompt_text(question) == (
        "Hint: Look.\nQuestion: What is it?\nOptions:\nA. bar\nC. cross\n"
        "Please select the correct answer from the options above. \n"
    )
    assert prompt_text(Question("What?", ("x", "y"), "A", "c", "l")).startswith("Question: What?\n")


def test_the_compact_prompt_is_what_uae_tiny_was_trained_on():
    q = Question("What is it?", ("bar", "cross"), "B", "c", "l", hint="Look.")
    assert compact_text(q) == (
        "Hint: Look.\nWhat is it?\nA. bar\nB. cross\nAnswer with one letter."
    )


# -- one run ------------------------------------------------------------------------------------


def test_every_question_is_asked_and_scored(tsv: Path, tmp_path: Path):
    model, shown = Words(), []
    result = evaluate(model, tsv, tmp_path, STAMP, show=lambda *done: shown.append(done))
    questions = rows()
    assert model.asked == [prompt_text(row.question) for row in questions]
    assert model.sizes[0] == [(4, 4), (6, 4)]
    assert model.sizes[1] == [(4, 4)]
    assert shown == [(i, 30) for i in range(31)]
    letters = [
        extract_answer(Words().answer([], prompt_text(row.question)), row.question.options)
        for row in questions
    ]
    right = sum(x == row.question.answer for x, row in zip(letters, questions, strict=True))
    overall = result.by_name("answer/VAL/overall")
    assert (overall.value, overall.n) == (pytest.approx(right / 30), 30)
    parsed = result.by_name("parsed/VAL/overall")
    assert parsed.value == pytest.approx(sum(x is not None for x in letters) / 30)
    assert 0 < parsed.value < 1
    assert result.settings["version"] == RULES
    assert set(result.settings["data"]) == {"tsv"}
    row = {row.item: row for row in read_rows(tmp_path / ITEMS)}["7"]
    assert row.labels["subtask"] in SUBTASKS
    assert row.details["answer"] == questions[7].question.answer
    assert len(row.details["log_probs"]) == len(questions[7].question.options)


def test_ten_stops_change_nothing(tsv: Path, tmp_path: Path):
    evaluate(Words(failing=[4]), tsv, tmp_path / "whole", STAMP)
    stops = random.Random(1).sample(range(30), 10)

    class Stopped(Words):
        def answer(self, images: Sequence[Image.Image], question: str) -> str:
            index = int(question.partition("picture ")[2].partition("?")[0])
            if index in stops:
                stops.remove(index)
                raise KeyboardInterrupt
            return super().answer(images, question)

    num_runs = 0
    while not (tmp_path / "parts" / RESULT).exists():
        num_runs += 1
        try:
            evaluate(Stopped(failing=[4]), tsv, tmp_path / "parts", STAMP)
        except KeyboardInterrupt:
            with (tmp_path / "parts" / ITEMS).open("ab") as file:
                file.write(b'{"item": "2')
    assert num_runs == 11
    whole, parts = (tmp_path / name / RESULT for name in ("whole", "parts"))
    assert parts.read_bytes() == whole.read_bytes()


def test_the_limit_asks_the_first_rows(tsv: Path, tmp_path: Path):
    model = Words()
    result = evaluate(model, tsv, tmp_path, STAMP, MmtOptions(limit=7))
    assert result.num_items == len(model.asked) == 7
    with pytest.raises(UsageError, match=r"options\.limit: 7 in the run, None now"):
        evaluate(model, tsv, tmp_path, STAMP)


def test_the_prompt_of_uae_tiny_may_be_asked_for(tsv: Path, tmp_path: Path):
    model = Words()
    result = evaluate(model, tsv, tmp_path, STAMP, MmtOptions(prompt="compact", limit=2))
    assert model.asked == [compact_text(row.question) for row in rows(2)]
    assert result.settings["options"]["prompt"] == "compact"
    with pytest.raises(UsageError, match=r"options\.prompt: compact in the run, vlmevalkit now"):
        evaluate(model, tsv, tmp_path, STAMP, MmtOptions(limit=2))


def test_the_likelihood_may_be_left_out(tsv: Path, tmp_path: Path):
    class Silent(Words):
        def option_log_probs(
            self, images: Sequence[Image.Image], question: str, letters: Sequence[str]
        ) -> list[float]:
            raise AssertionError

    result = evaluate(Silent(), tsv, tmp_path, STAMP, MmtOptions(likelihood=False))
    assert not [x for x in result.scores if x.score.sample == "likelihood"]
    assert result.by_name("answer/VAL/overall").n == 30


# -- what fails ---------------------------------------------------------------------------------


def test_what_fails_is_left_out_and_named(tmp_path: Path):
    questions = rows()
    for index, cell in ((2, "no base64!"), (5, f"['{RED}', 'AAAA']"), (9, ""), (11, "AAAA")):
        questions[index] = with_cell(questions[index], cell)
    tsv = write(tmp_path / "q.tsv", questions)
    config = MmtOptions(allow_missing=True)
    result = evaluate(Words(failing=[20]), tsv, tmp_path / "run", STAMP, config)
    assert {x: list(of) for x, of in result.excluded.items()} == {
        "image: damaged": ["2"],
        "image: empty file": ["9"],
        "image: not an image": ["11", "5"],
        "model: no answer": ["20"],
    }
    assert "no base64" in next(iter(result.excluded.values()))["2"]
    assert result.by_name("answer/VAL/overall").n == 25
    assert result.by_name("answer/VAL/overall").num_excluded == 5
    subtask = result.by_name("answer/VAL/subtask/localization/small_object_detection")
    assert (subtask.n, subtask.num_excluded) == (6, 4)
    again = evaluate(Words(), tsv, tmp_path / "run", STAMP, config, retry_failed=True)
    assert again.by_name("answer/VAL/overall").n == 26
    assert again.num_excluded == 4


def test_images_that_do_not_decode_are_refused_unless_allowed_and_then_marked(tmp_path: Path):
    questions = rows(8)
    questions[2] = with_cell(questions[2], "no base64!")
    questions[5] = with_cell(questions[5], f"['{RED}', 'AAAA']")
    tsv = write(tmp_path / "q.tsv", questions)
    model = Words()
    said = (
        r"q\.tsv: not all of 8 questions can be asked:\n  2 questions without a readable image: "
        r"index 2: damaged: .* no base64: it holds .*, index 5: not an image: .*\n"
        r"Repair .* --allow-missing"
    )
    with pytest.raises(UsageError, match=said):
        evaluate(model, tsv, tmp_path / "run")
    assert not model.asked
    assert not (tmp_path / "run").exists()
    first = evaluate(model, tsv, tmp_path / "first", config=MmtOptions(limit=2))
    assert "gaps" not in first.settings["options"], "what is not asked is not missed"
    result = evaluate(model, tsv, tmp_path / "run", config=MmtOptions(allow_missing=True))
    assert len(model.asked) == 2 + 6
    assert result.marks[0] == (
        "INCOMPLETE, no score of the benchmark: 2 questions without a readable image: 2, 5"
    )


def test_all_wrong_rows_are_named_in_one_error(tmp_path: Path):
    questions = [
        replace(row, question=replace(row.question, answer="")) if row.index % 7 == 1 else row
        for row in rows()
    ]
    tsv = write(tmp_path / "q.tsv", questions)
    with pytest.raises(UsageError) as caught:
        MmtTask.read(tsv)
    first, *lines = str(caught.value).split("\n")
    assert first == f"{tsv}: 5 rows are wrong:"
    assert [line.split(", expected")[0] for line in lines] == [
        f"  line {i}, column 'answer': '' found" for i in (3, 10, 17, 24, 31)
    ]
    with pytest.raises(UsageError, match="3 rows are wrong"):
        MmtTask.read(tsv, MmtOptions(limit=21))
    with pytest.raises(UsageError, match=r"q\.tsv, line 3, column 'answer': '' found, expected"):
        MmtTask.read(tsv, MmtOptions(limit=8))
    assert len(MmtTask.read(tsv, MmtOptions(hidden_answers=True)).items) == 30


def test_the_first_twenty_wrong_rows_are_named_and_the_others_counted(tmp_path: Path):
    questions = [replace(row, split="") for row in rows(25)]
    with pytest.raises(UsageError, match="25 rows are wrong") as caught:
        MmtTask.read(write(tmp_path / "q.tsv", questions))
    assert str(caught.value).count("column 'split'") == 20
    assert str(caught.value).endswith("\n  ... and 5 more")


def test_each_process_decodes_a_share_and_all_know_the_faults(tmp_path: Path, monkeypatch):
    questions = [with_cell(row, "AAAA") if row.index % 3 else row for row in rows(9)]
    tsv, shares = write(tmp_path / "q.tsv", questions), []
    monkeypatch.setattr(task_module, "gathered", lambda faults: shares.append(faults) or shares)
    for rank in (1, 0):
        monkeypatch.setattr(task_module, "current", lambda rank=rank: Ranks(rank, 2, rank))
        task = MmtTask.read(tsv, MmtOptions(allow_missing=True))
    assert [list(share) for share in shares] == [["1", "5", "7"], ["2", "4", "8"]]
    assert list(task.faults) == ["1", "2", "4", "5", "7", "8"]


def test_a_complete_file_has_the_same_settings_with_and_without_the_permission(tsv: Path):
    settings = [
        MmtTask.read(tsv, MmtOptions(allow_missing=allowed)).settings(STAMP)
        for allowed in (False, True)
    ]
    assert settings[0] == settings[1]
    assert set(settings[0].options) == {"prompt", "limit", "likelihood", "hidden_answers", "part"}


def test_a_model_is_loaded_once_and_only_where_a_question_is_left(tsv: Path, tmp_path: Path):
    loaded: list[Words] = []

    def load() -> Words:
        loaded.append(Words())
        return loaded[-1]

    task = MmtTask.read(tsv, MmtOptions(limit=3))
    run_plan(plan_of(load, task, tmp_path, STAMP), tmp_path)
    assert len(loaded) == 1
    run_plan(plan_of(load, task, tmp_path, STAMP), tmp_path)
    with pytest.raises(UsageError, match=r"model\.name: words in the run, other now"):
        run_plan(plan_of(load, task, tmp_path, replace(STAMP, name="other")), tmp_path)
    assert len(loaded) == 1


def test_a_fault_in_the_file_is_found_before_the_first_question(tmp_path: Path):
    questions = rows()
    q = questions[29].question
    last = Question(q.question, q.options, "", q.category, q.l2_category)
    questions[29] = QuestionRow(29, last, RED, "VAL")
    tsv = write(tmp_path / "q.tsv", questions)
    model = Words()
    with pytest.raises(UsageError, match=r"q\.tsv, line 31, column 'answer': '' found"):
        evaluate(model, tsv, tmp_path / "run", STAMP)
    assert not model.asked
    assert not (tmp_path / "run").exists()


def test_hidden_answers_are_asked_and_not_scored(tmp_path: Path):
    hidden = [
        QuestionRow(
            100 + row.index,
            Question(row.question.question, ("x", "y"), "", row.question.category, "ocr"),
            BLUE,
            "TEST",
        )
        for row in rows(3)
    ]
    tsv = write(tmp_path / "q.tsv", [*rows(6), *hidden])
    config = MmtOptions(hidden_answers=True)
    result = evaluate(Words(), tsv, tmp_path / "run", STAMP, config)
    assert [(x, sorted(of)) for x, of in result.excluded.items()] == [
        ("the file holds no answer", ["100", "101", "102"])
    ]
    assert {x.score.where.get("split") for x in result.scores} == {"VAL"}
    assert result.by_name("answer/VAL/overall").n == 6
    replies = {row.item: row.details["reply"] for row in read_rows(tmp_path / "run" / ITEMS)}
    assert replies["100"]


@pytest.mark.parametrize("name", ["empty.tsv", "none.tsv"])
def test_a_file_without_questions_is_refused(tmp_path: Path, name: str):
    write(tmp_path / "empty.tsv", [])
    with pytest.raises(UsageError, match=r"has no rows|cannot be read"):
        evaluate(Words(), tmp_path / name, tmp_path / "run", STAMP)


def test_another_file_is_another_run(tsv: Path, tmp_path: Path):
    evaluate(Words(), tsv, tmp_path / "run", STAMP)
    other = write(tmp_path / "q.tsv", rows()[:29])
    with pytest.raises(UsageError, match=r"data\.tsv: \w{64} in the run"):
        evaluate(Words(), other, tmp_path / "run", STAMP)


# -- the second number --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log_probs", "letter"),
    [
        ([-3.0, -1.0, -2.0], "B"),
        ([-1.0, -1.0, -2.0], "A"),  # the first of equal ones
        ([-math.inf, -9.0, -math.inf], "B"),
        ([-math.inf] * 3, None),
        ([-1.0, math.nan, -2.0], None),
    ],
)
def test_the_likeliest_letter(log_probs: list[float], letter: str | None, tmp_path: Path):
    class Told(Words):
        def option_log_probs(
            self, images: Sequence[Image.Image], question: str, letters: Sequence[str]
        ) -> list[float]:
            assert list(letters) == ["A", "B", "D"]
            return log_probs

    question = Question("?", ("a", "b", "", "d"), "B", "c", "l")
    row = ask(Told(), QuestionRow(0, question, RED, "VAL"), MmtOptions(), tmp_path)
    expected = {"A": "A", "B": "B", None: None}[letter]
    assert row.details["likeliest"] == expected
    if letter is None:
        assert "likelihood" not in row.samples
    else:
        assert row.samples["likelihood"] == float(letter == "B")
    json.dumps(row.details, allow_nan=False)


def test_two_models_are_compared(tsv: Path, tmp_path: Path):
    class AlwaysA(Words):
        def answer(self, images: Sequence[Image.Image], question: str) -> str:
            return "A"

    evaluate(Words(), tsv, tmp_path / "a", STAMP)
    stamp = ModelStamp(name="A", dtype="none", backend="none")
    evaluate(AlwaysA(), tsv, tmp_path / "b", stamp)
    found = compare(tmp_path / "a", tmp_path / "b")
    by_name = {x.score.name: x for x in found.scores}
    assert by_name["likelihood/VAL/overall"].difference.value == 0
    assert by_name["parsed/VAL/overall"].after.value == 1
    meta = by_name["answer/VAL/meta-task/visual_recognition"]
    assert meta.difference.value == pytest.approx(meta.after.value - meta.before.value)
