"""GenEval 2: its files, the accepted forms, Soft-TIFA in closed form."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scripted_judge import ScriptedJudge

from uae.backends.failure import BackendFailed
from uae.benchmarks.geneval2.prompts import Atom, find_images, read_prompts
from uae.benchmarks.geneval2.run import (
    OFFICIAL_JUDGE,
    Task,
    benchmark_of,
    geometric_mean,
    plan_of,
)
from uae.benchmarks.results.notes import marks_of
from uae.benchmarks.results.result import result_values
from uae.benchmarks.run import run_plan
from uae.core.errors import UsageError

LINES = [
    {
        "prompt": "two red kites above a bench",
        "atom_count": 5,
        "vqa_list": [["How many kites are in the image?", "two"], ["Are they red?", "Yes"]],
        "skills": ["count", "attribute"],
    },
    {
        "prompt": "a cat",
        "atom_count": 3,
        "vqa_list": [["Is there a cat?", "Yes"]],
        "skills": ["object"],
    },
]


def write(path: Path, lines: list[dict]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


@pytest.fixture
def file(tmp_path) -> Path:
    return write(tmp_path / "g2.jsonl", LINES)


@pytest.fixture
def table(tmp_path) -> Path:
    Image.new("RGB", (4, 4), "red").save(tmp_path / "kites.png")
    Image.new("RGB", (4, 4), "blue").save(tmp_path / "cat.jpg")
    path = tmp_path / "paths.json"
    named = {LINES[0]["prompt"]: "kites.png", LINES[1]["prompt"]: str(tmp_path / "cat.jpg")}
    path.write_text(json.dumps(named))
    return path


def p_of(_color, text: str) -> float:
    return {"How": 0.9, "Are": 0.4, "Is ": 0.5}[text[:3]]


def scored(file: Path, table: Path, out: Path, judge: ScriptedJudge, **options):
    prompts = read_prompts(file)
    return run_plan(plan_of(Task(prompts, find_images(table, prompts), judge)), out, **options)


# -- soft-tifa ------------------------------------------------------------------------------------


def test_am_gm_skills_and_atom_counts(file, table, tmp_path):
    judge = ScriptedJudge(p_of)
    result = scored(file, table, tmp_path / "run", judge)
    gm = math.sqrt(0.9 * 0.4)
    assert result.by_name("AM").value == pytest.approx((0.65 + 0.5) / 2)
    assert result.by_name("GM").value == pytest.approx((gm + 0.5) / 2)
    assert result.by_name("AM/skill/count").value == 0.9
    assert result.by_name("AM/skill/attribute").value == 0.4
    assert result.by_name("GM/atoms/5").value == pytest.approx(gm)
    assert result.by_name("GM/atoms/3").value == pytest.approx(0.5)
    assert judge.asked[0] == "How many kites are in the image? Answer in one word."
    assert judge.forms == [
        ("two", "Two", " two", "2", " 2"),
        ("Yes", "yes", " Yes", " yes"),
        ("Yes", "yes", " Yes", " yes"),
    ]
    assert result_values(scored(file, table, tmp_path / "run", judge)) == result_values(result)
    assert len(judge.asked) == 3


def test_one_zero_makes_the_geometric_mean_zero():
    assert geometric_mean([0.0, 1.0, 1.0]) == 0
    assert geometric_mean([1.0, 1.0]) == 1
    assert geometric_mean([0.25, 1.0]) == pytest.approx(0.5)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=11))
def test_the_geometric_mean_is_never_above_the_arithmetic(values):
    assert geometric_mean(values) <= sum(values) / len(values) + 1e-9
    assert geometric_mean(values) >= min(values) - 1e-9


def test_an_image_with_a_failed_question_is_left_out(file, table, tmp_path):
    def failing(color, text):
        if text.startswith("Are"):
            raise BackendFailed("judge: refused", "no")
        return p_of(color, text)

    result = scored(file, table, tmp_path / "run", ScriptedJudge(failing))
    assert (result.by_name("AM").value, result.by_name("AM").n) == (0.5, 1)
    assert result.by_name("AM").num_excluded == 1
    assert list(result.excluded.values()) == [{"0000/1": "no"}]
    judge = ScriptedJudge(p_of)
    again = scored(file, table, tmp_path / "run", judge, retry_failed=True)
    assert len(judge.asked) == 1
    fresh = scored(file, table, tmp_path / "fresh", ScriptedJudge(p_of))
    assert result_values(again) == result_values(fresh)


def test_a_reply_that_is_no_answer_is_left_out_and_a_wrong_one_is_not(file, table, tmp_path):
    def saying(_color, text):
        return {"How": [0.0, 0.9], "Are": [0.4, 0.1], "Is ": [0.001, 0.002]}[text[:3]]

    result = scored(file, table, tmp_path / "run", ScriptedJudge(saying))
    [(reason, items)] = result.excluded.items()
    assert (reason, list(items)) == ("judge: no verdict", ["0001/0"])
    am, gm = result.by_name("AM"), result.by_name("GM")
    assert (am.value, am.n, am.num_excluded) == (pytest.approx(0.2), 1, 1)
    assert gm.value == 0, "a wrong number has the probability 0, as upstream"
    nobody = scored(file, table, tmp_path / "none", ScriptedJudge(lambda *_: [0.0, 0.0]))
    assert (nobody.by_name("AM").n, nobody.num_excluded) == (0, 3)


def test_only_the_official_judge_gives_the_official_name():
    local = ScriptedJudge(name=OFFICIAL_JUDGE)
    assert benchmark_of(local.stamp) == "geneval2"
    assert benchmark_of(ScriptedJudge(name="mine").stamp) == "geneval2-other-judge"
    # behind an address weights and logits are the server's word
    remote = ScriptedJudge(name=OFFICIAL_JUDGE, kind="endpoint")
    assert benchmark_of(remote.stamp) == "geneval2-other-judge"


def test_runs_of_two_judges_are_told_apart(file, table, tmp_path):
    first = scored(file, table, tmp_path / "a", ScriptedJudge(p_of, name="a"))
    second = scored(file, table, tmp_path / "b", ScriptedJudge(p_of, name="b"))
    assert first.settings["data"]["judge"] != second.settings["data"]["judge"]
    assert first.settings["options"]["judge"]["dtype"] == "float32"


# -- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"skills": ["count"]}, "key 'skills' is ['count']: expected one for each of 2"),
        ({"skills": ["count", "smell"]}, "skill 'smell': expected one of object, attribute"),
        ({"skills": ["object", "attribute"]}, "'two']: expected [question, answer], of skill obj"),
        ({"vqa_list": [["How many?", "eight"], ["Red?", "Yes"]]}, "answer out of one, two"),
        ({"vqa_list": [["How many?"], ["Red?", "Yes"]]}, "expected [question, answer]"),
        ({"vqa_list": []}, "key 'vqa_list' is []"),
        ({"atom_count": "3"}, "key 'atom_count' is '3'"),
        ({"prompt": " "}, "key 'prompt' is ' '"),
        ({"prompt": "a cat"}, "line 2: the prompt 'a cat' comes twice"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, change, said):
    with pytest.raises(UsageError) as caught:
        read_prompts(write(tmp_path / "g2.jsonl", [LINES[0] | change, LINES[1]]))
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"prompt": "x"}'])
def test_what_is_no_prompt_file_is_refused(tmp_path, text):
    (tmp_path / "g2.jsonl").write_text(text)
    with pytest.raises(UsageError, match=r"g2\.jsonl"):
        read_prompts(tmp_path / "g2.jsonl")
    with pytest.raises(UsageError, match="does not exist"):
        read_prompts(tmp_path / "none.jsonl")


def test_a_prompt_without_an_image_is_missing(file, table, tmp_path):
    prompts = read_prompts(file)
    table.write_text(json.dumps({"a cat": "cat.jpg", "a dog": "dog.jpg"}))
    said = rf"1 missing images: '{LINES[0]['prompt']}'\n.*1 files of no item: dog.jpg"
    with pytest.raises(UsageError, match=said):
        find_images(table, prompts)
    found = find_images(table, prompts, allow_missing=True)
    assert list(found.paths) == ["0001"]
    result = run_plan(plan_of(Task(prompts, found, ScriptedJudge(p_of))), tmp_path / "run")
    assert result.by_name("AM").n == 1
    assert result.settings["options"]["is_complete"] is False
    assert "1 missing images: 'two red kites above a bench'" in marks_of(result.settings)[0]


def test_an_image_that_is_missing_or_damaged_goes_by_the_tables_path(file, table, tmp_path):
    (tmp_path / "kites.png").unlink()
    with pytest.raises(UsageError, match=r"1 missing images: kites\.png\n"):
        find_images(table, read_prompts(file))
    (tmp_path / "kites.png").write_bytes(b"damaged")
    with pytest.raises(UsageError, match=r"1 unreadable images: kites\.png: "):
        find_images(table, read_prompts(file))


def test_two_images_of_one_prompt_are_refused(file, table):
    table.write_text('{"a cat": "cat.jpg", "two": "kites.png", "a cat": "kites.png"}')
    with pytest.raises(UsageError) as caught:
        find_images(table, read_prompts(file), allow_missing=True)
    assert "the prompt 'a cat' comes twice, with cat.jpg and kites.png" in str(caught.value)


def test_images_belong_to_their_prompts_in_whatever_file(file, table, tmp_path, caplog):
    turned = read_prompts(write(tmp_path / "turned.jsonl", LINES[::-1]))
    assert find_images(table, turned).paths["0000"].name == "cat.jpg"
    assert not caplog.text
    less = read_prompts(write(tmp_path / "less.jsonl", LINES[1:]))
    assert find_images(table, less).is_complete
    assert "1 files of no item: kites.png" in caplog.text
    other = [LINES[0], LINES[1] | {"prompt": "a dog"}]
    with pytest.raises(UsageError, match="1 missing images: 'a dog'"):
        find_images(table, read_prompts(write(tmp_path / "other.jsonl", other)))


@pytest.mark.parametrize(("num", "has_mark"), [(799, True), (800, False)])
def test_fewer_prompts_than_published_are_marked(tmp_path, num, has_mark):
    lines = [LINES[1] | {"prompt": f"cat {i}"} for i in range(num)]
    prompts = read_prompts(write(tmp_path / "g2.jsonl", lines))
    (tmp_path / "paths.json").write_text(json.dumps({"cat 0": "cat.png"}))
    Image.new("RGB", (4, 4)).save(tmp_path / "cat.png")
    found = find_images(tmp_path / "paths.json", prompts, allow_missing=True)
    marks = marks_of(plan_of(Task(prompts, found, ScriptedJudge(p_of))).settings.values())
    mark = "PART of the benchmark: 799 of 800 prompts"
    assert [x for x in marks if x.startswith("PART")] == [mark] * has_mark
    first = "'cat 1', 'cat 2', 'cat 3', 'cat 4', 'cat 5'"
    assert f"{num - 1} missing images: {first}, and {num - 6} more" in marks[0]


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '[["a", "b"]]'])
def test_a_table_that_is_none_is_refused(file, tmp_path, text):
    path = tmp_path / "paths.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="one object, prompt to path"):
        find_images(path, read_prompts(file))


def test_a_count_is_a_word_or_a_digit():
    assert Atom("?", "seven", "count").forms == ("seven", "Seven", " seven", "7", " 7")


def test_other_answers_are_no_form_of_the_right_one():
    for answer in ("one", "seven", "Yes"):
        atom = Atom("?", answer, "count")
        assert not set(atom.forms) & set(atom.other_forms)
    assert {"Three", " 8", "none", "Many"} <= set(Atom("?", "seven", "count").other_forms)
    assert Atom("?", "Yes", "object").other_forms == ("No", "no", " No", " no")
