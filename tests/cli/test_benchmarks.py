"""MMT-Bench and GenEval from the command line, and two of their runs compared."""

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from faults.hostile_images import png_file
from uae.backends import own as loop
from uae.backends.uae import Uae
from uae.benchmarks import rewriting
from uae.benchmarks.geneval import detector as detector_module
from uae.benchmarks.geneval import run as scoring
from uae.benchmarks.geneval import task as geneval_task
from uae.benchmarks.geneval.layout import read_folder, sample_path, write_metadata
from uae.benchmarks.geneval.prompts import PromptSet, official_prompts, read_prompts
from uae.benchmarks.results.folder import SETTINGS
from uae.benchmarks.rewriting import Rewrite
from uae.core.lock import RunLock
from uae.core.provenance import weights_digest
from uae.models.unified import UnifiedAutoEncoder
from uae.runs.rows import ITEMS

TESTS = Path(__file__).parents[1]


def module_at(path: str) -> ModuleType:
    """Load a helper of another folder's tests."""
    spec = importlib.util.spec_from_file_location(Path(path).parent.name + "_helpers", TESTS / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def read_results(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


networks = module_at("benchmarks/geneval/conftest.py")
questions = module_at("benchmarks/mmt_bench/thirty_questions.py")
mask2former_folder, clip_folder = networks.mask2former_folder, networks.clip_folder

NUM_QUESTIONS = 4
LINES = official_prompts().lines
SIX = tuple(LINES[i] for i in (0, 80, 179, 259, 353, 453))


@pytest.fixture
def tsv(tmp_path) -> Path:
    return questions.write(tmp_path / "q.tsv", questions.rows(NUM_QUESTIONS))


@pytest.fixture
def mmt(tsv, random_model_folder):
    options = ("--model", random_model_folder, "--max-new-tokens", 4, "--prompt", "compact")
    return ("eval", "mmt-bench", tsv, *options, "--out", "run")


@pytest.fixture
def prompts(tmp_path) -> Path:
    path = tmp_path / "six.jsonl"
    path.write_text("".join(f"{line.metadata}\n" for line in SIX))
    return path


@pytest.fixture
def images(tmp_path, prompts) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    write_metadata(folder, PromptSet(prompts.name, SIX))
    for prompt_id in range(len(SIX)):
        pixels = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(sample_path(folder, prompt_id, 0))
    return folder


@pytest.fixture
def geneval(images, prompts, mask2former_folder, clip_folder, monkeypatch):
    monkeypatch.setattr(detector_module, "SHORT_PX", 32)
    judges = ("--detector", mask2former_folder, "--variant", "geneval-hf", "--clip", clip_folder)
    given = ("--prompts", prompts, "--num-samples", 1)
    return ("eval", "geneval", images, *judges, *given, "--out", "scored")


def scores_of(values: dict) -> dict[str, dict]:
    return {score["name"]: score for score in values["scores"]}


# -- mmt-bench ------------------------------------------------------------------------------------


def test_mmt_scores_have_intervals_and_nothing_is_asked_twice(run, mmt, monkeypatch, tmp_path):
    code, out, err = run(*mmt, "--json")
    assert code == 0
    assert f"mmt-bench {NUM_QUESTIONS}/{NUM_QUESTIONS}" in err
    values = json.loads(out)
    assert values["num_items"] == NUM_QUESTIONS
    assert values["settings"]["options"]["prompt"] == "compact"
    assert values["settings"]["model"]["options"] == {"max_new_tokens": 4}
    overall = scores_of(values)["likelihood/VAL/overall"]
    assert overall["n"] == NUM_QUESTIONS
    assert overall["low"] <= overall["value"] <= overall["high"]
    monkeypatch.setattr(Uae, "chat", None)
    code, again, err = run(*mmt, "--format", "human")
    assert code == 0
    assert "answer: letter read from the reply" in again
    assert "next  uae compare OTHER run\n" in again
    assert run(*mmt, "--json", "--predictions", tmp_path / "m.tsv")[1] == out
    lines = (tmp_path / "m.tsv").read_text().splitlines()
    assert lines[0].endswith("\tprediction")
    assert len(lines) == 1 + NUM_QUESTIONS
    code, _, err = run(*mmt, "--predictions", "m.csv")
    assert code == 2
    assert "--predictions m.csv: expected a name that ends in .tsv, .xlsx, .jsonl" in err
    code, out, err = run(*mmt, "-q")
    assert (code, err) == (0, "")
    assert all(len(line.split()) == 2 for line in out.splitlines())


def test_mmt_items_left_out_are_listed_and_the_exit_code_says_so(run, mmt, tsv):
    rows = questions.rows(NUM_QUESTIONS)
    damaged = type(rows[0])(9, rows[1].question, "no picture", "VAL")
    questions.write(tsv, [rows[0], damaged])
    code, out, err = run(*mmt, "--no-likelihood", "--allow-missing", "--json")
    assert code == 4
    assert "left out 1 of 2; they count in no score\n  9: image: " in err
    values = json.loads(out)
    assert values["num_excluded"] == 1
    assert not [name for name in scores_of(values) if name.startswith("likelihood")]


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["--out", "q.tsv"], "is a file: expected a folder"),
        (["--resume", "must"], "holds no benchmark run to resume"),
        (["--limit", "0"], "--limit"),
        (["--prompt", "other"], "--prompt"),
    ],
)
def test_mmt_refuses_what_cannot_work(run, mmt, tmp_path, tokens, said):
    kept = mmt if "--out" not in tokens else mmt[:-2]
    code, out, err = run(*kept, *tokens)
    assert (code, out) == (2, "")
    assert said in " ".join(err.replace("│", " ").split())
    assert [path.name for path in tmp_path.iterdir()] == ["q.tsv"]


