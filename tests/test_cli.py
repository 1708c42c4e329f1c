"""The command line: what goes to stdout, what to stderr, and the exit codes."""

import errno
import gc
import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from transformers.utils.logging import disable_progress_bar, enable_progress_bar

from uae import cli
from uae.commands import loop
from uae.data.scenes.graph import scene_at
from uae.data.scenes.render import render_image
from uae.errors import EnvironmentFault, NonFinite, Stopped

VERBS = ["train", "caption", "draw", "reconstruct", "report", "bases", "doctor"]


@pytest.fixture(autouse=True)
def _as_in_a_process_of_its_own(tmp_path, monkeypatch):
    """Work in an empty folder; put back what a command sets for its process."""
    monkeypatch.chdir(tmp_path)
    for variable in [v for v in os.environ if v.startswith("UAE_")]:
        monkeypatch.delenv(variable)
    # a command sets these by variables, which are read when the libraries are imported
    for variable in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        monkeypatch.setenv(variable, "error")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    disable_progress_bar()
    logger = logging.getLogger("uae")
    before = (logger.handlers, logger.level)
    yield
    logger.handlers, logger.level = before
    enable_progress_bar()
    gc.unfreeze()


@pytest.fixture
def photos(tmp_path) -> Path:
    """Three images, one of them in a subfolder, beside what else lies in folders."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for i, name in enumerate(("a.png", "b.jpg", "sub/c.webp")):
        render_image(scene_at(i, "test"), 96).save(folder / name)
    (folder / "notes.txt").write_text("not an image")
    return folder


def run(capsys, *tokens: object) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr."""
    code = cli.run([str(token) for token in tokens])
    out, err = capsys.readouterr()
    return code, out, err


def json_lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


# -- help -----------------------------------------------------------------------------------------


def test_help_of_every_verb_loads_no_torch():
    script = (
        "import sys; from uae.cli import run\n"
        f"for verb in {VERBS}: assert not run([verb, '--help'])\n"
        "assert not run(['--help'])\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'peft', 'scipy', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--encoder-rl.kl-beta float" in done.stdout


def test_help_answers_at_once():
    """Under a second on a machine that has nothing else to do; three allow for a busy one."""

    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "uae", "train", "--help"], check=True, stdout=-3)
        return time.perf_counter() - start

    assert any(seconds() < 3 for _ in range(3))


@pytest.mark.parametrize("verb", VERBS)
def test_help_begins_with_an_example_and_ends_with_what_is_next(capsys, verb):
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0
    if verb != "bases":
        assert f"uae {verb}" in out.split("Try:")[1]
        assert "Next: uae" in out
    assert "\x1b" not in out, "colour in a pipe"


# -- usage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["captoin", "a.jpg"], 'Did you mean "caption"?'),
        (["caption", "a.jpg", "--sed", "1"], "Did you mean --seed?"),
        (["caption", "a.jpg", "--seed", "x"], "--seed"),
        (["caption", "a.jpg", "--temperature", "-1"], "--temperature"),
        (["caption"], "requires an argument"),
        (["caption", "missing.jpg"], "missing.jpg does not exist"),
        (["caption", "."], "holds no images"),
        (["reconstruct", "-"], "- for stdin is for one image"),
        (["draw", " "], "the caption is empty"),
        (["draw", "A bar.", "--out", "a.gif"], "expected a file that ends in"),
        (["report", "."], "expected a folder written by `uae train`"),
        (["train"], "no recipe: give --recipe with a YAML file or one of"),
        (["train", "--recipe", "demo"], "give --out"),
        (["train", "--recipe", "demo", "--out", "r", "--sched", "joint"], "mean --schedule?"),
        (["train", "--recipe", "demo", "--out", "r", "--data", "none"], "none does not exist"),
        (["train", "--recipe", "demo", "--out", "r", "--model", "no"], "no uae.json in no"),
        (["train", "--recipe", "demo", "--out", "r", "--overwrit"], "did you mean --overwrite?"),
        (["doctor", "--json", "-q"], "give one"),
    ],
)
def test_what_cannot_work_ends_with_2_and_one_message(capsys, tmp_path, tokens, said):
    code, out, err = run(capsys, *tokens)
    assert code == 2
    assert out == ""
    assert said in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir()), "something was left behind"


def test_a_model_that_is_none(capsys, photos):
    code, out, err = run(capsys, "caption", photos, "--model", photos)
    assert (code, out) == (2, "")
    assert "uae.json" in err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (NonFinite("loss of step 3 is nan"), 1, "error: loss of step 3 is nan\n"),
        (EnvironmentFault("no GPU"), 3, "error: no GPU\n"),
        (Stopped("saved", signal.SIGTERM), 143, "saved\n"),
        (OSError(errno.ENOSPC, "No space left", "x.png"), 3, "error: x.png: no space left\n"),
        (PermissionError(errno.EACCES, "Denied", "x.png"), 3, "error: x.png: denied\n"),
        (FileNotFoundError(errno.ENOENT, "Not there", "x.png"), 2, "error: x.png: not there\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
        (ValueError("seed 1: too odd"), 2, "error: seed 1: too odd\n"),
    ],
)
def test_every_error_has_its_code_and_says_its_message_alone(
    capsys, photos, monkeypatch, error, code, said
):
    def fail(*_):
        raise error

    monkeypatch.setattr(loop, "load", fail)
    assert run(capsys, "caption", photos) == (code, "", said)
    if isinstance(error, Exception):
        assert "Traceback" in run(capsys, "caption", photos, "-v")[2]


