"""Files that this user may not read: called that, never missing, and nothing is reinstalled."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from uae.core.errors import EnvironmentFault
from uae.runs.checkpoint import load_latest, save_checkpoint
from uae.train.stage_folder import SUMS, check_stage

NOBODY = 65534
PLACES = [
    "uae.json",
    "encoder/model.safetensors",
    "encoder/config.json",
    "encoder/tokenizer.json",
    "projector/diffusion_pytorch_model.safetensors",
    "decoder/transformer/diffusion_pytorch_model.safetensors",
    "decoder/scheduler/scheduler_config.json",
    "decoder",
    "decoder/vae",
    "encoder",
    ".",
]


@contextmanager
def as_a_plain_user() -> Iterator[None]:
    """Be somebody to whom rights matter, where root runs the tests."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.fixture
def folder(monkeypatch) -> Iterator[Path]:
    """A folder that a plain user can reach and write to, unlike pytest's own."""
    root = Path(tempfile.mkdtemp(prefix="uae-rights-"))
    root.chmod(0o777)
    monkeypatch.chdir(root)
    yield root
    for path in [root, *root.iterdir()]:
        path.chmod(0o700)
    shutil.rmtree(root)


@pytest.fixture
def model(folder, random_model_folder, run, photos) -> Path:
    """A model that has been loaded once, so that all modules are."""
    shutil.copytree(random_model_folder, folder / "model")
    shutil.copy(photos / "a.png", folder / "a.png")
    assert run("caption", "a.png", "--model", "model")[0] == 0
    return folder / "model"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    rights = path.stat().st_mode
    path.chmod(0)
    try:
        with as_a_plain_user():
            yield
    finally:
        path.chmod(rights)


def test_a_part_of_a_model_that_may_not_be_read_is_called_that(model, run):
    for place in PLACES:
        with locked(model / place):
            code, out, err = run("caption", "a.png", "--model", "model")
        assert (code, out) == (3, ""), (place, err)
        assert Path("model", place).as_posix() in err
        assert "permission denied" in err.lower()
        assert "no such file" not in err.lower()
        assert "not found" not in err
        assert err.count("\n") == 1


def test_doctor_does_not_advise_to_reinstall(model, run):
    with locked(model / "encoder" / "model.safetensors"):
        code, out, _ = run("doctor", "--model", "model", "--num-scenes", 0, "-q")
    assert code == 3
    assert "cannot read model/encoder/model.safetensors: Permission denied" in out
    assert "chmod -R a+rX model/encoder/model.safetensors" in out
    assert "reinstall" not in out


def test_what_comes_of_a_model_that_nobody_writes_to_has_usual_rights(model, run, folder):
    made = folder / "made"
    places = [path for path in model.rglob("*") if path.is_dir()]
    for place in places:
        place.chmod(0o555)
    umask = os.umask(0o027)
    try:
        with as_a_plain_user():
            code, _, err = run("export", "model", "--out", "made")
    finally:
        os.umask(umask)
        for place in places:
            place.chmod(0o755)
    assert code == 0, err
    rights = {x: x.stat().st_mode & 0o777 for x in (made, *made.rglob("*")) if x.is_dir()}
    assert len(rights) > 3
    assert rights == dict.fromkeys(rights, 0o750)


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
def test_a_folder_of_images_that_may_not_be_read_is_not_empty(folder, run, photos, mode):
    shutil.copytree(photos, folder / "photos")
    (folder / "photos").chmod(mode)
    with as_a_plain_user():
        code, _, err = run("caption", "photos", "--out", "captions.jsonl")
    assert code in (2, 3, 4)
    assert "permission denied" in err.lower()
    assert "no images" not in err
    assert "does not exist" not in err


def test_other_inputs_that_may_not_be_read(folder, run, photos):
    shutil.copytree(photos, folder / "photos")
    (folder / "recipe.yaml").write_text("seed: 1\n")
    (folder / "captions.jsonl").write_text('{"image": "a.png", "caption": "x"}\n')
    (folder / "inside").mkdir()
    for place, tokens in (
        ("recipe.yaml", ["train", "--recipe", "recipe.yaml", "--out", "run"]),
        ("inside", ["train", "--recipe", "inside/recipe.yaml", "--out", "run"]),
        ("inside", ["report", "inside"]),
        ("inside", ["caption", "inside/a.png"]),
        ("captions.jsonl", ["caption", "photos", "--out", "captions.jsonl"]),
        ("photos/a.png", ["caption", "photos/a.png"]),
    ):
        with locked(folder / place):
            code, _, err = run(*tokens)
        assert code in (2, 3, 4), (tokens, err)
        assert place in err
        assert "permission denied" in err.lower(), (tokens, err)
        assert "does not exist" not in err


def test_a_checkpoint_that_may_not_be_read_is_not_damaged(folder):
    for step in (1, 2):
        save_checkpoint(folder / "rl", step, {"weight": torch.ones(2)}, {}, keep=2)
    for name in ("tensors.safetensors", "state.json", "manifest.json", "."):
        path = folder / "rl" / "step-00000002" / name
        with locked(path), pytest.raises(EnvironmentFault) as error:
            load_latest(folder / "rl")
        assert path.as_posix() in str(error.value)
        assert "permission denied" in str(error.value).lower()
    checkpoint = load_latest(folder / "rl")
    assert checkpoint is not None
    assert checkpoint.step == 2


def test_a_finished_stage_that_may_not_be_read_has_not_changed(folder):
    (folder / "stage").mkdir()
    (folder / "stage" / SUMS).write_text("")
    (folder / "stage" / "uae.json").write_text("{}")
    for name in (SUMS, "uae.json"):
        refused = pytest.raises(EnvironmentFault, match=f"{name}: permission denied")
        with locked(folder / "stage" / name), refused:
            check_stage(folder / "stage")