def test_mmt_reads_the_file_before_it_loads_the_model(run, mmt, tsv, monkeypatch):
    monkeypatch.setattr(loop, "load", None)
    tsv.write_text("index\tquestion\n1\tWhat?\n")
    code, _, err = run(*mmt)
    assert code == 2
    assert "q.tsv" in err


def test_a_folder_that_cannot_take_the_run_is_refused_before_anything_loads(
    run, mmt, geneval, monkeypatch, tmp_path
):
    monkeypatch.setattr(loop, "load", None)
    monkeypatch.setattr(geneval_task, "load_judges", None)
    images, judged = geneval[2], ("--judge", "local:nowhere")
    prompts = ("--prompts", "none.jsonl")
    commands = [
        mmt[:-2],
        geneval[:-2],
        ("eval", "unified-bench", images, "--model", "nowhere"),
        ("eval", "caption-duel", images, "--first", "a", "--second", "b", *judged),
        ("eval", "audit", images, "--model", "nowhere", "--before", "nowhere"),
        ("eval", "dpg", images, *prompts, "--csv", "none.csv", *judged),
        ("eval", "geneval2", "none.json", *prompts, *judged),
        ("eval", "geneval-pp", images, *prompts, *judged),
    ]
    begun, foreign = tmp_path / "begun", tmp_path / "foreign"
    begun.mkdir()
    (begun / SETTINGS).write_text('{"format": "uae-bench-run-1"}')
    (begun / ITEMS).write_text("{}\n")
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("")
    for command in commands:
        for out, more, said in (
            ("none", ("--resume", "must"), "none holds no benchmark run to resume"),
            (begun, ("--resume", "never"), "holds a benchmark run: resume it"),
            (foreign, (), "is not empty and holds no benchmark run"),
        ):
            code, _, err = run(*command, "--out", out, *more)
            assert (code, said in err) == (2, True), (command, err)
        lock = RunLock(begun)
        code, _, err = run(*command, "--out", begun)
        lock.release()
        assert (code, "is in use by another run" in err) == (2, True), (command, err)
    assert not (tmp_path / "none").exists()
    assert [path.name for path in foreign.iterdir()] == ["thesis.txt"]


