"""Scenes as files: they hold what the scenes hold, and the readers of each file take it."""

import json
import resource

import numpy as np
import pytest
from PIL import Image

from uae.core.errors import EnvironmentFault, UsageError
from uae.data.captions import read_rows
from uae.data.questions import decode_images, read_tsv
from uae.data.shapes import Shapes
from uae.data.sources import FolderSource
from uae.data.survey import survey
from uae.scenes.folder import write_scenes
from uae.scenes.graph import scene_at
from uae.scenes.parser import parse
from uae.scenes.questions import CATEGORIES
from uae.scenes.reading import read_caption

NUM = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("scenes") / "out"
    num_questions = write_scenes(out, NUM, "test", seed=3, size_px=64)
    assert num_questions > 0
    return out


def test_the_pictures_show_what_the_truth_says(folder):
    lines = (folder / "scenes.jsonl").read_text().splitlines()
    assert len(lines) == NUM
    for i, line in enumerate(lines):
        truth = json.loads(line)
        seen = parse(np.asarray(Image.open(folder / "images" / f"scene-{i:06d}.png")))
        assert truth["background"] == seen.background == scene_at(i, "test").background
        told = {
            tuple(o[key] for key in ("cell", "size", "color", "shape")) for o in truth["objects"]
        }
        assert told == {o.attributes for o in seen.objects}


def test_the_captions_tell_everything(folder):
    rows = read_rows(folder / "images" / "captions.jsonl")
    assert [row.image for row in rows] == [f"scene-{i:06d}.png" for i in range(NUM)]
    for i, row in enumerate(rows):
        assert read_caption(row.caption).background == scene_at(i, "test").background


def test_every_subtask_has_as_many_questions(folder):
    rows = list(read_tsv(folder / "questions.tsv"))
    counts = {c: sum(row.question.category == c for row in rows) for c in CATEGORIES}
    assert len(set(counts.values())) == 1
    assert all(image.size == (64, 64) for row in rows for image in decode_images(row))


def test_training_takes_the_folder(folder):
    sample = FolderSource(survey(folder / "images"), Shapes(64)).sample(0, 0)
    assert sample.caption == read_rows(folder / "images" / "captions.jsonl")[0].caption


def test_datasets_reads_the_folder(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    images = str(folder / "images")
    loaded = datasets.load_dataset("imagefolder", data_dir=images, cache_dir=str(tmp_path))
    captions = [row.caption for row in read_rows(folder / "images" / "captions.jsonl")]
    assert loaded["train"]["text"][:] == captions
    assert loaded["train"][0]["image"].size == (64, 64)


def test_nothing_is_written_over(folder):
    before = sorted(folder.rglob("*"))
    with pytest.raises(UsageError, match="exists and is not empty: name a new folder"):
        write_scenes(folder, 2, "test", seed=3, size_px=64)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("num_bytes", [100, 2000, 20_000])
def test_a_full_disk_is_named_and_the_same_command_goes_on_later(tmp_path, exists, num_bytes):
    out = tmp_path / "out"
    if exists:
        out.mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        with pytest.raises(EnvironmentFault, match=f"cannot write .*{out}.*; free some space"):
            write_scenes(out, NUM, "test", seed=3, size_px=64)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.rglob("*")) == [out] * exists
    assert write_scenes(out, NUM, "test", seed=3, size_px=64) > 0


def test_too_many_questions_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match="1000 questions of"):
        write_scenes(tmp_path / "x", 2, "test", seed=0, size_px=64, questions_per_subtask=1000)
    assert not (tmp_path / "x").exists()
