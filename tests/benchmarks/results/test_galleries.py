"""Every benchmark's page has its pictures: runs by tiny models and fixed judges, told paths as a
user gives them, from where they stand."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image

from faults.benchmark_runs import Fill
from faults.judged_runs import JUDGED
from faults.model_runs import Tiny, geneval_run, mmt_bench_run
from faults.random_model import random_model_folder
from uae.backends.judge import JudgeStamp
from uae.benchmarks.results.compare import compare
from uae.benchmarks.results.page import write_comparison, write_page
from uae.benchmarks.results.pictures import with_pictures
from uae.core.journal import to_line
from uae.models.unified import UnifiedAutoEncoder
from uae.runs.rows import ITEMS, ItemRow, read_rows, row_values
from uae.scenes.folder import QUESTIONS, write_scenes


class FixedJudge:
    """Says yes to every second question, by its number; of GenEval++ in words."""

    stamp = JudgeStamp(kind="local", name="fixed", dtype="float32")

    def reply(self, image: Image.Image, system: str, text: str, max_tokens: int) -> str:
        number = int(re.findall(r"\d+", text)[0])
        return json.dumps({"correct": number % 2, "reason": "as it looks"})

    def p_of(
        self, image: Image.Image, question: str, answers: Sequence[Sequence[str]]
    ) -> list[float]:
        p = 0.9 if int(re.findall(r"\d+", question)[0]) % 2 else 0.05
        return [p, *(0.1 - p / 10 for _ in answers[1:])]


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("begun")


@pytest.fixture(scope="module")
def fills(begun) -> Mapping[str, Fill]:
    """Ready to run where the images lie, with a relative path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(begun)
        judged = {name: run(Path(), FixedJudge()) for name, run in JUDGED.items()}
        write_scenes(Path("scenes"), 20, "test", seed=0, size_px=64, questions_per_subtask=3)
        folder = random_model_folder()
        tiny = Tiny(UnifiedAutoEncoder.from_pretrained(folder), backbones={}, images={})
        asked = mmt_bench_run(Path("scenes", QUESTIONS), tiny, folder)
        return judged | {"geneval": geneval_run(Path()), "mmt-bench": asked}


@pytest.fixture(params=["geneval", "mmt-bench", "geneval-pp", "geneval2", "dpg"])
def run(request, begun, fills, monkeypatch) -> Path:
    """A finished run."""
    monkeypatch.chdir(begun)
    out = Path("runs", request.param)
    fills[request.param](out, lambda *_: None, False)
    return out


def cards(page: str) -> list[str]:
    return re.findall(r'<article class="card">.*?</article>', page, flags=re.DOTALL)


def test_every_card_has_a_picture_and_what_was_asked(run):
    page = write_page(run).read_text()
    found = cards(page)
    asked = "question" if run.name == "mmt-bench" else "prompt"
    assert len(found) >= 12
    for card in found:
        assert "data:image/webp;base64," in card
        assert f"<i>{asked}</i>" in card
    told = {
        "geneval": r"<i>reason</i> \w",
        "mmt-bench": r"<i>options</i> A\. .*<i>answer</i> [A-D]</p>.*<i>reply</i> .",
        "geneval-pp": r"<i>reply</i> {.*<i>reason</i> as it looks",
        "geneval2": r"<i>How many kites are there in \d+\? two</i> 0\.\d\d</p>",
        "dpg": r"<i>Is kite \d\d red\?</i> \d\.\d\d</p>",
    }[run.name]
    assert any(re.search(told, card, flags=re.DOTALL) for card in found)
    sample = {"mmt-bench": "answer", "geneval2": "am", "dpg": "dpg"}.get(run.name, "correct")
    assert f"<h2>Lowest by {sample}</h2>" in page


def test_every_row_names_its_pictures(run):
    rows = read_rows(run / ITEMS)
    for row in rows:
        for place in row.details["pictures"].values():
            assert not Path(place).is_absolute()
            assert (run / place).is_file()


def test_a_comparison_has_the_pictures_of_what_moved(run, tmp_path):
    other = turned(run)
    found = compare(run, other)
    assert any(moves.most for moves in found.moves.values())
    write_comparison(tmp_path / "moved.html", run, other, found)
    shown = cards((tmp_path / "moved.html").read_text())
    assert len(shown) == sum(len(moves.most) for moves in found.moves.values())
    assert all(card.count("data:image/webp;base64,") >= 1 for card in shown)


def turned(run: Path) -> Path:
    """Lay a second run beside one: each sample x is 1 - x."""
    other = run.with_name(f"{run.name}-turned")
    other.mkdir(exist_ok=True)
    (other / "result.json").write_bytes((run / "result.json").read_bytes())
    rows = read_rows(run / ITEMS)
    lines = []
    for row in rows:
        pictures = {label: run / place for label, place in row.details["pictures"].items()}
        samples = {name: 1 - x for name, x in row.samples.items()}
        values = ItemRow(item=row.item, samples=samples, labels=row.labels, details=row.details)
        lines.append(to_line(row_values(with_pictures(values, pictures, other))))
    (other / ITEMS).write_bytes(b"".join(lines))
    return other
