"""Unified-Bench from the command line: halves by name, bad input, and its pages."""

import json

import pytest

from uae.data.captions_file import CaptionRow, CaptionsWriter
from uae.eval.scene_folder import QUESTIONS, write_scenes


@pytest.fixture
def backbones(random_model_folder):
    folders = {name: random_model_folder.with_name(name) for name in ("clip", "dinov2")}
    return [x for name, folder in folders.items() for x in ("--backbone", f"{name}={folder}")]


@pytest.fixture
def bench(photos, random_model_folder, backbones):
    return ("eval", "unified-bench", photos, "--model", random_model_folder, *backbones)


def test_a_run_ends_with_scores_and_a_page_and_goes_on_with_the_same_command(run, bench, tmp_path):
    code, out, _ = run(*bench, "--out", "run", "--json")
    assert code == 0
    result = json.loads(out)
    names = [score["name"] for score in result["scores"]]
    assert names == ["clip", "dinov2", "overall", "tokens"]
    assert result["num_items"] == 3
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert set(result["settings"]["model"]["files"]) == {"captioner/weights", "generator/weights"}
    assert run(*bench, "--out", "run", "--json")[1] == out
    code, _, err = run(*bench, "--out", "run", "--seed", 1)
    assert code == 2
    assert "run with other settings" in err


def test_captions_of_somebody_else_are_redrawn_and_cut(run, bench, photos, tmp_path):
    captions = tmp_path / "theirs.jsonl"
    with CaptionsWriter(captions) as writer:
        for name in ("a.png", "b.jpg"):
            writer.append(CaptionRow(image=name, caption="A red circle on a gray background."))
    curve = ("--curve", "cut", "--budgets", 2, "--budgets", 4)
    code, out, err = run(
        *bench, "--captioner", f"file:{captions}", *curve, "--out", "run", "--json"
    )
    assert code == 4
    assert "left out 1 of 3" in err
    assert "sub/c.webp: the captions file has no caption for it" in err
    scores = {x["name"]: x for x in json.loads(out)["scores"]}
    assert scores["cut area"]["n"] == 2
    assert scores["cut-2 tokens"]["value"] == 2


def test_without_backbones_the_models_own_are_taken(run, photos, random_model_folder):
    model = ("--model", random_model_folder)
    code, out, _ = run("eval", "unified-bench", photos, *model, "--out", "run", "--json")
    assert code == 0
    result = json.loads(out)
    assert [score["name"] for score in result["scores"]][:2] == ["clip", "dinov2"]
    assert result["settings"]["benchmark"] == "unified-bench-other-backbones"


def test_hidden_states_are_another_benchmark(run, bench):
    code, out, _ = run(*bench, "--hidden-states", "--out", "run", "--json")
    assert code == 0
    name = "unified-bench-hidden-states-other-backbones"
    assert json.loads(out)["settings"]["benchmark"] == name


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (("--captioner", "gpt-4o"), "--captioner gpt-4o: expected one of uae:..., vlm:..."),
        (("--generator", "uae:nowhere"), "--generator uae:nowhere is no model folder"),
        (("--generator", "folder:nowhere"), "nowhere is no folder"),
        (("--captioner", "file:none.jsonl"), "--captioner file:none.jsonl does not exist"),
        (("--captioner", "endpoint:x"), "expected endpoint:MODEL@URL"),
        (("--captioner", "vlm:nowhere"), "--captioner nowhere cannot be loaded"),
        (("--backbone", "resnet"), "--backbone resnet: expected clip, longclip"),
        (("--backbone", "clip=elsewhere"), "expected a name that no other one has"),
        (("--backbone", "other=nowhere"), "--backbone other=nowhere cannot be loaded"),
        (("--backbone", "x=dreamsim:vgg"), "dreamsim:vgg: expected one of dreamsim:ensemble"),
        (("--curve", "cut", "--budgets", 8), "budgets 8: expected at least two"),
        (("--hidden-states", "--captioner", "uae:uae-tiny"), "expected one uae model for both"),
    ],
)
def test_bad_input_names_the_flag_and_what_would_be_right(run, bench, options, fault, tmp_path):
    code, _, err = run(*bench, *options, "--out", "run")
    assert code == 2
    assert fault in err
    assert (
        not (tmp_path / "run" / "items.jsonl").exists()
        or (tmp_path / "run" / "items.jsonl").read_bytes() == b""
    )


def test_a_curve_of_strangers_needs_a_tokenizer(run, photos, backbones, tmp_path):
    captions = tmp_path / "theirs.jsonl"
    captions.write_text("")
    code, _, err = run(
        "eval",
        "unified-bench",
        photos,
        *("--captioner", f"file:{captions}", "--generator", f"folder:{photos}"),
        *backbones,
        *("--curve", "cut", "--out", "run"),
    )
    assert code == 2
    assert "give --tokenizer" in err


def test_a_judge_without_verdicts_is_counted_and_gives_no_score(
    run, photos, random_model_folder, tmp_path
):
    for name in ("one", "two"):
        with CaptionsWriter(tmp_path / f"{name}.jsonl") as writer:
            for image in ("a.png", "b.jpg", "sub/c.webp"):
                writer.append(CaptionRow(image=image, caption=f"{name} circle"))
    code, out, err = run(
        *("eval", "caption-duel", photos, "--first", "one.jsonl", "--second", "two.jsonl"),
        *("--judge", f"local:{random_model_folder}", "--out", "run", "--json"),
    )
    assert code == 4
    assert "left out 3 of 3" in err
    assert "judge: not the form asked for" in err
    assert json.loads(out)["scores"][0]["n"] == 0


@pytest.fixture
def auditing(photos, random_model_folder, backbones):
    models = ("--model", random_model_folder, "--before", random_model_folder)
    return ("eval", "audit", photos, *models, *backbones)


def test_a_model_audited_against_itself_gives_no_alarm(run, auditing):
    code, out, _ = run(*auditing, "--out", "run", "--json")
    assert code == 0
    values = {x["name"]: x["value"] for x in json.loads(out)["scores"]}
    cells = {x for name, x in values.items() if name.endswith("decoder: clip")}
    assert len(cells) == 1
    assert json.loads(out)["settings"]["options"]["reward"] == ["clip"]


def test_an_audit_asks_both_sides_questions_and_is_taken_up_again(run, auditing, tmp_path):
    write_scenes(tmp_path / "scenes", 12, "test", seed=0, size_px=64, questions_per_subtask=1)
    asking = (*auditing, "--questions", tmp_path / "scenes" / QUESTIONS, "--out", "run", "--json")
    code, first, err = run(*asking)
    assert code == 0, err
    for side in ("before", "after"):
        result = json.loads((tmp_path / "run" / "questions" / side / "result.json").read_text())
        assert result["num_items"] == 5
    audits = json.loads((tmp_path / "run" / "audits.json").read_text())
    [understanding] = (audit for audit in audits if audit["name"] == "Understanding")
    assert understanding["status"] != "not measured"
    assert run(*asking)[:2] == (code, first)


def test_a_reward_that_is_no_backbone_is_refused(run, auditing):
    code, _, err = run(*auditing, "--reward", "dino", "--out", "run")
    assert code == 2
    assert "--reward dino: expected one of clip, dinov2" in err
