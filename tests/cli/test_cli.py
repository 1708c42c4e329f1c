"""The command line: what goes to stdout, what to stderr, and the exit codes."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from uae.backends import own as loop
from uae.cli import pictures
from uae.cli.app import VERBS as VERBS_OF_APP
from uae.cli.app import build_app
from uae.core.errors import EnvironmentFault, NonFinite, RunFailed, Stopped, UsageError
from uae.recipe.keys import recipe_keys
from uae.train import run as stages

VERBS = [
    *(["train"], ["caption"], ["draw"], ["reconstruct"], ["report"], ["doctor"], ["serve"]),
    ["eval", "scenes"],
    *(["eval", "mmt-bench"], ["eval", "geneval"], ["eval", "geneval-images"], ["compare"]),
    *(["eval", "dpg"], ["eval", "geneval2"], ["eval", "geneval-pp"]),
    *(["eval", "dpg-images"], ["eval", "geneval2-images"], ["eval", "geneval-pp-images"]),
]


def verb_name(verb: list[str]) -> str:
    return " ".join(verb)


# -- help -----------------------------------------------------------------------------------------


def test_help_of_every_verb_loads_no_torch():
    script = (
        "import sys; from uae.cli.app import run\n"
        f"for verb in {VERBS}: assert not run([*verb, '--help'])\n"
        "assert not run(['--help'])\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'peft', 'scipy', 'matplotlib', 'fastapi'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--encoder-rl.kl-beta float" in done.stdout


@pytest.mark.parametrize(("tokens", "limit_s"), [([], 0.6), (["train"], 1)])
def test_help_answers_at_once(tokens, limit_s):
    """The limit is of processor time, which a busy machine may double."""

    def seconds() -> float:
        start = os.times()
        subprocess.run([sys.executable, "-m", "uae", *tokens, "--help"], check=True, stdout=-3)
        end = os.times()
        user_s = end.children_user - start.children_user
        return user_s + end.children_system - start.children_system

    assert any(seconds() < 2 * limit_s for _ in range(3))


def test_the_list_of_verbs_imports_none_of_them():
    script = (
        "import sys; from uae.cli.app import run\n"
        "assert not run(['--help'])\n"
        "ours = {name for name in sys.modules if name.startswith('uae.cli.')}\n"
        "assert ours == {'uae.cli.app', 'uae.cli.output'}, ours\n"
        "assert not {'numpy', 'pydantic', 'yaml', 'PIL'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_list_says_of_each_verb_what_its_own_help_begins_with():
    app = build_app()
    for name in VERBS_OF_APP:
        summary, app[name].help = app[name].help, None
        docstring = app[name].help
        assert summary == " ".join(docstring.partition("\n\n")[0].split())


@pytest.mark.parametrize("verb", VERBS, ids=verb_name)
def test_help_begins_with_an_example_and_ends_with_what_is_next(run, verb):
    code, out, _ = run(*verb, "--help")
    assert code == 0
    assert f"uae {verb_name(verb)}" in out.split("Try:")[1]
    assert "Next: uae" in out
    assert "\x1b" not in out, "colour in a pipe"


@pytest.mark.parametrize("verb", VERBS, ids=verb_name)
def test_every_option_is_in_the_documents(run, verb):
    text = (Path(__file__).parents[2] / "docs/cli.md").read_text()
    options = set(re.findall(r"(?<=[ │])--?[a-z-]+(?![a-z.-])", run(*verb, "--help")[1]))
    assert "--json" in options
    # recipe keys of the top level are listed by the help alone
    known = {"--" + key.replace("_", "-") for key in recipe_keys()}
    assert not {o for o in options - known if f"{o}`" not in text and f"{o} " not in text}


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
def test_what_cannot_work_ends_with_2_and_one_message(run, tmp_path, tokens, said):
    code, out, err = run(*tokens)
    assert code == 2
    assert out == ""
    assert said in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir()), "something was left behind"


def test_a_model_that_is_none(run, photos):
    code, out, err = run("caption", photos, "--model", photos)
    assert (code, out) == (2, "")
    assert "uae.json" in err


@pytest.mark.parametrize(
    "command",
    [
        ("caption", "photos"),
        ("draw", "A bar."),
        ("reconstruct", "photos"),
        ("train", "--recipe", "demo", "--out", "x"),
    ],
    ids=lambda command: command[0],
)
def test_a_run_where_a_model_belongs_is_said_with_its_model(run, photos, tmp_path, command):
    (tmp_path / "run/model").mkdir(parents=True)
    (tmp_path / "run/model/uae.json").write_text("{}")
    code, out, err = run(*command, "--model", "run")
    assert (code, out) == (2, "")
    assert "it is the folder of a run: name its model, run/model" in err


def test_a_model_whose_settings_are_damaged(run, photos, tmp_path):
    for name in ("encoder", "projector", "decoder"):
        (tmp_path / "model" / name).mkdir(parents=True)
    (tmp_path / "model/uae.json").write_text("{")
    code, out, err = run("caption", photos, "--model", "model")
    assert (code, out) == (2, "")
    assert "model/uae.json does not hold the settings of a model" in err


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
        (UsageError("seed 1: too odd"), 2, "error: seed 1: too odd\n"),
        (RunFailed("no gate"), 1, "error: no gate\n"),
    ],
)
def test_every_error_has_its_code_and_says_its_message_alone(
    run, photos, monkeypatch, error, code, said
):
    def fail(*_):
        raise error

    monkeypatch.setattr(loop, "load", fail)
    assert run("caption", photos) == (code, "", said)
    if isinstance(error, Exception):
        assert "Traceback" in run("caption", photos, "-v")[2]


# -- recipes --------------------------------------------------------------------------------------


def test_print_config_prints_the_whole_recipe_and_does_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setenv("UAE_SEED", "5")
    code, out, err = run("train", "--recipe", "demo", "--print-config", "--schedule=joint")
    assert (code, err) == (2, err), "the demo's sides have different numbers of steps"
    assert "joint" in err
    command = ("train", "--recipe", "demo", "--print-config", "--encoder-rl.kl-beta", "0.5")
    code, out, err = run(*command)
    assert (code, err) == (0, "")
    assert "seed: 5\n" in out
    assert "kl_beta: 0.5\n" in out
    (tmp_path / "again.yaml").write_text(out)
    monkeypatch.delenv("UAE_SEED")
    assert run("train", "--recipe", "again.yaml", "--print-config")[1] == out
    code, out, _ = run(*command, "--json")
    assert json.loads(out)["encoder_rl"]["kl_beta"] == 0.5


def test_a_run_goes_on_by_its_own_recipe(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("seed: 77\n")
    _, out, _ = run("train", "--out", "run", "--print-config")
    assert "seed: 77\n" in out


def test_train_hands_over_the_recipe_and_ends_with_what_is_next(
    run, photos, random_model_folder, monkeypatch
):
    seen = {}

    def train_recipe(recipe, out, _images, *, resume, overwrite):
        seen.update(recipe=recipe, out=out, resume=resume, overwrite=overwrite)
        return stages.Trained(out / "model", num_left_out)

    num_left_out = 0
    monkeypatch.setattr(stages, "train_recipe", train_recipe)
    command = ("train", "--recipe", "demo", "--out", "run", "--data", photos, "--seed", "9")
    command = (*command, "--model", random_model_folder, "--resume", "never", "--overwrite")
    command = (*command, "--data.held-out-share", "0")
    code, out, err = run(*command)
    assert (code, err) == (0, "")
    assert seen["recipe"].seed == 9
    assert seen["recipe"].data.folder == str(photos)
    assert (seen["out"], seen["resume"], seen["overwrite"]) == (Path("run"), "never", True)
    assert "uae caption --model run/model" in out
    values = json.loads(run(*command, "--json")[1])
    assert values == {"run": "run", "model": "run/model", "report": "run/report.html"}
    assert run(*command, "-q")[1] == "run/model\n"
    num_left_out = 2  # images that could not be read, which the source has listed
    assert run(*command, "-q")[0] == 4


# -- doctor, and the process as a whole -----------------------------------------------------------


def test_doctor_tells_what_is_there_and_tries_the_model(run, random_model_folder):
    command = ("doctor", "--json", "--num-scenes", "4", "--model", random_model_folder)
    code, out, _ = run(*command)
    findings = {finding["check"]: finding for finding in json.loads(out)["findings"]}
    assert code == 0
    assert findings["torch"]["state"] == "ok"
    assert findings["trial run"]["state"] == "ok"
    assert findings["drawability"]["state"] == "warn"
    assert "encoder RL will forget" in findings["drawability"]["mend"]
    assert {"disk", "memory", "threads", "writing"} <= set(findings)


def test_doctor_ends_with_3_where_the_model_does_not_run(run, tmp_path):
    code, out, _ = run("doctor", "--model", tmp_path, "-q")
    assert code == 3
    assert "fail  trial run" in out
    assert "  ->  " in out


def test_what_the_hub_s_library_says_at_each_attempt_is_not_shown():
    program = """
