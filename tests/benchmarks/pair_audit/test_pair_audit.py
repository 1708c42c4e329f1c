"""A trained pair against the one it began as: the swap matrix, its audits, and kills."""

import json
from dataclasses import replace

import numpy as np
import pytest

from uae.backends.roles import Written
from uae.backends.uae import Uae
from uae.benchmarks.pair_audit.findings import PIXELS, TEXT, audits_of, matrix_name, summary_text
from uae.benchmarks.pair_audit.questions import IMAGE, KIND, UNDERSTANDING, QuestionSet
from uae.benchmarks.pair_audit.run import AuditTask, audit_pair, settings_of
from uae.benchmarks.results.compare import compare
from uae.benchmarks.unified_bench import making
from uae.benchmarks.unified_bench.budgets import Tokens
from uae.benchmarks.unified_bench.task import Task
from uae.core.provenance import ModelStamp
from uae.models.unified import UnifiedAutoEncoder
from uae.rewards.loading import load_similarity
from uae.runs.rows import ItemRow
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image

NAMES = ("a.png", "b.png", "c.png")
BACKBONES = ("clip", "dinov2")


class Says:
    """A captioner that says one thing of every image, with `more` once more of each in turn."""

    in_batches = False

    def __init__(self, text: str, more: str = "", is_truncated: bool = False) -> None:
        self.caption = Written(text, is_truncated)
        self.more = more

    def write(self, items, request):
        texts = [self.caption.text + self.more * NAMES.index(item.name) for item in items]
        return [replace(self.caption, text=text) for text in texts]


@pytest.fixture(scope="module")
def model(random_model_folder):
    return UnifiedAutoEncoder.from_pretrained(random_model_folder)


@pytest.fixture(scope="module")
def backbones(random_model_folder):
    folders = {name: random_model_folder.with_name(name) for name in BACKBONES}
    return {name: load_similarity(folder) for name, folder in folders.items()}


@pytest.fixture
def task(tmp_path, model, backbones) -> AuditTask:
    images = {name: tmp_path / name for name in NAMES}
    for i, path in enumerate(images.values()):
        render_image(scene_at(i, "test"), 64).save(path)
    tokens = Tokens(model.encoder.tokenizer)
    own = {
        side: Task(
            images=images,
            out=tmp_path / "run",
            captioner=lambda caption=caption: caption,
            generator=lambda seed=seed: Uae(model, seed),
            backbones=lambda: backbones,
            tokens=tokens,
        )
        for side, seed, caption in (
            ("before", 0, Says("A red circle.")),
            ("after", 1, Says("A red zzz zzz zzz zzz zzz", " zzz", is_truncated=True)),
        )
    }
    return AuditTask(
        own=own,
        max_caption_tokens={"before": 128, "after": 2},
        reward=("clip",),
        out=tmp_path / "run",
    )


def audited(task: AuditTask, *questions: QuestionSet):
    stamp = ModelStamp(name="tiny", dtype="float32", backend="test", files={"weights": "1"})
    settings = settings_of(task, dict.fromkeys(("before", "after"), stamp), {"clip": "1"})
    return audit_pair(
        task,
        settings,
        BACKBONES,
        resume="auto",
        questions=questions,
        show=lambda *_: None,
    )


def test_the_matrix_holds_each_sides_captions_by_each_sides_decoder(task, tmp_path):
    result, audits = audited(task)
    pairs = {path.name for path in (tmp_path / "run" / "pairs").iterdir()}
    assert pairs == {"before-before", "before-after", "after-before", "after-after"}
    captions = [
        (tmp_path / "run/pairs" / pair / "captions/plain.jsonl").read_text()
        for pair in ("after-after", "after-before", "before-before")
    ]
    assert '"A red zzz' in captions[0]
    texts = [[json.loads(line)["caption"] for line in x.splitlines()] for x in captions]
    assert texts[0] == texts[1] != texts[2]
    values = [result.by_name(matrix_name(w, d, "clip")).value for w, d in _pairs()]
    assert len(set(values)) == 4
    by_name = {audit.name: audit for audit in audits}
    assert by_name["Truncation"].status == "alarm"
    unknown = by_name["Unknown words"]
    assert unknown.change is not None
    assert unknown.change.rises
    assert unknown.status == "not measured", "3 images are too few"
    assert by_name["Understanding"].status == "not measured"
    text = summary_text(result, audits)
    assert "after captions" in text
    assert text.index("alarm  ") < text.index("not measured  ")
    saved = json.loads((tmp_path / "run" / "audits.json").read_text())
    assert [audit["status"] for audit in saved] == [audit.status for audit in audits]


