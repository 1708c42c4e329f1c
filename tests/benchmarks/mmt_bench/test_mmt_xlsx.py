"""The .xlsx of predictions, read and scored by VLMEvalKit's steps."""

import importlib.util
import re
import string
from pathlib import Path

import pytest
from thirty_questions import STAMP, Words, evaluate, rows, write

from uae.benchmarks.answers import extract_answer
from uae.benchmarks.mmt_bench.export import export_predictions
from uae.core.errors import EnvironmentFault, UsageError
from uae.data.questions import Question, QuestionRow

pandas = pytest.importorskip("pandas")
openpyxl = pytest.importorskip("openpyxl")

REJECTED = (
    "Failed to obtain answer via API",
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)


class Replies(Words):
    """Gives one reply after the other."""

    def __init__(self, *replies: str) -> None:
        super().__init__()
        self.replies = iter(replies)

    def answer(self, images, question: str) -> str:
        return next(self.replies)


def can_infer(answer: str, choices: dict[str, str]) -> str | None:
    """VLMEvalKit's rules (`vlmeval/utils/matching_util.py`), written down anew."""
    if any(text in answer for text in REJECTED):
        return None
    words = re.sub(r"[.()\[\],:;!*#{}]", " ", answer).split()
    named = [letter for letter in choices if letter in words]
    if len(named) == 1 and words.index(named[0]) > len(words) - 5:
        return named[0]
    if not named and "Z" in words:
        return None
    said = re.search(r"(?i)(?:correct\s+)?answer\s+is\s+\**([ABCD])\**", answer)
    if said and said[1].upper() in choices:
        return said[1].upper()
    texts = {letter: str(text).lower() for letter, text in choices.items()}
    if len(answer) > 2 * sum(map(len, texts.values())):
        return None
    held = [letter for letter, text in texts.items() if text in answer.lower()]
    return held[0] if len(held) == 1 else None


def vlmevalkit(path: Path) -> tuple[dict[str, float], dict[int, str]]:
    """Load, infer and average as `ImageMCQDataset.evaluate` and `report_acc_MMT` do.

    The latter itself wants all 32 meta-tasks.

    Returns the shares of right answers, overall and by meta-task, and the replies by index.
    """
    data = pandas.read_excel(path).sort_values(by="index")
    data["prediction"] = [str(x) for x in data["prediction"]]
    hits = []
    for _, row in data.iterrows():
        choices = {
            x: row[x] for x in string.ascii_uppercase if x in row and not pandas.isna(row[x])
        }
        hits.append(float(can_infer(row["prediction"], choices) == row["answer"]))
    data["hit"] = hits
    shares = {"overall": float(data["hit"].mean())}
    for meta, part in data.groupby("l2-category"):
        subtasks = part.groupby("category")["hit"].mean()
        shares[f"meta-task/{meta}"] = float(subtasks.mean())
    return shares, dict(zip(data["index"], data["prediction"], strict=True))


def test_vlmevalkits_steps_give_the_runs_score(tmp_path: Path):
    tsv = write(tmp_path / "q.tsv", rows(30))
    result = evaluate(Words(), tsv, tmp_path / "run", STAMP)
    assert export_predictions(tmp_path / "run", tsv, tmp_path / "words_MMT-Bench_VAL.xlsx") == 0
    shares, _ = vlmevalkit(tmp_path / "words_MMT-Bench_VAL.xlsx")
    assert 0 < shares["overall"] < 1
    assert len(shares) == 3
    for name, share in shares.items():
        assert share == pytest.approx(result.by_name(f"answer/VAL/{name}").value, abs=1e-12)


def test_formulas_errors_and_control_characters_come_back_as_text(tmp_path: Path):
    replies = ["=1+1", "#N/A is B", "A\x0bB\x01", 'C\t"so"\nI say', "@A", "0001", "+B"]
    tsv = write(tmp_path / "q.tsv", rows(len(replies)))
    evaluate(Replies(*replies), tsv, tmp_path / "run", STAMP)
    export_predictions(tmp_path / "run", tsv, tmp_path / "odd.xlsx")
    _, read = vlmevalkit(tmp_path / "odd.xlsx")
    expected = [*replies[:2], "A B\ufffd", *replies[3:]]
    assert list(read.values()) == expected
    options = rows(1)[0].question.options
    assert [extract_answer(x, options) for x in expected] == [
        extract_answer(x, options) for x in replies
    ]


def test_indices_are_numbers_and_an_option_that_is_none_is_an_empty_cell(tmp_path: Path):
    first = rows(1)[0]
    question = Question("Which?", ("3", "", "four"), "C", "color_recognition", "ocr")
    tsv = write(tmp_path / "q.tsv", [first, QuestionRow(7, question, first.image, "VAL")])
    evaluate(Replies("A", "C"), tsv, tmp_path / "run", STAMP)
    export_predictions(tmp_path / "run", tsv, tmp_path / "p.xlsx")
    columns, *written = openpyxl.load_workbook(tmp_path / "p.xlsx").active.values
    assert "image" not in columns
    read = [dict(zip(columns, row, strict=True)) for row in written]
    assert [row["index"] for row in read] == [0, 7]  # pandas would read texts as numbers too
    assert (read[1]["A"], read[1]["B"], read[1]["C"]) == ("3", None, "four")


def test_what_xlsx_cannot_hold_is_refused(tmp_path: Path, monkeypatch):
    tsv = write(tmp_path / "q.tsv", rows(2))
    evaluate(Replies("A", "b" * 32_768), tsv, tmp_path / "run", STAMP)
    with pytest.raises(UsageError, match=r"index 1 has a text of 32768 characters"):
        export_predictions(tmp_path / "run", tsv, tmp_path / "long.xlsx")
    assert not (tmp_path / "long.xlsx").exists()
    export_predictions(tmp_path / "run", tsv, tmp_path / "long.tsv")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EnvironmentFault, match=r'pip install "uae\[xlsx\]"'):
        export_predictions(tmp_path / "run", tsv, tmp_path / "long.xlsx")
