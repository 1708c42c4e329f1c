"""Models of this package on the hub, wherever `--model` stands: ID@REVISION, recorded by commit.

What is in the hub's cache is found by its own client, without a network; its answers are stubbed.
"""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.models.test_hub import answered
from uae.models import settings
from uae.models.unified import UnifiedAutoEncoder
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image

COMMIT, LATER = "a" * 40, "b" * 40
PINNED = f"me/pair@{COMMIT}"


@pytest.fixture
def hub_cache(tmp_path, monkeypatch, random_model_folder) -> Path:
    """The cache after a download of me/pair: main and v1 are one commit."""
    cache = tmp_path / "hub"
    place = cache / "models--me--pair"
    shutil.copytree(random_model_folder, place / "snapshots" / COMMIT)
    (place / "refs").mkdir()
    for name in ("main", "v1"):
        (place / "refs" / name).write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(settings, "_downloads", {})
    return cache


@pytest.mark.parametrize("name", ["me/pair", "me/pair@v1", PINNED])
def test_a_model_is_found_by_any_name_and_recorded_by_its_commit(run, hub_cache, photos, name):
    code, out, err = run("draw", "a red circle", "--model", name, "--out", "a.png", "--json")
    assert code == 0, err
    assert json.loads(out)["model"] == PINNED
    photo = photos / "a.png"
    code, out, err = run("caption", photo, "--model", name, "--json")
    assert code == 0, err
    assert json.loads(out)["model"] == PINNED
    assert UnifiedAutoEncoder.from_pretrained(name).settings.max_new_tokens


def test_results_name_the_commit_and_a_later_one_is_another_run(run, hub_cache, photos):
    flags = ("--backbone", "clip=uae-tiny/clip")
    line = ("eval", "unified-bench", photos, "--model", "me/pair", "--out", "bench", *flags)
    code, _, err = run(*line)
    assert code == 0, err
    result = json.loads(Path("bench/result.json").read_text())
    assert result["settings"]["model"]["name"] == f"uae:{PINNED} x uae:{PINNED}"
    place = hub_cache / "models--me--pair"
    shutil.copytree(place / "snapshots" / COMMIT, place / "snapshots" / LATER)
    (place / "refs/main").write_text(LATER)
    code, _, err = run(*line)
    assert code == 2
    assert LATER in err


def test_a_run_trains_and_goes_on_from_the_commit(run, hub_cache, tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(8):
        render_image(scene_at(i, "train"), 64).save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "r.yaml").write_text(
        "data: {folder: photos, held_out_share: 0.3}\n"
        "evaluation: {num_images: 2}\n"
        "pretrain: {num_steps: 0}\n"
        "encoder_rl:\n  num_steps: 1\n  num_images: 2\n  micro_images: 2\n  num_redraws: 2\n"
        "  captioning: {num_captions: 2, max_new_tokens: 4}\n"
    )
    line = ("train", "--recipe", "r.yaml", "--model", "me/pair", "--out", "run")
    code, _, err = run(*line)
    assert code == 0, err
    assert f"model: {PINNED}\n" in Path("run/config.yaml").read_text()
    assert run(*line)[0] == 0


def test_a_folder_of_the_same_name_goes_first(run, hub_cache, random_model_folder):
    shutil.copytree(random_model_folder, "me/pair")
    code, out, err = run("draw", "x", "--model", "me/pair", "--out", "a.png", "--json")
    assert code == 0, err
    assert json.loads(out)["model"] == "me/pair"


ANSWERS = {
    "there is no such folder and no such model": (answered(RepositoryNotFoundError, 401), 2),
    "has no such revision": (answered(RevisionNotFoundError, 404), 2),
    "run `hf auth login`": (answered(GatedRepoError, 403), 2),
    "lacks a file of its kind": (answered(RemoteEntryNotFoundError, 404), 2),
    "hub cannot be reached": (LocalEntryNotFoundError("not in the cache"), 3),
}


@pytest.mark.parametrize("message", ANSWERS)
@pytest.mark.parametrize(
    "line",
    [
        ("caption", "photos", "--model"),
        ("draw", "x", "--model"),
        ("reconstruct", "photos", "--model"),
        ("export", "--out", "out", "--model"),
        ("train", "--recipe", "demo", "--out", "out", "--model"),
        ("eval", "scenes", "--model"),
        ("eval", "scenes", "--swap"),
        ("eval", "unified-bench", "photos", "--out", "out", "--model"),
        ("eval", "unified-bench", "photos", "--out", "out", "--captioner"),
        ("eval", "audit", "photos", "--out", "out", "--model"),
        ("eval", "geneval-images", "--out", "out", "--model"),
    ],
    ids=lambda line: " ".join(line[:2]) + line[-1],
)
def test_what_the_hub_refuses_is_one_line(run, photos, monkeypatch, message, line):
    cause, expected = ANSWERS[message]

    def refuse(*_: object, **__: object):
        raise OSError("We couldn't connect\nto the hub") from cause

    monkeypatch.setattr("uae.models.parts.cached_file", refuse)
    name = "uae:me/pair@v1" if line[-1] == "--captioner" else "me/pair@v1"
    code, _, err = run(*line, name)
    assert code == expected
    [said] = [text for text in err.splitlines() if text.startswith("error: ")]
    assert "me/pair@v1 cannot be loaded: " in said
    assert message in said
    if line[1] == "geneval-images" and expected == 2:
        assert said.endswith("; a model of another kind is named KIND:NAME")
    assert not Path("out").exists()