def questions_of(before: list[float | None], after: list[float | None]) -> QuestionSet:
    """Questions that were answered so; None for an image that does not open."""
    items = [str(i) for i in range(len(before))]

    def row(item: str, answer: float | None) -> ItemRow:
        if answer is None:
            return ItemRow(item=item, excluded="image: damaged", excluded_detail="cut short")
        samples = {"answer": answer, "parsed": 1.0}
        return ItemRow(item=item, samples=samples, details={"reply": "A"})

    sides = {"before": before, "after": after}
    rows = {side: list(map(row, items, answers)) for side, answers in sides.items()}
    return QuestionSet(UNDERSTANDING, items, lambda: rows)


def test_questions_are_compared_one_by_one(task):
    _, audits = audited(task, questions_of([1.0, 1.0, 1.0, 0.0] * 25, [0.0] * 100))
    assert next(a for a in audits if a.name == "Understanding").status == "alarm"


def test_answers_are_items_of_the_result_and_those_left_out_are_named(task):
    asked = questions_of([1.0, None, 1.0], [0.0, None, 1.0])
    result, audits = audited(task, asked)
    before, after = (result.by_name(f"{side} understanding") for side in ("before", "after"))
    assert (before.value, before.n, before.num_excluded) == (1.0, 2, 1)
    assert (after.value, after.n, after.num_excluded) == (0.5, 2, 1)
    assert result.excluded == {"image: damaged": {"understanding question 1": "cut short"}}
    similarity = result.by_name(matrix_name("after", "after", "clip"))
    assert (similarity.n, similarity.num_excluded) == (3, 0)  # a question is no image left out
    text = summary_text(result, audits)
    assert "6 items, 1 left out" in text
    assert "LEFT OUT: 1 of 6 items count in no score: 1 image: damaged" in text

    def refuse():
        raise AssertionError("asked again without need")

    assert audited(task, replace(asked, ask=refuse)) == (result, audits)


def test_two_audits_differ_by_the_questions_that_were_answered_otherwise(task, tmp_path):
    for name, answers in (("first", [1.0, 1.0]), ("second", [1.0, 0.0])):
        audited(replace(task, out=tmp_path / name), questions_of([1.0, 1.0], answers))
    found = compare(tmp_path / "first", tmp_path / "second")
    change = next(x for x in found.scores if x.score.name == "after understanding")
    assert (change.difference.value, change.difference.n) == (-0.5, 2)
    moved = found.moves["after understanding"].most
    assert [move.item for move in moved] == ["understanding question 1"]


def test_a_run_that_is_killed_while_drawing_ends_alike(task, tmp_path, monkeypatch):
    audited(task)
    killed = replace(task, out=tmp_path / "killed")
    save, num_saved = making.save, 0

    class Kill(BaseException):
        pass

    def counted(*arguments):
        nonlocal num_saved
        num_saved += 1
        if num_saved in (2, 7):
            raise Kill
        save(*arguments)

    monkeypatch.setattr(making, "save", counted)
    for _ in range(2):
        with pytest.raises(Kill):
            audited(killed)
    audited(killed)
    first, second = ((out / "result.json").read_bytes() for out in (task.out, killed.out))
    assert first == second


def _pairs():
    return [(w, d) for w in ("before", "after") for d in ("before", "after")]


def rows(changes: dict[str, float], num: int = 40) -> list[ItemRow]:
    """Rows alike before and after but for what `changes` adds to the side after."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(num):
        noise = rng.normal(0, 0.01)
        samples = {matrix_name(w, d, k): 0.5 + noise for w, d in _pairs() for k in BACKBONES}
        samples |= {f"{side} {m}": 0.0 for side in ("before", "after") for m in TEXT}
        samples |= {f"{of} {m}": 0.3 for of in ("original", "before", "after") for m in PIXELS}
        for name, change in changes.items():
            samples[name] += change + rng.normal(0, 0.005)
        found.append(ItemRow(item=f"{i:02d}", labels={KIND: IMAGE}, samples=samples))
    return found


def statuses(changes: dict[str, float]) -> dict[str, str]:
    return {a.name: a.status for a in audits_of(rows(changes), ("clip",), BACKBONES)}


def test_a_reward_that_rises_while_a_stranger_sees_less_is_a_private_code():
    own, swapped = matrix_name("after", "after", "clip"), matrix_name("after", "before", "dinov2")
    found = statuses({own: 0.1, swapped: -0.1})
    assert found["Private code"] == found["Swap test"] == "alarm"
    assert statuses({own: 0.1})["Private code"] == "ok"


def test_without_a_held_out_backbone_nothing_is_said_of_it():
    audits = audits_of(rows({}), BACKBONES, BACKBONES)
    assert next(a for a in audits if a.name == "Held-out similarity").status == "not measured"


def test_drift_of_pictures_is_measured_against_their_originals():
    found = statuses({"after brightness": 0.1})
    assert found["Brightness"] == "alarm"
    assert found["High frequencies"] == "ok"
