"""Sources of training images: their order, and folders with broken files."""

import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from uae.core.errors import UsageError
from uae.data import sources
from uae.data.shapes import Shapes
from uae.data.sources import (
    FolderSource,
    ImageSource,
    LostImage,
    batch_indices,
    samples_at,
    to_images,
    to_pixels,
)
from uae.data.survey import survey
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image
from uae.scenes.source import SceneSource

PROMPT_START = "a photo of "


@settings(deadline=None)
@given(
    num_images=st.integers(1, 30),
    batch_size=st.integers(1, 13),
    num_epochs=st.integers(1, 3),
    seed=st.integers(0, 5),
)
def test_each_epoch_visits_each_image_once(num_images, batch_size, num_epochs, seed):
    num_steps = -(-num_epochs * num_images // batch_size)
    visited = [i for s in range(num_steps) for i in batch_indices(num_images, s, batch_size, seed)]
    for epoch in range(num_epochs):
        order = visited[epoch * num_images : (epoch + 1) * num_images]
        assert sorted(order) == list(range(num_images))


def test_the_order_is_a_pure_function_of_its_arguments():
    forward = [batch_indices(50, step, 8, 3) for step in range(20)]
    torch.manual_seed(99)
    np.random.default_rng(99)
    backward = [batch_indices(50, step, 8, 3) for step in reversed(range(20))]
    assert forward == backward[::-1]
    assert forward[0] != batch_indices(50, 0, 8, 4)
    flat = [i for batch in forward for i in batch]
    assert flat[:50] != flat[50:100]


def test_samples_at_repeats_itself():
    source = SceneSource("train", 10, 32, seed=0)
    first, again = (samples_at(source, 2, 4, seed=7) for _ in range(2))
    assert [s.caption for s in first] == [s.caption for s in again]
    assert [s.name for s in first] == [f"train-{i:06d}" for i in batch_indices(10, 2, 4, 7)]


def test_an_image_met_again_is_told_in_other_words():
    source = SceneSource("train", 1, 32, seed=0)
    captions = {samples_at(source, step, 1, seed=7)[0].caption for step in range(10)}
    assert len(captions) > 1


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(("a.png", "b.jpg", "sub/c.png")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        render_image(scene_at(i, "train"), 48).resize((48, 40)).save(path)
    (tmp_path / "a.txt").write_text("A gray picture.\n")
    (tmp_path / "sub" / "c.txt").write_text("A third picture.")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    return tmp_path


def test_a_folder_skips_broken_files_and_keeps_the_rest(folder, caplog):
    with caplog.at_level(logging.WARNING):
        source = FolderSource(survey(folder), Shapes(32))
    samples = [source.sample(i, 0) for i in range(len(source))]
    assert [s.name for s in samples] == ["a.png", "b.jpg", "sub/c.png"]
    assert {s.image.size for s in samples} == {(32, 32)}
    assert "broken.png" in caplog.text
    assert source.num_left_out == 1


def test_a_folder_keeps_no_more_images_than_fit(folder, monkeypatch):
    monkeypatch.setattr(sources, "_KEPT_BYTES", 2 * 3 * 32**2)
    source, opened = FolderSource(survey(folder), Shapes(32)), []
    plain = sources.open_image

    def opening(path):
        opened.append(path.name)
        return plain(path)

    monkeypatch.setattr(sources, "open_image", opening)
    for index in (0, 1, 1, 0, 2, 2, 1, 0):
        source.sample(index, 0)
    assert opened == ["a.png", "b.jpg", "c.png", "b.jpg", "a.png"]


def test_a_folder_takes_captions_from_txt_files(folder):
    source = FolderSource(survey(folder), Shapes(32))
    captions = [source.sample(i, 0).caption for i in range(len(source))]
    assert captions == ["A gray picture.", None, "A third picture."]


def test_a_folder_of_broken_files_alone_is_refused(tmp_path):
    (tmp_path / "x.png").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="none of its images can be read"):
        survey(tmp_path)


def half_gray(path) -> None:
    """Cut a JPEG in a way that its container does not show."""
    data = path.read_bytes()
    path.write_bytes(data[:-40] + data[-2:])


@pytest.mark.parametrize("order", [range(6), [5, 1, 1, 0], [2, 0, 5, 4, 3, 1, 2]])
def test_in_place_of_a_damaged_image_comes_the_next_one_whatever_came_before(tmp_path, order):
    for i in range(6):
        render_image(scene_at(i, "train"), 48).save(tmp_path / f"{i}.jpg")
    for i in (1, 2, 5):
        half_gray(tmp_path / f"{i}.jpg")
    source = FolderSource(survey(tmp_path), Shapes(32))
    names = [source.sample(index, 0).name for index in order]
    assert names == [["0.jpg", "3.jpg", "3.jpg", "3.jpg", "4.jpg", "0.jpg"][i] for i in order]
    assert len(source) == 6
    assert source.num_left_out == len({1, 2, 5} & {*order} | ({2} if 1 in order else set()))


def test_a_folder_whose_images_all_prove_damaged_is_refused(tmp_path):
    render_image(scene_at(0, "train"), 48).save(tmp_path / "0.jpg")
    half_gray(tmp_path / "0.jpg")
    source = FolderSource(survey(tmp_path), Shapes(32))
    with pytest.raises(UsageError, match="none of its images can be decoded"):
        source.sample(0, 0)


@pytest.mark.parametrize(
    ("happening", "said"),
    [
        (
            lambda path: path.unlink(),
            "a.png cannot be read: No such file .*: put it back",
        ),
        (lambda path: path.write_bytes(b"x"), "a.png has changed since the run began: put the old"),
        (lambda path: render_image(scene_at(9, "train"), 48).save(path), "a.png has changed"),
    ],
)
def test_an_image_that_is_another_than_at_the_start_is_no_sample(folder, happening, said):
    source = FolderSource(survey(folder), Shapes(32))
    happening(folder / "a.png")
    with pytest.raises(LostImage, match=said):
        source.sample(0, 0)


def test_both_are_sources(folder):
    assert isinstance(FolderSource(survey(folder), Shapes(32)), ImageSource)
    assert isinstance(SceneSource("train", 1, 32, seed=0), ImageSource)


def test_pixels_and_images_are_inverse():
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)) for _ in range(3)]
    pixels = to_pixels(images)
    assert pixels.shape == (3, 3, 5, 7)
    assert [i.tobytes() for i in to_images(pixels)] == [i.tobytes() for i in images]