# -- recipes --------------------------------------------------------------------------------------


def test_print_config_prints_the_whole_recipe_and_does_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("UAE_SEED", "5")
    code, out, err = run(capsys, "train", "--recipe", "demo", "--print-config", "--schedule=joint")
    assert (code, err) == (2, err), "the demo's sides have different numbers of steps"
    assert "joint" in err
    command = ("train", "--recipe", "demo", "--print-config", "--encoder-rl.kl-beta", "0.5")
    code, out, err = run(capsys, *command)
    assert (code, err) == (0, "")
    assert "seed: 5\n" in out
    assert "kl_beta: 0.5\n" in out
    (tmp_path / "again.yaml").write_text(out)
    monkeypatch.delenv("UAE_SEED")
    assert run(capsys, "train", "--recipe", "again.yaml", "--print-config")[1] == out
    code, out, _ = run(capsys, *command, "--json")
    assert json.loads(out)["encoder_rl"]["kl_beta"] == 0.5


def test_a_run_goes_on_by_its_own_recipe(capsys, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("seed: 77\n")
    _, out, _ = run(capsys, "train", "--out", "run", "--print-config")
    assert "seed: 77\n" in out


# -- caption --------------------------------------------------------------------------------------


def test_one_image_gives_its_caption_alone(capsys, photos, random_model_folder):
    code, out, err = run(capsys, "caption", photos / "a.png", "--model", random_model_folder)
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    assert "{" not in out
    command = ("caption", photos / "a.png", "--model", random_model_folder, "--json")
    [row] = json_lines(run(capsys, *command)[1])
    assert row["caption"] == out.strip()
    assert row["num_tokens"] > 0


def test_an_image_on_stdin(capsys, photos, random_model_folder, monkeypatch):
    stdin = io.TextIOWrapper(io.BytesIO((photos / "a.png").read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    code, out, _ = run(capsys, "caption", "-", "--model", random_model_folder)
    assert code == 0
    assert out.strip()


def test_a_folder_gives_json_lines_that_do_not_depend_on_the_batch(
    capsys, photos, random_model_folder
):
    command = ("caption", photos, "--model", random_model_folder)
    code, out, err = run(capsys, *command)
    rows = json_lines(out)
    assert code == 0
    assert [row["image"] for row in rows] == ["a.png", "b.jpg", "sub/c.webp"]
    assert "captioned 3, 1 other files ignored" in err
    assert json_lines(run(capsys, *command, "--batch-size", "1")[1]) == rows
    [alone] = json_lines(run(capsys, "caption", photos / "a.png", *command[2:], "--json")[1])
    assert alone["caption"] == rows[0]["caption"]


def test_a_job_that_stopped_goes_on_and_gives_the_same(capsys, photos, random_model_folder):
    command = ("caption", photos, "--model", random_model_folder, "--out")
    code, out, _ = run(capsys, *command, "whole.jsonl")
    assert (code, out) == (0, "")
    whole = Path("whole.jsonl").read_text()
    first = whole.splitlines(keepends=True)[0]
    Path("cut.jsonl").write_text(first + whole[len(first) :][:20])
    code, _, err = run(capsys, *command, "cut.jsonl")
    assert code == 0
    assert "captioned 2, 1 done before" in err
    assert Path("cut.jsonl").read_text() == whole


def test_captions_of_two_seeds_are_not_mixed(capsys, photos, random_model_folder):
    command = ("caption", photos, "--model", random_model_folder, "--out", "x.jsonl")
    run(capsys, *command)
    before = Path("x.jsonl").read_text()
    code, _, err = run(capsys, *command, "--seed", "1")
    assert code == 2
    assert "with seed 0, not by" in err
    assert Path("x.jsonl").read_text() == before


def test_unreadable_files_are_left_out_counted_and_listed(capsys, photos, random_model_folder):
    (photos / "empty.jpg").touch()
    (photos / "cut.png").write_bytes((photos / "a.png").read_bytes()[:60])
    (photos / "text.jpg").write_text("no image")
    code, out, err = run(capsys, "caption", photos, "--model", random_model_folder)
    assert code == 4
    assert len(json_lines(out)) == 3
    assert "captioned 3, left out 3" in err
    assert "empty.jpg: empty file" in err
    assert "cut.png: truncated" in err
    assert "text.jpg: not an image" in err
    code, out, _ = run(capsys, "caption", photos / "empty.jpg", "--model", random_model_folder)
    assert (code, out) == (4, "")


# -- draw -----------------------------------------------------------------------------------------


def test_draw_prints_the_path_alone(capsys, random_model_folder):
    code, out, err = run(capsys, "draw", "A red circle.", "--model", random_model_folder)
    assert (code, out, err) == (0, "a-red-circle-0.png\n", "")
    assert Image.open("a-red-circle-0.png").size == (64, 64)


def test_draw_is_a_function_of_caption_seed_and_settings(capsys, random_model_folder):
    def drawn(*options: str) -> bytes:
        command = ("draw", "A bar.", "--model", random_model_folder, "--out", "x/y.png")
        assert run(capsys, *command, *options)[0] == 0
        return Path("x/y.png").read_bytes()

    first = drawn()
    assert drawn() == first
    assert drawn("--seed", "1") != first
    assert drawn("--steps", "5") != first
    assert drawn("--guidance-scale", "3") != first


def test_an_overlong_caption_is_drawn_and_said(capsys, random_model_folder, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("a red circle " * 200))
    command = ("draw", "-", "--model", random_model_folder, "--json", "--out", "x.png")
    code, out, err = run(capsys, *command)
    values = json.loads(out)
    assert code == 0
    assert values["image"] == "x.png"
    assert values["num_tokens"] > values["max_caption_tokens"] == 128
    assert f"warning: a caption has {values['num_tokens']} tokens" in err
    assert "trained for 128" in err


# -- reconstruct ----------------------------------------------------------------------------------


def test_reconstruct_writes_captions_redraws_similarities_and_a_sheet(
    capsys, photos, random_model_folder
):
    command = ("reconstruct", photos, "--model", random_model_folder, "--out", "again")
    code, out, _ = run(capsys, *command)
    rows = json_lines(out)
    assert code == 0
    assert json_lines(Path("again/captions.jsonl").read_text())[0]["image"] == "a.png"
    for row in rows:
        assert Image.open(Path("again", row["redraw"])).size == (64, 64)
        assert set(row["similarities"]) == {"clip", "dinov2"}
        assert all(-1 <= value <= 1 for value in row["similarities"].values())
    assert Image.open("again/sheet.png").width > 300
    times = {path: path.stat().st_mtime_ns for path in Path("again/redraws").rglob("*.png")}
    code, repeated, err = run(capsys, *command)
    assert (code, repeated) == (0, out)
    assert "reconstructed 0, 3 done before" in err
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_reconstruct_for_a_reader_and_into_the_folder_itself(
    capsys, photos, random_model_folder, monkeypatch
):
    monkeypatch.chdir(photos)
    command = ("reconstruct", ".", "--model", random_model_folder, "--format", "human")
    for _ in range(2):
        code, out, _ = run(capsys, *command)
        lines = out.splitlines()
        assert code == 0
        assert lines[0].split() == ["image", "clip", "dinov2", "caption"]
        assert [line.split()[0] for line in lines[1:4]] == ["a.png", "b.jpg", "sub/c.webp"]
        assert lines[-1] == "sheet  photos-reconstructed/sheet.png"
    assert run(capsys, *command[:-2], "-q")[1] == "photos-reconstructed\n"


# -- doctor, and the process as a whole -----------------------------------------------------------


def test_doctor_tells_what_is_there_and_tries_the_model(capsys, random_model_folder):
    command = ("doctor", "--json", "--num-scenes", "4", "--model", random_model_folder)
    code, out, _ = run(capsys, *command)
    findings = {finding["check"]: finding for finding in json.loads(out)["findings"]}
    assert code == 0
    assert findings["torch"]["state"] == "ok"
    assert findings["trial run"]["state"] == "ok"
    assert findings["drawability"]["state"] == "warn"
    assert "encoder RL will forget" in findings["drawability"]["mend"]
    assert {"disk", "memory", "threads", "writing"} <= set(findings)


def test_doctor_ends_with_3_where_the_model_does_not_run(capsys, tmp_path):
    code, out, _ = run(capsys, "doctor", "--model", tmp_path, "-q")
    assert code == 3
    assert "fail  trial run" in out
    assert "  ->  " in out


def test_a_reader_that_leaves_early_is_no_fault():
    process = subprocess.Popen(
        [sys.executable, "-m", "uae", "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), errors) == (128 + signal.SIGPIPE, b"")


def test_a_fault_of_ours_is_one_line_without_v():
    script = (
        "import sys; from uae import cli; from uae.commands import inputs, pictures\n"
        "def fault(*_, **__): raise KeyError('lost')\n"
        "pictures.find_images = fault\n"
        "sys.argv = ['uae', 'caption', 'x.png', *sys.argv[1:]]; cli.main()\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: KeyError: 'lost'\nThis is a fault of uae")
    done = subprocess.run([*command, "-v"], capture_output=True, text=True)
    assert "Traceback" in done.stderr
