"""Text skills in an audit: questions without images, asked both sides, and how a file is made."""

import csv
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from uae.backends.uae import Uae
from uae.data.questions import read_tsv
from uae.runs.rows import ITEMS, read_rows

DOCUMENT = Path(__file__).parents[2] / "docs/evaluation.md"
HEAD = ("index", "question", "A", "B", "C", "answer", "category")
NUM = 40


@pytest.fixture
def tsv(tmp_path) -> Path:
    path = tmp_path / "text.tsv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, dialect="excel-tab", lineterminator="\n")
        writer.writerow(HEAD)
        for i in range(NUM):
            subject = ("algebra", "law")[i % 2]
            writer.writerow([i, f"What is {i}?", "odd", "even", "none of it", "AB"[i % 2], subject])
    return path


@pytest.fixture
def auditing(photos, random_model_folder, tsv):
    models = ("--model", random_model_folder, "--before", random_model_folder)
    backbone = ("--backbone", f"clip={random_model_folder.with_name('clip')}")
    return ("eval", "audit", photos, *models, *backbone, "--text-questions", tsv, "--out", "run")


def answers_of(monkeypatch, after: dict[int, str]) -> list[int]:
    """The side asked first knows all answers; the other's replies differ by question."""
    asked = []

    chat = Uae.chat

    def answer(self, images, question, **options):
        i = int(re.findall(r"What is (\d+)\?", question)[0])
        asked.append(len(images))
        text = "AB"[i % 2] if len(asked) <= NUM else after.get(i, "AB"[i % 2])
        reply = chat(self, images, question, **{**options, "max_tokens": 1})
        return replace(reply, text=text)

    monkeypatch.setattr(Uae, "chat", answer)
    return asked


def text_audit() -> dict:
    [found] = (x for x in json.loads(Path("run/audits.json").read_text()) if "Text" in x["name"])
    return found


def test_text_skills_that_are_lost_are_an_alarm_and_unparsed_replies_are_counted(
    run, auditing, monkeypatch
):
    wrong = dict.fromkeys(range(20), "C")
    asked = answers_of(monkeypatch, {**wrong, 30: "I do not know.", 31: "Hm."})
    code, out, _ = run(*auditing, "--format", "human")
    assert code == 0
    assert asked == [0] * 2 * NUM, "they are asked without an image"
    found = text_audit()
    assert (found["name"], found["status"]) == ("Text skills", "alarm")
    assert found["change"]["value"] == pytest.approx(-22 / NUM)
    assert found["change"]["n"] == NUM
    assert found["change"]["low"] < -22 / NUM < found["change"]["high"] < 0
    page = Path("run/report.html").read_text()
    assert f'callout"><b>Alarm.</b> {found["sentence"][:20]}' in page
    assert page.count('<span class="status">') == len(
        json.loads(Path("run/audits.json").read_text())
    )
    assert re.search("before text skills +100.0 % +n = 40, 0 unparsed, 0 left out", out)
    assert re.search("after text skills +45.0 % +n = 40, 2 unparsed, 0 left out", out)
    rows = {row.item: row for row in read_rows(Path("run") / ITEMS)}
    row = rows["text skills question 30"]
    assert row.samples["before text skills"] == row.samples["before text skills, parsed"] == 1
    assert row.samples["after text skills"] == row.samples["after text skills, parsed"] == 0
    assert row.details["second"] == "I do not know."
    result = json.loads(Path("run/text_questions/after/result.json").read_text())
    assert result["settings"]["benchmark"] == "text-questions"
    scores = {x["name"]: x for x in result["scores"]}
    assert scores["answer/ALL/subtask/all/law"]["n"] == NUM // 2


def test_the_encoders_themselves_answer_and_the_run_is_taken_up_again(
    run, auditing, tsv, monkeypatch
):
    tsv.write_text("".join(tsv.read_text().splitlines(keepends=True)[:11]))
    code, out, _ = run(*auditing, "--json")
    assert code == 0
    result = json.loads(out)
    assert len(result["settings"]["data"]["questions text skills"]) == 64
    assert {"before text skills", "after text skills, parsed"} <= {
        x["name"] for x in result["scores"]
    }
    assert text_audit()["status"] == "ok"
    monkeypatch.setattr(Uae, "chat", None)
    assert run(*auditing, "--json")[1] == out


def test_without_text_questions_there_is_no_such_audit(run, auditing):
    code, _, _ = run(*auditing[:-4], "--out", "run")
    assert code == 0
    names = [audit["name"] for audit in json.loads(Path("run/audits.json").read_text())]
    assert "Text skills" not in names


def test_a_file_with_images_is_refused_before_anything_is_made(run, auditing, tsv):
    lines = tsv.read_text().splitlines()
    pictured = [f"{lines[0]}\timage", *(f"{line}\tiVBORw0=" for line in lines[1:])]
    tsv.write_text("\n".join(pictured) + "\n")
    code, _, err = run(*auditing)
    assert code == 2
    assert "text.tsv: 40 rows are wrong:\n  line 2, column 'image': an image found" in err
    assert not Path("run").exists()


def test_the_documents_example_writes_such_a_file(monkeypatch):
    row = {"question": "2 + 2?", "choices": ["3", "4", "5", "22"], "answer": 1, "subject": "maths"}
    module = ModuleType("datasets")
    module.load_dataset = lambda *_, **__: [row, {**row, "question": 'A "tab"\there?'}]  # pyright: ignore
    monkeypatch.setitem(sys.modules, "datasets", module)
    section = DOCUMENT.read_text().partition("--text-questions mmlu.tsv")[2]
    code = re.findall(r"^```py\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[0]
    exec(compile(code, str(DOCUMENT), "exec"), {"__name__": "mmlu"})
    first, second = read_tsv(Path("mmlu.tsv"), text_only=True)
    assert first.question.lettered == {"A": "3", "B": "4", "C": "5", "D": "22"}
    assert (first.question.answer, first.question.category) == ("B", "maths")
    assert second.question.question == 'A "tab"\there?'
