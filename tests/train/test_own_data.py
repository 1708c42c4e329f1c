"""Training on a folder of one's own: what it learns from stays the same, or the run says so."""

import json
import logging
import os
import shlex
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from uae.core.errors import EXIT_USAGE, Stopped, UsageError
from uae.data.survey import survey
from uae.recipe.recipe import Recipe
from uae.runs.progress import Progress
from uae.runs.run import Run
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image
from uae.scenes.run_images import run_images
from uae.train import run as stages
from uae.train.run import Context, Trained, train_recipe
from uae.train.run_report import command_again

NUM_PHOTOS = 6
CONFIG = {"seed": 0}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(NUM_PHOTOS):
        render_image(scene_at(i, "train"), 48).save(folder / f"{i}.jpg")
        (folder / f"{i}.txt").write_text(f"picture {i}")
    return folder


@pytest.fixture
def recipe(random_model_folder: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """Three steps of pre-training over all images; no evaluation, which takes most of a run."""
    monkeypatch.setattr(stages.Context, "evaluate", lambda *_: None)
    monkeypatch.setattr(stages, "write_run_report", lambda *_: None)
    return Recipe(
        model=str(random_model_folder),
        data={"folder": str(photos), "held_out_share": 0},
        checkpoint_every=5,
        tune_pretrain={"rank": 2, "alpha": 4},
        pretrain={"num_steps": 3, "batch_size": NUM_PHOTOS, "micro_batch": NUM_PHOTOS},
    )


@pytest.fixture
def after_first_step(monkeypatch: pytest.MonkeyPatch):
    """Do something when one step is done."""
    plain = Progress.show

    def at_that(action) -> None:
        def show(self, stage, done, *args, **kwargs) -> None:
            plain(self, stage, done, *args, **kwargs)
            if (stage, done) == ("pretrain", 1):
                action()

        monkeypatch.setattr(Progress, "show", show)

    return at_that


def train(recipe: Recipe, out: Path, **options) -> Trained:
    return train_recipe(recipe, out, run_images(recipe), **options)


def begun(photos: Path, out: Path) -> None:
    """Begin a run on the photos, and do something in it."""
    with Run.open(out, CONFIG, data=survey(photos)) as run:
        run.metrics.write_at(0, "pretrain", {"loss/flow_matching": 1.0})


def weights(out: Path) -> dict[str, torch.Tensor]:
    files = sorted((out / "model").rglob("*.safetensors"))
    return {f"{file.relative_to(out)}/{k}": v for file in files for k, v in load_file(file).items()}


def edited(photos: Path) -> None:
    (photos / "3.txt").write_text("PICTURE 3")


def deleted(photos: Path) -> None:
    (photos / "0.txt").unlink()


def added(photos: Path) -> None:
    rows = [{"image": f"{i}.jpg", "caption": "other"} for i in (1, 2)]
    (photos / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def redrawn(photos: Path) -> None:
    data = bytearray((photos / "4.jpg").read_bytes())
    data[-3] ^= 1  # of the same size
    (photos / "4.jpg").write_bytes(data)


def replaced(photos: Path) -> None:
    (photos / "5.jpg").rename(photos / "6.jpg")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edited, r"\(captions: 1 changed \(first 3\.jpg\)\)"),
        (deleted, r"\(captions: 1 removed \(first 0\.jpg\)\)"),
        (added, r"\(captions: 2 changed \(first 1\.jpg\)\)"),
        (redrawn, r"\(images: 1 changed \(first 4\.jpg\)\)"),
        (
            replaced,
            r"\(images: 1 added \(first 6\.jpg\), 1 removed \(first 5\.jpg\); "
            r"captions: 1 removed \(first 5\.jpg\)\)",
        ),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_other_images_or_captions_are_refused_by_name(photos, tmp_path, change, said):
    begun(photos, tmp_path / "run")
    change(photos)
    with pytest.raises(UsageError, match=f"is a run on other data .*{said}: put the old files"):
        Run.open(tmp_path / "run", CONFIG, data=survey(photos))


def test_dates_and_places_of_captions_do_not_count(photos, tmp_path):
    begun(photos, tmp_path / "run")
    before = (tmp_path / "run" / "data.json").read_bytes()
    for path in photos.iterdir():
        os.utime(path, (0, 0))
    rows = [{"image": f"{i}.jpg", "caption": f"picture {i}"} for i in range(NUM_PHOTOS)]
    (photos / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert survey(photos).captions.sources == {"captions.jsonl": NUM_PHOTOS}
    begun(photos, tmp_path / "run")
    assert (tmp_path / "run" / "data.json").read_bytes() == before


@pytest.mark.parametrize("kept", ["sizes", "nothing"])
def test_a_run_of_before_goes_on_and_says_what_was_not_checked(photos, tmp_path, caplog, kept):
    out = tmp_path / "run"
    begun(photos, out)
    sizes = {f"{i}.jpg": (photos / f"{i}.jpg").stat().st_size for i in range(NUM_PHOTOS)}
    (out / "data.json").write_text(json.dumps(sizes))
    if kept == "nothing":
        (out / "data.json").unlink()
    (photos / "1.txt").write_text("a caption that nobody can compare")
    begun(photos, out)
    [said] = caplog.messages
    assert "checked" in said
    if kept == "sizes":
        (photos / "new.jpg").write_bytes(b"x")
        with pytest.raises(UsageError, match=r"images: 1 added \(first new\.jpg\)"):
            begun(photos, out)


def test_a_damaged_listing_is_named(photos, tmp_path):
    begun(photos, tmp_path / "run")
    (tmp_path / "run" / "data.json").write_text("[1")
    with pytest.raises(UsageError, match=r"data\.json cannot be read .*: restore it"):
        begun(photos, tmp_path / "run")


def test_a_caption_that_cannot_be_read_leaves_no_folder(recipe, photos, tmp_path):
    (photos / "0.txt").write_bytes("picture 0".encode("utf-16"))
    with pytest.raises(UsageError, match="not UTF-8"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_in_which_nothing_was_done_is_taken_over(recipe, photos, tmp_path, monkeypatch):
    """Whatever has changed: here the configuration, an image and a caption."""
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(stages, "run_stage", stop_at_once)
        with pytest.raises(Stopped):
            train(recipe, out)
    (photos / "0.jpg").unlink()
    (photos / "0.txt").unlink()
    other = replace(recipe, seed=1)
    assert train(other, out, resume="never").model == out / "model"
    with pytest.raises(UsageError, match="another configuration"):
        train(recipe, out)


def stop_at_once(*_):
    raise Stopped("stopped", signal.SIGTERM)


def test_an_image_lost_during_a_run_ends_it_and_says_how_to_go_on(
    recipe, photos, tmp_path, after_first_step, monkeypatch
):
    """With the image and the captions of then the run ends as if it had not been interrupted."""
    monkeypatch.setattr("uae.data.sources._KEPT_BYTES", 0)  # every image is opened at every turn
    photo, kept, out = photos / "2.jpg", tmp_path / "kept", tmp_path / "run"
    train(recipe, tmp_path / "whole")
    shutil.copy(photo, kept)
    after_first_step(photo.unlink)
    with pytest.raises(UsageError, match=r"2\.jpg .*step-00000001; resume with:\n  ") as caught:
        train(recipe, out)
    assert caught.value.exit_code == EXIT_USAGE
    after_first_step(lambda: None)
    (photos / "3.txt").write_text("other words")
    with pytest.raises(
        UsageError, match=r"images: 1 removed .*; captions: 1 removed \(first 2\.jpg\), 1 changed"
    ):
        train(recipe, out)
    (photos / "3.txt").write_text("picture 3")
    shutil.copy(kept, photo)
    train(recipe, out)
    resumed = weights(out)
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(value, resumed[name])


def test_an_image_that_proves_damaged_is_left_out_and_counted(recipe, photos, tmp_path, caplog):
    """Its container is sound, so that it shows when it is decoded."""
    data = (photos / "2.jpg").read_bytes()
    (photos / "2.jpg").write_bytes(data[:-40] + data[-2:])
    with caplog.at_level(logging.WARNING):
        trained = train(recipe, tmp_path / "run")
    assert trained.num_left_out == 1
    assert sum("2.jpg: truncated" in message for message in caplog.messages) == 1


def test_the_command_that_repeats_a_run_holds_where_it_was_started(
    recipe, photos, tmp_path, monkeypatch
):
    """Wherever the report is written: here from within the run folder's parent."""
    monkeypatch.chdir(tmp_path)
    out = Path("my runs/first")
    begun_from = Path.cwd()
    train(replace(recipe, data=replace(recipe.data, folder="photos")), out)
    monkeypatch.chdir(tmp_path / "my runs")
    program, verb, flag, config, *rest = shlex.split(command_again(Path("first")))
    assert (program, verb, flag, rest) == ("uae", "train", "--recipe", ["--out", "again"])
    monkeypatch.chdir(begun_from)
    assert Path(config).is_file()


def test_a_run_among_its_own_images_is_refused(recipe, photos):
    with pytest.raises(UsageError, match=r"lies in data\.folder .*: give an --out elsewhere"):
        train(recipe, photos / "run")


def test_every_start_of_a_run_says_whose_captions_it_learns_from(
    recipe, photos, tmp_path, monkeypatch, caplog
):
    for path in photos.glob("*.txt"):
        path.unlink()
    (photos / "metadata.csv").write_text("file_name,text\nphotos/0.JPG,A red circle.\n")

    def stop(*_):
        raise Stopped("stopped", signal.SIGTERM)

    monkeypatch.setattr(Context, "evaluate", stop)
    for _ in range(2):
        with pytest.raises(Stopped):
            train(recipe, tmp_path / "run")
    said = (
        f"captions for 1 of {NUM_PHOTOS} images (from metadata.csv); in pre-training the frozen "
        f"encoder writes those of the other {NUM_PHOTOS - 1}"
    )
    assert caplog.messages.count(said) == 2
    (photos / "metadata.csv").write_text("file_name,text\n99.png,A red circle.\n")
    with pytest.raises(UsageError, match="1 of 1 rows belong to no image"):
        train(recipe, tmp_path / "other")
