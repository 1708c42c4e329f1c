"""DPG-Bench's scores in closed form: dependencies, means, and where compat differs."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scripted_judge import ScriptedJudge

from uae.backends.failure import BackendFailed
from uae.benchmarks.dpg.prompts import Item, Question, prompts_digest, set_name
from uae.benchmarks.dpg.run import DpgTask, crops, find_images, plan_of
from uae.benchmarks.dpg.score import with_dependencies
from uae.benchmarks.drawing import in_grid
from uae.benchmarks.image_origin import ORIGIN
from uae.benchmarks.prompt_set import PromptSet
from uae.benchmarks.results.result import BenchResult, result_values
from uae.benchmarks.run import run_plan
from uae.core.errors import UsageError

RED, BLUE, GREEN, WHITE = (255, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 255)


def question(number: int, *parents: int, category: str = "entity - whole") -> Question:
    return Question(number, parents, category, f"Question {number}?")


BUS = Item(
    "bus",
    "A red bus.",
    (question(1), question(2, 1, category="attribute - color"), question(3, 2)),
)
SEA = Item("sea", "The sea.", (question(1, category="global"),))
PROMPTS = PromptSet({"bus": BUS, "sea": SEA})


@pytest.fixture
def images(tmp_path) -> Path:
    """Grids of red, blue, green and white, and of four greens."""
    folder = tmp_path / "images"
    folder.mkdir()
    colors = {"bus": (RED, BLUE, GREEN, WHITE), "sea": (GREEN,) * 4}
    for name, four in colors.items():
        in_grid([Image.new("RGB", (6, 4), c) for c in four]).save(folder / f"{name}.png")
    return folder


def answers(color: tuple[int, ...], text: str) -> float:
    """Red: all yes; blue: no bus; green: not red; white: all yes."""
    no = {BLUE: "1", GREEN: "2"}.get(color, "none")
    return 0.2 if f"Question {no}?" in text else 0.9


def task_of(images: Path, judge: ScriptedJudge, **options) -> DpgTask:
    found = find_images(images, PROMPTS, options.get("num_images", 4))
    return DpgTask(PROMPTS, found, judge, **options)


def score(task: DpgTask, out: Path, **options) -> BenchResult:
    return run_plan(plan_of(task), out, **options)


# -- dependencies ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answered", "scored"),
    [
        ((1, 1, 1), (1, 1, 1)),
        ((0, 1, 1), (0, 0, 0)),
        ((1, 0, 1), (1, 0, 0)),
        ((1, 1, 0), (1, 1, 0)),
    ],
)
def test_a_zero_cascades_down_and_never_up(answered, scored):
    given = {i + 1: float(x) for i, x in enumerate(answered)}
    assert tuple(with_dependencies(BUS.questions, given).values()) == scored
    assert tuple(given.values()) == answered


def test_any_parent_suffices():
    both = (question(1), question(2), question(3, 1, 2))
    assert with_dependencies(both, {1: 1.0, 2: 0.0, 3: 1.0})[3] == 0
    assert with_dependencies(both, {1: 1.0, 2: 1.0, 3: 1.0})[3] == 1


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_dependencies_only_ever_take_away(answered, data):
    numbers = range(1, len(answered) + 1)
    questions = [
        question(i, *(data.draw(st.sets(st.sampled_from(range(1, i)))) if i > 1 else ()))
        for i in numbers
    ]
    given_answers = {i: float(x) for i, x in zip(numbers, answered, strict=True)}
    scores = with_dependencies(questions, given_answers)
    assert all(scores[i] <= given_answers[i] for i in numbers)
    for q in questions:
        all_parents = all(scores[parent] for parent in q.parents)
        assert scores[q.question_id] == given_answers[q.question_id] * all_parents


# -- a run ----------------------------------------------------------------------------------------


def test_scores_are_means_over_images_then_items(images, tmp_path):
    judge = ScriptedJudge(answers)
    result = score(task_of(images, judge), tmp_path / "run")
    # bus: red 1, blue 0, green 1/3, white 1; sea: 1
    bus = (1 + 0 + 1 / 3 + 1) / 4
    assert result.by_name("DPG").value == pytest.approx((bus + 1) / 2)
    assert result.by_name("DPG").n == 2
    assert result.by_name("L2/entity - whole").value == pytest.approx((3 / 4 + 2 / 4) / 2)
    assert result.by_name("L1/attribute").value == pytest.approx(2 / 4)
    assert result.by_name("L1/global").value == 1
    assert len(judge.asked) == 4 * 3 + 4
    assert set(judge.forms) == {("Yes", "yes", " Yes", " yes")}
    assert result_values(score(task_of(images, judge), tmp_path / "run")) == result_values(result)
    assert len(judge.asked) == 16


def test_compat_counts_the_last_image_before_dependencies(images, tmp_path):
    def first_no(color, text):
        return 0.2 if (color == WHITE and "Question 1?" in text) else 0.9

    whole = "L2/entity - whole"
    plain = score(task_of(images, ScriptedJudge(first_no)), tmp_path / "plain")
    compat = score(task_of(images, ScriptedJudge(first_no), compat=True), tmp_path / "compat")
    assert compat.by_name("DPG") == plain.by_name("DPG")
    assert plain.by_name(whole).value == pytest.approx(3 / 4)
    assert compat.by_name(whole).value == pytest.approx((0 + 1) / 2)
    assert plain.by_name("L1/attribute").value == pytest.approx(3 / 4)
    assert compat.by_name("L1/attribute").value == 1
    assert compat.settings["version"] != plain.settings["version"]


def test_a_reply_that_is_neither_yes_nor_no_is_left_out_by_reason(images, tmp_path):
    def refusing(color, _text):
        return [0.01, 0.02] if color == BLUE else [0.9, 0.05]

    result = score(task_of(images, ScriptedJudge(refusing)), tmp_path / "run")
    [(reason, items)] = result.excluded.items()
    assert (reason, list(items)) == ("judge: no verdict", ["bus/image 1"])
    assert "'Question 1?'" in items["bus/image 1"]
    assert (result.by_name("DPG").value, result.by_name("DPG").num_excluded) == (1, 1)
    nobody = score(task_of(images, ScriptedJudge(lambda *_: [0.0, 0.0])), tmp_path / "none")
    assert (nobody.by_name("DPG").n, nobody.by_name("DPG").num_excluded) == (0, 2)


def test_the_likelier_of_yes_and_no_is_the_answer(images, tmp_path):
    yes = score(task_of(images, ScriptedJudge(lambda *_: [0.3, 0.1])), tmp_path / "yes")
    no = score(task_of(images, ScriptedJudge(lambda *_: [0.1, 0.3])), tmp_path / "no")
    assert (yes.by_name("DPG").value, no.by_name("DPG").value) == (1, 0)


def test_yes_is_more_than_a_half(images, tmp_path):
    half = score(task_of(images, ScriptedJudge(lambda *_: 0.5)), tmp_path / "half")
    more = score(task_of(images, ScriptedJudge(lambda *_: 0.51)), tmp_path / "more")
    assert (half.by_name("DPG").value, more.by_name("DPG").value) == (0, 1)


def test_an_item_whose_image_fails_is_left_out_and_asked_again(images, tmp_path):
    def failing(color, text):
        if color == GREEN and "Question 3?" in text:
            raise BackendFailed("judge: timed out", "no answer within 1 s")
        return answers(color, text)

    result = score(task_of(images, ScriptedJudge(failing)), tmp_path / "run")
    assert list(map(list, result.excluded.values())) == [["bus/image 2"]]
    assert (result.by_name("DPG").value, result.by_name("DPG").num_excluded) == (1, 1)
    judge = ScriptedJudge(answers)
    again = score(task_of(images, judge), tmp_path / "run", retry_failed=True)
    assert len(judge.asked) == 3
    fresh = score(task_of(images, ScriptedJudge(answers)), tmp_path / "fresh")
    assert result_values(again) == result_values(fresh)


def test_faulty_questions_leave_their_item_out(images, tmp_path):
    prompts = PromptSet({"bus": Item("bus", "A bus.", BUS.questions[1:], fault="no 1"), "sea": SEA})
    task = DpgTask(prompts, find_images(images, prompts, 4), ScriptedJudge(answers))
    result = score(task, tmp_path / "run")
    assert list(result.excluded.items()) == [("faulty questions", {"bus": "no 1"})]
    assert (result.by_name("DPG").n, result.by_name("DPG").num_excluded) == (1, 1)


# -- images ---------------------------------------------------------------------------------------


def test_a_grid_is_cut_row_by_row(images):
    with Image.open(images / "bus.png") as grid:
        four = crops(grid, 4)
        assert [crop.getpixel((0, 0)) for crop in four] == [RED, BLUE, GREEN, WHITE]
        assert {crop.size for crop in four} == {(6, 4)}
        assert crops(grid, 1)[0].size == (12, 8)


def write_origin(images: Path, prompts: str, digest: str) -> None:
    """Say that the folder was drawn by our own command."""
    origin = {"model": "m", "model_sha256": "abc", "seed": 0, "prompts": prompts}
    (images / ORIGIN).write_text(json.dumps(origin | {"prompts_sha256": digest}))


def test_images_of_other_prompts_or_of_another_number_are_refused(images):
    texts = {name: item.prompt for name, item in PROMPTS.by_name.items()}
    digest = prompts_digest(texts)
    write_origin(images, set_name(4), digest)
    assert find_images(images, PROMPTS, 4).is_complete
    said = r"has prompts 'dpg, 4 a prompt', asked for is 'dpg, 1 a prompt'"
    with pytest.raises(UsageError, match=said):
        find_images(images, PROMPTS, 1, allow_missing=True)
    write_origin(images, set_name(1), digest)
    with pytest.raises(UsageError, match="give the --num-images"):
        find_images(images, PROMPTS, 4)
    write_origin(images, set_name(4), prompts_digest(texts | {"sea": "A lake."}))
    with pytest.raises(UsageError, match=rf"images of other prompts: .*--prompts has {digest}"):
        find_images(images, PROMPTS, 4)


def test_what_is_no_grid_is_refused(images):
    Image.new("RGB", (7, 8)).save(images / "sea.png")
    with pytest.raises(UsageError, match="sea: 7 x 8 pixels: expected a grid of two by two"):
        find_images(images, PROMPTS, 4)
    assert find_images(images, PROMPTS, 1).is_complete
    (images / "sea.png").unlink()
    Image.new("RGB", (8, 8)).save(images / "other.png")
    with pytest.raises(UsageError, match=r"1 missing images: sea\n.*no item: other.png"):
        find_images(images, PROMPTS, 4)


def test_two_files_of_one_item_are_refused_and_those_of_none_told(images, caplog):
    Image.new("RGB", (8, 8)).save(images / "other.webp")
    assert find_images(images, PROMPTS, 4).is_complete
    assert "1 files of no item: other.webp" in caplog.text
    for name in ("bus.jpg", "sea.jpeg"):
        Image.new("RGB", (8, 8)).save(images / name)
    for allow in (False, True):
        with pytest.raises(UsageError) as caught:
            find_images(images, PROMPTS, 4, allow_missing=allow)
        said = "2 items with more than one file: bus (bus.jpg and bus.png), sea (sea.jpeg and"
        assert said in str(caught.value)
