"""GenEval++: its file, what the judge is asked, how a verdict is read, and the scores."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scripted_judge import ScriptedJudge

from uae.benchmarks.geneval_pp.prompts import find_images, read_prompts
from uae.benchmarks.geneval_pp.run import (
    Task,
    Verdict,
    benchmark_of,
    plan_of,
    question_of,
    read_verdict,
)
from uae.benchmarks.image_origin import ORIGIN
from uae.benchmarks.results.compare import compare
from uae.benchmarks.results.result import read_result
from uae.benchmarks.run import run_plan
from uae.benchmarks.summary import summary_text
from uae.core.errors import UsageError

LINES = [
    {
        "tag": "color_spatial_attr",
        "include": [{"class": "fork", "count": 2, "color": "red", "region": "left"}],
        "prompt": "two red forks on the left",
    },
    {
        "tag": "counting",
        "include": [{"class": "cat", "count": 3}],
        "exclude": [{"class": "cat", "count": 4}],
        "prompt": "three cats",
    },
    {
        "tag": "counting",
        "include": [{"class": "dog", "count": 1, "size": "larger"}],
        "prompt": "a large dog",
    },
]
COLORS = ("red", "blue", "white")


def write(path: Path, lines: list[dict]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


@pytest.fixture
def file(tmp_path) -> Path:
    return write(tmp_path / "pp.jsonl", LINES)


@pytest.fixture
def images(tmp_path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i, color in enumerate(COLORS, start=1):
        Image.new("RGB", (8, 8), color).save(folder / f"{i}.jpg")
    return folder


def scored(file: Path, images: Path, out: Path, judge: ScriptedJudge):
    prompts = read_prompts(file)
    return run_plan(plan_of(Task(prompts, find_images(images, prompts), judge)), out)


def write_origin(images: Path, **changes) -> None:
    """Say that the folder was drawn by our own command."""
    origin = {"model": "m", "model_sha256": "abc", "seed": 0, "prompts": "pp.jsonl"}
    (images / ORIGIN).write_text(json.dumps(origin | changes))


def words(_color, text: str) -> str:
    if "dog" in text:
        return '{"correct": 0, "reason": "small"}'
    return 'Sure: {"correct": 1, "reason": "all there"}'


# -- scores ---------------------------------------------------------------------------------------


def test_overall_is_the_mean_over_tags(file, images, tmp_path):
    judge = ScriptedJudge(words=words)
    result = scored(file, images, tmp_path / "run", judge)
    assert result.by_name("color_spatial_attr").value == 1
    assert result.by_name("counting").value == 0.5
    assert result.by_name("overall").value == 0.75
    rows = [json.loads(x) for x in (tmp_path / "run/items.jsonl").read_text().splitlines()]
    assert rows[2]["details"]["reply"] == '{"correct": 0, "reason": "small"}'
    assert rows[2]["details"]["reason"] == "small"
    assert scored(file, images, tmp_path / "run", judge) == result
    assert len(judge.asked) == 3


def test_a_reply_without_a_verdict_is_left_out_and_never_wrong(file, images, tmp_path):
    judge = ScriptedJudge(words=lambda c, t: "I cannot say." if "cats" in t else words(c, t))
    result = scored(file, images, tmp_path / "run", judge)
    assert {x: list(of) for x, of in result.excluded.items()} == {"judge: no verdict": ["2"]}
    assert (result.by_name("counting").value, result.by_name("counting").n) == (0, 1)


def test_a_judge_that_never_gives_a_verdict_ends_no_run(images, tmp_path):
    for i in range(4, 9):
        Image.new("RGB", (8, 8)).save(images / f"{i}.jpg")
    file = write(tmp_path / "pp.jsonl", [LINES[0]] * 8)
    result = scored(file, images, tmp_path / "run", ScriptedJudge(words=lambda *_: "?"))
    assert result.num_excluded == 8


@pytest.mark.parametrize(
    ("name", "kind", "benchmark"),
    [
        ("gpt-4.1", "endpoint", "geneval-pp"),
        ("gpt-4.1-2025-04-14", "endpoint", "geneval-pp"),
        ("gpt-4.1-mini", "endpoint", "geneval-pp-other-judge"),
        ("gpt-4.1", "local", "geneval-pp-other-judge"),
        ("qwen", "endpoint", "geneval-pp-other-judge"),
    ],
)
def test_only_the_official_judge_gives_the_official_name(name, kind, benchmark):
    assert benchmark_of(ScriptedJudge(name=name, kind=kind).stamp) == benchmark


def test_overall_is_left_out_where_a_tag_has_no_image(file, images, tmp_path):
    (images / "1.jpg").unlink()
    prompts = read_prompts(file)
    found = find_images(images, prompts, allow_missing=True)
    result = run_plan(plan_of(Task(prompts, found, ScriptedJudge(words=words))), tmp_path / "run")
    assert [x.score.name for x in result.scores] == ["color_spatial_attr", "counting"]
    assert result.by_name("color_spatial_attr").n == 0
    assert result.by_name("counting").value == 0.5
    (images / "2.jpg").rename(images / "1.jpg")  # each tag has one
    found = find_images(images, prompts, allow_missing=True)
    result = run_plan(plan_of(Task(prompts, found, ScriptedJudge(words=words))), tmp_path / "other")
    assert result.by_name("overall").value == 0.5


def test_an_incomplete_result_names_what_is_missing(file, images, tmp_path):
    (images / "2.jpg").unlink()
    (images / "3.jpg").write_bytes(b"damaged")
    prompts = read_prompts(file)
    found = find_images(images, prompts, allow_missing=True)
    run_plan(plan_of(Task(prompts, found, ScriptedJudge(words=words))), tmp_path / "run")
    values = json.loads((tmp_path / "run/result.json").read_text())
    gaps = values["settings"]["options"]["gaps"]
    assert gaps["missing images"] == {"num": 1, "first": ["2"]}
    assert [name.partition(":")[0] for name in gaps["unreadable images"]["first"]] == ["3"]
    said = "INCOMPLETE, no score of the benchmark: 1 missing images: 2; 1 unreadable images: 3: "
    assert values["marks"][0].startswith(said)
    assert values["marks"][1] == "PART of the benchmark: 3 of 280 prompts"
    text = summary_text(read_result(tmp_path / "run"))
    assert all(mark in text.splitlines() for mark in values["marks"])


# -- the judge's question and verdict -------------------------------------------------------------


def test_the_question_lists_every_clause(file):
    first, second, third = read_prompts(file).prompts
    assert question_of(first) == (
        "Order: two red forks on the left\nThe picture is correct if it\n"
        "1. shows exactly 2 red fork, on the left"
    )
    assert "1. shows exactly 3 cat\n2. does not show 4 cat or more" in question_of(second)
    assert question_of(third).endswith("1. shows exactly 1 dog, larger than the other objects")


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ('{"correct": 1, "reason": "yes"}', Verdict(True, "yes")),
        ('```json\n{"correct": 0, "reason": "a {brace}"}\n```', Verdict(False, "a {brace}")),
        ('{"note": 1} {"correct": true}', Verdict(True, "")),
        ('{x} {"correct": 0} {"correct": 1}', Verdict(False, "")),
        ('{"correct": "1"}', None),
        ('{"correct": 2}', None),
        ('{"correct": 1, "reason": "cut', None),
        ("Correct.", None),
        ("", None),
    ],
)
def test_a_verdict_is_the_first_object_that_is_one(reply, verdict):
    assert read_verdict(reply) == verdict


@given(st.text(alphabet='{}[]":correct 01,', max_size=40))
def test_no_reply_breaks_the_reading(reply):
    assert read_verdict(reply) is None or '"correct"' in reply


# -- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tag": ""}, "key 'tag' is ''"),
        ({"include": []}, "key 'include' is empty"),
        ({"include": {}}, "key 'include' is {}: expected a list"),
        ({"include": [{"class": "cat"}]}, "key 'include[0]': key 'count' is missing"),
        ({"include": [{"class": "cat", "count": 0}]}, "count 0: expected a whole number"),
        ({"include": [{"class": "cat", "count": True}]}, "count True"),
        ({"include": [{"class": "cat", "count": 1, "region": "top"}]}, "region 'top': expected"),
        ({"include": [{"class": "cat", "count": 1, "size": "big"}]}, "size 'big': expected"),
        ({"include": [{"class": "cat", "count": 1, "hue": 1}]}, "key 'hue' is unknown"),
        ({"more": 1}, "key 'more' is unknown"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, change, said):
    with pytest.raises(UsageError) as caught:
        read_prompts(write(tmp_path / "pp.jsonl", [LINES[1], LINES[0] | change]))
    assert "pp.jsonl, line 2: " in str(caught.value)
    assert said in str(caught.value)


def test_images_are_numbered_from_one(file, images):
    prompts = read_prompts(file)
    assert list(find_images(images, prompts).paths) == ["1", "2", "3"]
    (images / "3.jpg").rename(images / "0.jpg")
    with pytest.raises(UsageError, match=r"1 missing images: 3\n.*1 files of no item: 0.jpg"):
        find_images(images, prompts)


@pytest.mark.parametrize("second", ["1.png", "1.jpeg", "1.WEBP", "01.jpg", "001.png"])
def test_two_files_of_one_prompt_are_refused(file, images, second):
    prompts = read_prompts(file)
    for name in (second, "3.png"):
        Image.new("RGB", (8, 8)).save(images / name)
    for allow in (False, True):
        with pytest.raises(UsageError) as caught:
            find_images(images, prompts, allow_missing=allow)
        both = " and ".join(sorted(("1.jpg", second)))
        said = f"2 items with more than one file: 1 ({both}), 3 (3.jpg and 3.png)"
        assert said in str(caught.value)


def test_files_of_other_suffixes_are_told(file, images, caplog):
    for name in ("4.png", "00.webp", "cat.jpeg"):
        Image.new("RGB", (8, 8)).save(images / name)
    (images / "notes.txt").touch()
    (images / "5.png").mkdir()
    assert find_images(images, read_prompts(file)).is_complete
    assert "3 files of no item: 00.webp, 4.png, cat.jpeg" in caplog.text
    (images / "3.jpg").rename(images / "3.png")
    with pytest.raises(UsageError, match=r"1 missing images: 3\n.*00\.webp, 3\.png, 4\.png"):
        find_images(images, read_prompts(file))


def test_files_too_many_are_told_on_a_complete_set_too(file, images, caplog):
    for i in (0, *range(4, 10)):
        Image.new("RGB", (8, 8)).save(images / f"{i}.jpg")
    assert find_images(images, read_prompts(file)).is_complete
    assert "7 files of no item: 0.jpg, 4.jpg, 5.jpg, 6.jpg, 7.jpg, and 2 more" in caplog.text


def test_images_of_other_prompts_are_refused(file, images, tmp_path):
    prompts = read_prompts(file)
    other = read_prompts(write(tmp_path / "other.jsonl", LINES[::-1]))
    write_origin(images, prompts_sha256=prompts.sha256)
    assert find_images(images, prompts).is_complete
    with pytest.raises(UsageError) as caught:
        find_images(images, other, allow_missing=True)
    assert f"prompts_sha256 {prompts.sha256} (pp.jsonl)" in str(caught.value)
    assert f"--prompts has {other.sha256}" in str(caught.value)
    (images / ORIGIN).write_text('{"prompts_sha256": "another program\'s"}')
    assert find_images(images, other).is_complete


def test_who_drew_the_images_stands_in_the_result(file, images, tmp_path):
    prompts = read_prompts(file)
    for seed in (0, 1):
        write_origin(images, prompts_sha256=prompts.sha256, seed=seed)
        scored(file, images, tmp_path / str(seed), ScriptedJudge(words=words))
    result = read_result(tmp_path / "0")
    drawn_by = result.settings["options"]["drawn_by"]
    assert drawn_by == {"model": "m", "model_sha256": "abc", "seed": 0}
    found = compare(tmp_path / "0", tmp_path / "1")
    assert "options.drawn_by.seed: 0 in the run, 1 now" in found.settings