def test_mmt_refuses_the_folder_of_another_run(run, mmt):
    assert run(*mmt, "-q", "--limit", 1)[0] == 0
    code, out, err = run(*mmt)
    assert (code, out) == (2, "")
    assert "options.limit: 1 in the run, None now" in err
    assert run(*mmt, "--limit", 1, "--resume", "never")[0] == 2


# -- geneval --------------------------------------------------------------------------------------


def test_geneval_scores_a_folder_and_no_image_twice(run, geneval, monkeypatch, tmp_path):
    code, out, err = run(*geneval, "--json")
    assert code == 0
    assert "geneval 6/6" in err
    values = json.loads(out)
    assert values["settings"]["benchmark"] == "geneval-hf"
    official = json.loads((tmp_path / "scored/summary.json").read_text())
    assert official["is_complete"]
    overall = scores_of(values)["overall"]
    assert {key: overall[key] for key in official["overall"]} == official["overall"]
    results = read_results(tmp_path / "scored/results.jsonl")
    assert [r["prompt"] for r in results] == [line.prompt for line in SIX]
    assert official["overall"]["n"] == 6
    items = (tmp_path / "scored" / ITEMS).read_text().splitlines(keepends=True)
    (tmp_path / "scored" / ITEMS).write_text("".join(items[:4]))
    asked, real = [], scoring.score_image
    monkeypatch.setattr(scoring, "score_image", lambda *a: asked.append(a) or real(*a))
    assert run(*geneval, "--json")[1] == out
    assert len(asked) == 2
    assert read_results(tmp_path / "scored/results.jsonl") == results
    code, out, _ = run(*geneval, "--format", "human")
    assert "overall (mean of categories)" in out
    assert "next  uae compare OTHER scored\n" in out


def test_geneval_of_an_incomplete_folder_is_refused_or_marked(run, geneval, images, tmp_path):
    (images / "00003/samples/0000.png").unlink()
    (images / "00004/samples/0000.png").write_bytes(b"damaged")
    code, out, err = run(*geneval)
    assert (code, out) == (2, "")
    assert "missing samples: 00003" in err
    assert not (tmp_path / "scored").exists()
    code, out, err = run(*geneval, "--allow-missing", "--format", "human")
    assert code == 4
    assert "INCOMPLETE, no GenEval score: 1 images failed" in out
    assert "left out 1 of 5" in err
    assert "this is no GenEval score" in err
    result = json.loads((tmp_path / "scored/result.json").read_text())
    assert "overall" not in scores_of(result), "the category colors has no image"
    assert result["settings"]["options"]["is_complete"] is False
    gap = result["settings"]["options"]["gaps"]["folders with missing samples"]
    assert gap == {"num": 1, "first": ["00003 (0 of 1)"]}
    assert "1 folders with missing samples: 00003 (0 of 1)" in result["marks"][0]
    assert result["marks"][1] == "PART of the benchmark: 6 of 553 prompts"
    page = (tmp_path / "scored/report.html").read_text()
    assert '<p class="callout">INCOMPLETE, no score of the benchmark: 1 folders' in page


def test_geneval_leaves_out_an_image_that_turns_out_bad(run, geneval, images):
    rows = (b"\x09" + bytes(72)) * 24  # by a filter that does not exist, which decoding shows
    (images / "00004/samples/0000.png").write_bytes(png_file((24, 24), 8, 2, rows))
    code, out, err = run(*geneval, "--json")
    assert code == 4
    assert "samples 6/6" in err
    [left_out] = json.loads(out)["excluded"]
    assert list(left_out["items"]) == ["00004/samples/0000.png"]
    assert "its PNG data cannot be decoded" in err
    assert run(*geneval, "--json")[1] == out