from uae.cli import audit, join, unified_bench
from uae.cli.output import Talk
Talk().begin()
from huggingface_hub.utils import logging
logging.get_logger("huggingface_hub.utils._http").warning("Retrying in 1s")
"""
    surroundings = {k: v for k, v in os.environ.items() if k != "HF_HUB_VERBOSITY"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=surroundings,
    )
    assert done.stderr == ""


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


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_memory_that_does_not_suffice_is_said_with_what_takes_less(run, monkeypatch, error):
    def find(*_, **__):
        raise error

    monkeypatch.setattr(pictures, "find_images", find)
    code, _, err = run("caption", "x.png")
    assert code == 3
    assert re.match(f"error: out of memory: {error}.*smaller batches .--batch-size", err), err


@pytest.mark.parametrize("kind", ["KeyError", "ValueError", "RuntimeError"])
def test_a_fault_of_ours_is_one_line_without_v(kind):
    script = (
        "import sys; from uae.cli import app as cli, pictures\n"
        f"def fault(*_, **__): raise {kind}('lost')\n"
        "pictures.find_images = fault\n"
        "sys.argv = ['uae', 'caption', 'x.png', *sys.argv[1:]]; cli.main()\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.match(rf"error: {kind}: '?lost'?\nThis is a fault of uae", done.stderr)
    done = subprocess.run([*command, "-v"], capture_output=True, text=True)
    assert "Traceback" in done.stderr


def test_a_file_name_that_is_no_unicode_can_be_printed():
    script = (
        "from uae.cli import app as cli; from uae.cli.output import write\n"
        "cli.run = lambda *_: write('caf\\udce9.jpg')\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (b"caf\\udce9.jpg\n", b"")


@pytest.mark.parametrize(
    "command",
    [
        "train --recipe demo --out NAME",
        "join --encoder a/b --decoder c/d --out NAME",
        "export uae-tiny --out NAME",
        "caption photo.png --model NAME/model",
        "eval unified-bench photo.png --captioner vlm:NAME --out run",
        "eval scenes --model NAME",
    ],
)
def test_weights_have_no_place_whose_name_is_no_unicode(run, tmp_path, command):
    (tmp_path / "photo.png").touch()
    name = b"caf\xe9".decode(errors="surrogateescape")
    code, _, err = run(*command.replace("NAME", name).split())
    assert code == 2
    assert re.match(r"error: .*: character \d+ is \\udce9, half of a surrogate pair", err), err
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]
