"""MMT-Bench from the command line on models of others, and over files with damaged images."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.stub_endpoint import fault, refusing, said, stub
from uae.backends import own as loop
from uae.backends.transformers import Transformers
from uae.data.questions import Question, QuestionRow, encode_image, write_tsv
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image

TOP = {"A": -0.1, "B": -3.0}


def questions(num: int = 3) -> list[QuestionRow]:
    return [
        QuestionRow(
            i,
            Question(f"What is in picture {i}?", ("a circle", "a bar"), "AB"[i % 2], "c", "ocr"),
            encode_image(render_image(scene_at(i, "test"), 64)),
            "VAL",
        )
        for i in range(num)
    ]


@pytest.fixture
def tsv(tmp_path) -> Path:
    path = tmp_path / "q.tsv"
    write_tsv(path, questions())
    return path


@pytest.fixture
def damaged(tmp_path) -> Path:
    first, *others = questions()
    path = tmp_path / "damaged.tsv"
    write_tsv(path, [first, replace(others[0], image="no picture"), *others[1:]])
    return path


def asking(tsv: Path, model: object, out: str = "run") -> tuple[object, ...]:
    options = ("--max-new-tokens", 4, "--out", out, "--json")
    return ("eval", "mmt-bench", tsv, "--model", model, *options)


def test_a_model_of_transformers_is_stamped_by_its_weights_and_compared(
    run, tsv, random_model_folder, monkeypatch, tmp_path
):
    theirs = tmp_path / "theirs"
    shutil.copytree(random_model_folder / "encoder", theirs)
    code, out, err = run(*asking(tsv, f"vlm:{theirs}"), "--dtype", "bfloat16")
    assert code == 0, err
    model = json.loads(out)["settings"]["model"]
    assert (model["name"], model["dtype"], model["backend"]) == (
        str(theirs),
        "bfloat16",
        "vlm, cpu",
    )
    assert model["options"] == {"max_new_tokens": 4}
    assert set(model["files"]) == {"weights"}
    assert {x["sample"] for x in json.loads(out)["scores"]} == {"answer", "likelihood", "parsed"}
    assert run(*asking(tsv, random_model_folder, "ours"))[0] == 0
    assert run("compare", "run", "ours", "--json")[0] == 0
    # another run is refused before anything is loaded, and one that is done loads nothing
    monkeypatch.setattr(Transformers, "from_pretrained", None)
    monkeypatch.setattr(loop, "load", None)
    assert run(*asking(tsv, f"vlm:{theirs}"), "--dtype", "bfloat16")[:2] == (0, out)
    for other in (asking(tsv, f"vlm:{theirs}"), asking(tsv, random_model_folder)):
        code, _, err = run(*other)
        assert (code, "run is a run with other settings" in err) == (2, True)
    (theirs / "config.json").write_text((theirs / "config.json").read_text() + "\n")
    code, _, err = run(*asking(tsv, f"vlm:{theirs}"), "--dtype", "bfloat16")
    assert (code, "model.files.weights" in err) == (2, True)


def test_our_model_has_one_name_with_and_without_its_kind(run, tsv, random_model_folder):
    code, out, _ = run(*asking(tsv, random_model_folder))
    assert code == 0
    model = json.loads(out)["settings"]["model"]
    assert model["name"] == str(random_model_folder)
    assert model["dtype"] == "float32"
    assert model["backend"].startswith("transformers, Qwen2VLImageProcessor")
    assert "encoder/model.safetensors" in model["files"]
    assert run(*asking(tsv, f"uae:{random_model_folder}"))[:2] == (0, out)


def test_an_address_is_asked_once_a_question_and_goes_on_where_it_stopped(run, tsv):
    down = {"picture 1?"}

    def answer(_path, body):
        is_down = any(what in json.dumps(body) for what in down)
        return fault(400, "two images at most") if is_down else said("A", top=TOP)

    with stub(answer) as server:
        command = asking(tsv, f"endpoint:gpt@{server.url}")
        code, out, err = run(*command)
        assert code == 4
        assert "1: model: not accepted: Error code: 400 - two images at most" in err
        result = json.loads(out)
        assert result["settings"]["model"]["name"] == f"gpt@{server.url}"
        assert result["settings"]["model"]["backend"] == "endpoint"
        scores = {x["name"]: x for x in result["scores"]}
        assert (scores["likelihood/VAL/overall"]["n"], scores["answer/VAL/overall"]["n"]) == (2, 2)
        assert len(server.asked) == 3
        down.clear()
        assert run(*command, "--retry-failed")[0] == 0
        assert len(server.asked) == 4
        code, _, err = run(*asking(tsv, f"endpoint:other@{server.url}"))
        assert (code, "model.name: gpt@" in err) == (2, True)
        assert len(server.asked) == 4


def test_what_an_address_refuses_stands_in_the_result_of_a_run_that_was_stopped_too(run, tsv):
    refused = refusing("temperature", answer=said("A"))

    def answer(path, body):
        return fault(401) if "picture 2?" in json.dumps(body) else refused(path, body)

    with stub(answer) as server:
        command = (*asking(tsv, f"endpoint:gpt@{server.url}"), "--no-likelihood")
        assert run(*command)[0] == 2
        server.answer = lambda *_: said("A")
        code, out, _ = run(*command)
        text = run(*(x for x in command if x != "--json"), "--format", "human")[1]
    assert code == 0
    result = json.loads(out)
    assert result["refused"] == [{"model": "gpt", "base_url": server.url, "param": "temperature"}]
    part, mark = result["marks"]
    assert part.startswith("PART")
    assert mark == (
        f"NOT REPEATABLE: gpt at {server.url} refuses temperature, and its answers are drawn at "
        "random"
    )
    assert mark in Path("run/report.html").read_text()
    assert mark in text.splitlines()
    assert f"second: {mark}" in run("compare", "run", "run", "--format", "human")[1]


def test_requests_that_never_fit_end_the_run_until_one_has_fitted(run, tmp_path):
    write_tsv(tmp_path / "q.tsv", questions(8))
    refused = [fault(400)] * 6

    def answer(_, body):
        return refused.pop() if refused and "messages" in body else said("A")

    with stub(answer) as server:
        command = (*asking(tmp_path / "q.tsv", f"endpoint:gpt@{server.url}"), "--no-likelihood")
        code, _, err = run(*command)
        assert (code, "5 items running failed" in err) == (1, True)
        assert run(*command)[0] == 4
        refused.extend([fault(400)] * 6)
        code, out, _ = run(*command, "--retry-failed")  # something was answered before
        assert (code, json.loads(out)["num_excluded"]) == (4, 6)


@pytest.fixture
def too_large(monkeypatch):
    """Has questions with these words fail for want of memory, as a GPU does."""
    chat, chosen = Transformers.chat, []

    def reply(self, images, text, **options):
        if any(word in text for word in chosen):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried 9 GiB. Including what else")
        return chat(self, images, text, **options)

    monkeypatch.setattr(Transformers, "chat", reply)
    return chosen


def test_a_question_too_large_for_the_memory_is_left_out_and_five_running_end_the_run(
    run, tmp_path, random_model_folder, too_large
):
    command = asking(tmp_path / "nine.tsv", f"vlm:{random_model_folder}")
    write_tsv(tmp_path / "nine.tsv", questions(9))
    too_large += [f"picture {i}?" for i in range(2, 9)]
    code, _, err = run(*command)
    assert code == 1
    assert "6 last (model: out of memory: CUDA out of memory. Tried 9 GiB.);" in err
    too_large[:] = ["picture 3?"]
    code, out, _ = run(*command, "--retry-failed")
    assert code == 4
    assert json.loads(out)["excluded"] == [
        {
            "reason": "model: out of memory",
            "num_items": 1,
            "items": {"3": "CUDA out of memory. Tried 9 GiB."},
        }
    ]
    too_large.clear()
    assert run(*command, "--retry-failed")[0] == 0


@pytest.mark.parametrize(
    ("error", "code", "fault"),
    [
        (ImportError("install num2words"), 3, "needs a package that is not installed: install num"),
        (ValueError("requires `torchvision`"), 3, "needs a package that is not installed: req"),
        (ValueError("bert"), 2, "is no vision-language model: bert"),
    ],
)
def test_what_keeps_a_model_from_loading_is_told_apart(run, tsv, monkeypatch, error, code, fault):
    def from_pretrained(*_):
        raise error

    monkeypatch.setattr(Transformers, "from_pretrained", from_pretrained)
    found, _, err = run(*asking(tsv, "vlm:."))
    assert (found, f"--model vlm:. {fault}" in err) == (code, True), err


def test_an_address_is_asked_as_often_and_with_the_key_that_the_flags_say(run, tsv, monkeypatch):
    monkeypatch.setenv("THEIR_KEY", "abc")
    with stub(lambda _, body: fault(500) if "messages" in body else {}) as server:
        command = (*asking(tsv, f"endpoint:gpt@{server.url}"), "--no-likelihood")
        assert run(*command, "--tries", 1, "--key-env", "THEIR_KEY")[0] == 4
        assert len(server.asked) == 3  # questions
        assert set(server.keys) == {"Bearer abc"}


def test_a_folder_in_which_nothing_was_done_may_become_another_run(run, tsv, tmp_path):
    command = asking(tsv, f"vlm:{tmp_path}")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    code, _, err = run(*command)
    assert (code, "is no vision-language model" in err) == (2, True)
    assert run(*asking(tsv, "uae-tiny"))[0] == 0


def test_an_address_that_is_down_ends_the_run(run, tmp_path):
    write_tsv(tmp_path / "q.tsv", questions(7))
    with stub(lambda *_: fault(429)) as server:
        code, out, err = run(*asking(tmp_path / "q.tsv", f"endpoint:gpt@{server.url}"))
    assert (code, out) == (1, "")
    assert "5 items running failed, 4 last (model: rate limited" in err
    assert "repeat the command with --retry-failed" in err


def test_an_address_without_log_probabilities_names_the_flag(run, tsv):
    with stub(lambda *_: said("A")) as server:
        model = f"endpoint:gpt@{server.url}"
        code, _, err = run(*asking(tsv, model))
        assert (code, "--no-likelihood" in err) == (2, True)
        assert run(*asking(tsv, model, "words"), "--no-likelihood")[0] == 0


@pytest.mark.parametrize(
    ("model", "options", "fault"),
    [
        ("", (), "--model uae:: expected one of uae:..., vlm:..., endpoint:..."),
        ("vlm:", (), "--model vlm:: expected one of"),
        ("nowhere", (), "--model uae:nowhere is no model folder"),
        ("vlm:./nowhere", (), "--model vlm:./nowhere cannot be loaded"),
        ("endpoint:gpt", (), "expected endpoint:MODEL@URL"),
        ("endpoint:gpt@http://127.0.0.1:9/v1", (), "does not answer"),
        ("uae-tiny", ("--dtype", "bfloat16"), "--dtype bfloat16 is for vlm or diffusers models"),
        ("uae-tiny", ("--dtype", "int8"), "--dtype"),
    ],
)
def test_bad_input_names_the_flag_and_what_would_be_right(
    run, tsv, model, options, fault, tmp_path
):
    code, out, err = run(*asking(tsv, model), *options)
    assert (code, out) == (2, "")
    assert fault in " ".join(err.replace("│", " ").split())
    assert not (tmp_path / "run").exists()


# -- images that do not decode --------------------------------------------------------------------


def test_a_score_over_damaged_images_is_refused_unless_asked_for_and_then_marked(
    run, damaged, random_model_folder, monkeypatch
):
    asked = asking(damaged, random_model_folder)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "load", None)
        code, out, err = run(*asked)
    assert (code, out) == (2, "")
    assert "damaged.tsv: not all of 3 questions can be asked" in err
    assert "index 1: damaged: 'no picture' is no base64" in err
    assert "--allow-missing" in err
    assert not Path("run").exists()
    code, out, err = run(*asked, "--allow-missing")
    assert code == 4
    assert "left out 1 of 3" in err
    mark = "INCOMPLETE, no score of the benchmark: 1 questions without a readable image: 1"
    assert json.loads(out)["marks"][0] == mark
    assert mark in Path("run/report.html").read_text()
    assert mark in run(*asked[:-1], "--format", "human", "--allow-missing")[1]
    code, out, _ = run("compare", "run", "run", "--format", "human")
    assert f"first: {mark}" in out


def test_an_audit_asks_no_damaged_question_unless_allowed(
    run, damaged, photos, random_model_folder
):
    models = ("--model", random_model_folder, "--before", random_model_folder)
    backbone = ("--backbone", f"clip={random_model_folder.with_name('clip')}")
    auditing = ("eval", "audit", photos, *models, *backbone, "--questions", damaged, "--out", "run")
    code, _, err = run(*auditing)
    assert (code, "index 1: damaged" in err) == (2, True)
    assert not Path("run").exists()
    code, out, err = run(*auditing, "--allow-missing", "--format", "human")
    assert code == 4
    assert "INCOMPLETE" in out
    assert "understanding question 1: image: damaged" in err
    result = json.loads(Path("run/result.json").read_text())
    gap = {"num": 1, "first": ["1"]}
    assert result["settings"]["options"]["gaps"] == {"questions without a readable image": gap}