@pytest.mark.parametrize(
    ("detector", "variant", "said"),
    [
        (".", "geneval", "takes mmdet's checkpoint, a .pth file"),
        ("none.pth", "geneval", "does not exist"),
        ("none.pth", "geneval-hf", "a .pth file is --variant geneval"),
        ("damaged.pth", "geneval", "is no checkpoint"),
        ("./nowhere", "geneval-hf", "--detector ./nowhere cannot be loaded"),
        ("text.pth", "geneval", "--detector text.pth: text.pth is no checkpoint"),
        ("list.pth", "geneval", "--detector list.pth: list.pth holds list"),
        ("cut", "geneval-hf", "--detector cut: cut/model.safetensors is damaged or incomplete"),
    ],
)
def test_geneval_refuses_a_detector_that_is_none(
    run, images, prompts, mask2former_folder, tmp_path, detector, variant, said
):
    (tmp_path / "damaged.pth").write_bytes(b"damaged")
    (tmp_path / "text.pth").write_text("error: not found\n")
    torch.save({"state_dict": [1]}, tmp_path / "list.pth")
    shutil.copytree(mask2former_folder, tmp_path / "cut")
    os.truncate(tmp_path / "cut/model.safetensors", 1000)
    command = ("eval", "geneval", images, "--detector", detector, "--variant", variant)
    given = ("--prompts", prompts, "--num-samples", 1, "--out", "scored")
    code, out, err = run(*command, *given)
    assert (code, out) == (2, "")
    assert said in err
    assert not (tmp_path / "scored").exists()


def test_the_digest_of_weights_sees_names_and_values():
    from torch import nn

    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.load_state_dict(first.state_dict())
    assert weights_digest(first) == weights_digest(second)
    second.bias.data[0] += 1
    assert weights_digest(first) != weights_digest(second)


# -- geneval-images -------------------------------------------------------------------------------


def test_images_are_drawn_in_the_official_layout_and_kept(
    run, prompts, random_model_folder, tmp_path
):
    command = ("eval", "geneval-images", "--model", random_model_folder, "--prompts", prompts)
    command = (*command, "--num-samples", 2, "--out", "drawn")
    code, out, err = run(*command, "--json", "--batch-size", 5)
    assert code == 0
    assert "drawing 12/12" in err
    assert json.loads(out)["num_drawn"] == 12
    found = read_folder(tmp_path / "drawn", read_prompts(prompts), 2)
    assert len(found.samples) == 12
    before = {sample.path: sample.path.read_bytes() for sample in found.samples}
    assert len(set(before.values())) == 12, "two samples share their noise"
    torn, gone = found.samples[3].path, found.samples[7].path
    torn.write_bytes(before[torn][:40])
    gone.unlink()
    code, out, _ = run(*command, "--format", "human", "--batch-size", 1)
    assert code == 0
    assert "drawn   2, 10 kept" in out
    assert "next    uae eval geneval drawn --detector" in out
    for path, data in before.items():
        old, new = (np.asarray(Image.open(p), dtype=int) for p in (_saved(tmp_path, data), path))
        assert np.abs(old - new).max() <= 1, "noise depends on the batch"
    code, out, err = run(*command, "--seed", 1)
    assert (code, out) == (2, "")
    assert "seed: 0 in the run, 1 now" in err


def test_prompts_are_drawn_in_the_encoders_words_and_scored_as_such(
    run, prompts, random_model_folder, geneval, tmp_path, monkeypatch
):
    written = {line.prompt: f"{line.prompt} on a table" for line in SIX}
    written[SIX[2].prompt] = ""
    given = ("--model", random_model_folder, "--prompts", prompts, "--num-samples", 1)
    command = ("eval", "geneval-images", *given, "--out", "drawn", "--rewrite")
    monkeypatch.setattr(
        rewriting, "_rewrite", lambda _, prompt, __: Rewrite(prompt, written[prompt], False)
    )
    drawn, real = [], UnifiedAutoEncoder.condition
    monkeypatch.setattr(
        UnifiedAutoEncoder, "condition", lambda self, x: drawn.extend(x) or real(self, x)
    )
    code, out, err = run(*command, "--json")
    assert code == 4
    assert "rewriting 6/6" in err
    said = "left out 1 of 6 prompts: the encoder's rewrite is empty"
    assert f"{said}\n  {SIX[2].prompt}\n" in err
    values = json.loads(out)
    assert (values["num_drawn"], values["num_left_out"], values["num_truncated"]) == (5, 1, 0)
    assert drawn == [text for text in written.values() if text]
    assert not (tmp_path / "drawn/00002/samples/0000.png").exists()
    assert run(*command, "--format", "human")[1].count("drawn   0, 5 kept, 1 left out") == 1
    code, _, err = run(*command[:-1])
    assert code == 2
    assert "wording: rewritten by the encoder in the run, absent now" in err

    monkeypatch.setattr(detector_module, "SHORT_PX", 64)  # its square would be one cell of 32
    scorer = [tmp_path / "drawn" if token == geneval[2] else token for token in geneval]
    code, out, _ = run(*scorer, "--allow-missing", "--json")
    assert code == 4
    options = json.loads(out)["settings"]["options"]
    assert options["wording"] == "rewritten by the encoder"
    origin = json.loads((tmp_path / "drawn/images.json").read_text())
    assert options["drawn_by"] == {key: origin[key] for key in ("model", "model_sha256", "seed")}
    summary = json.loads((tmp_path / "scored/summary.json").read_text())
    assert summary["instruction"] == rewriting.INSTRUCTION
    code, out, _ = run(*scorer, "--allow-missing", "--format", "human")
    assert "geneval-hf, prompts 'six.jsonl', rewritten by the encoder\n" in out


def _saved(folder: Path, data: bytes) -> Path:
    path = folder / "before.png"
    path.write_bytes(data)
    return path


def test_images_are_not_drawn_among_other_files(run, random_model_folder, prompts, tmp_path):
    command = ("eval", "geneval-images", "--model", random_model_folder, "--prompts", prompts)
    code, out, err = run(*command, "--out", ".")
    assert (code, out) == (2, "")
    assert "was not written by this command" in err
    code, _, err = run("eval", "geneval-images", "--model", ".", "--out", "drawn")
    assert code == 2
    assert "no uae.json" in err
    assert [path.name for path in tmp_path.iterdir()] == [prompts.name]


# -- compare --------------------------------------------------------------------------------------


def test_two_runs_are_compared(run, mmt, tmp_path):
    assert run(*mmt, "-q")[0] == 0
    other = (*mmt[:-1], "other")
    assert run(*other, "-q", "--limit", 2)[0] == 0
    code, out, err = run("compare", "run", "other")
    assert (code, out) == (2, "")
    assert "the runs have different items" in err
    command = ("compare", "run", "other", "--allow-different-items")
    code, out, err = run(*command, "--json")
    assert (code, err) == (0, "")
    values = json.loads(out)
    assert values["num_items"] == 2
    assert all(score["difference"]["value"] in (0.0, None) for score in values["scores"])
    code, out, _ = run(*command, "--format", "human")
    assert "2 items that both runs have\n" in out
    assert "answer/VAL/overall" in out
    assert "answer/VAL/overall 0.0\n" in run(*command, "-q")[1]


def test_what_cannot_be_compared(run, mmt, geneval, tmp_path):
    assert run(*mmt, "-q")[0] == 0
    code, _, err = run("compare", "run", "missing")
    assert code == 2
    assert "holds no result.json" in err
    assert run(*geneval, "-q")[0] == 0
    code, _, err = run("compare", "run", "scored")
    assert code == 2
    assert "only runs of one benchmark" in err
