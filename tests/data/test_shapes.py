"""Shapes of drawn images, and batches of one shape each."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from uae.data.shapes import MAX_ASPECT, SEEN_AREA, Bucket, Shapes, buckets_of, fitted
from uae.data.sources import FolderSource, batch_of, samples_at
from uae.data.survey import survey


@given(st.integers(1, 9000), st.integers(1, 9000), st.sampled_from([(512, 16), (1024, 32)]))
def test_a_shape_is_about_that_of_the_image_and_as_large_as_a_square(width, height, decoder):
    size_px, step = decoder
    drawn_height, drawn_width = Shapes(size_px, step, own=True).of(width, height)
    assert drawn_height % step == drawn_width % step == 0
    assert drawn_height * drawn_width == pytest.approx(size_px**2, rel=0.1)
    wanted = min(max(width / height, 1 / MAX_ASPECT), MAX_ASPECT)
    assert drawn_width / drawn_height == pytest.approx(wanted, rel=0.1)


def test_a_square_is_a_square_and_squares_are_all_there_is_by_default():
    assert Shapes(512, 16, own=True).of(300, 300) == (512, 512)
    assert Shapes(512, 16).of(1200, 400) == (512, 512)


def test_the_encoder_sees_the_whole_image_and_no_more_pixels_than_are_of_use():
    stripes = np.zeros((100, 400, 3), dtype=np.uint8)
    stripes[:, :10] = 255
    image = Image.fromarray(stripes)
    assert Shapes(400, own=True).seen(image) is image
    small = Shapes(64, own=True).seen(image)
    assert small.width * small.height == pytest.approx(SEEN_AREA * 64**2, rel=0.02)
    assert np.asarray(small)[:, 0].min() > 200  # the left edge is there
    assert np.asarray(Shapes(64).seen(image)).max() == 0  # a square has lost it


def test_fitting_keeps_the_centre():
    levels = np.tile(np.arange(40, dtype=np.uint8)[None, :, None], (10, 1, 3))
    half = np.asarray(fitted(Image.fromarray(levels), (10, 20)))
    np.testing.assert_array_equal(half[0, :, 0], np.arange(10, 30))
    image = Image.fromarray(levels)
    assert fitted(image, (10, 40)) is image


@given(st.lists(st.integers(1, 12), max_size=60), st.integers(1, 9))
def test_every_image_is_in_one_bucket_and_buckets_are_large_enough(widths, least):
    buckets = buckets_of([(6, width) for width in widths], least)
    assert sorted(i for b in buckets for i in b.indices) == list(range(len(widths)))
    if len(widths) >= least:
        assert all(len(b.indices) >= least for b in buckets)
    for bucket in buckets:
        if len(bucket.indices) == Counter(widths)[bucket.size[1]]:
            assert {widths[i] for i in bucket.indices} == {bucket.size[1]}


def test_a_small_bucket_joins_that_of_the_nearest_shape():
    sizes = [(10, 10)] * 4 + [(10, 20)] * 4 + [(10, 18)]
    assert buckets_of(sizes, 2) == [
        Bucket((10, 10), [0, 1, 2, 3]),
        Bucket((10, 20), [4, 5, 6, 7, 8]),
    ]


@given(st.lists(st.integers(3, 20), min_size=2, max_size=5), st.integers(1, 3), st.integers(0, 9))
def test_an_epoch_is_full_batches_of_one_bucket_without_an_image_twice(lengths, batch_size, seed):
    starts = np.cumsum([0, *lengths])
    buckets = [
        Bucket((1, i + 1), range(start, start + n))
        for i, (start, n) in enumerate(zip(starts, lengths, strict=False))
    ]
    num_steps = sum(n // batch_size for n in lengths)
    for epoch in range(2):
        steps = range(epoch * num_steps, (epoch + 1) * num_steps)
        batches = [batch_of(buckets, step, batch_size, seed) for step in steps]
        for batch in batches:
            assert len(batch.indices) == batch_size
            bucket = next(b for b in buckets if b.size == batch.size)
            assert set(batch.indices) <= set(bucket.indices)
        visited = [i for batch in batches for i in batch.indices]
        assert len(visited) == len(set(visited))
        assert len(visited) > sum(lengths) - len(lengths) * batch_size


def test_the_images_of_a_step_have_one_shape_and_are_seen_whole(tmp_path):
    rng = np.random.default_rng(0)
    sizes = [(60, 40), (40, 60), (60, 40), (40, 60), (50, 50), (60, 41)]
    for i, (width, height) in enumerate(sizes):
        noise = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
    source = FolderSource(survey(tmp_path), Shapes(32, 8, own=True))
    shapes = set()
    for step in range(9):
        samples = samples_at(source, step, 2, seed=0)
        assert len({sample.target.size for sample in samples}) == 1
        shapes.add(samples[0].target.size)
        for sample in samples:
            whole = sizes[int(sample.name[0])]
            assert sample.image.width / sample.image.height == pytest.approx(
                whole[0] / whole[1], rel=0.02
            )
    assert len(shapes) == 2  # the square has no other for a batch


def test_a_photo_on_its_side_is_upright_before_its_shape_is_chosen(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(2):
        Image.new("RGB", (80, 40), "red").save(tmp_path / f"{i}.jpg", exif=exif)
    source = FolderSource(survey(tmp_path), Shapes(32, 8, own=True))
    [bucket] = source.buckets(2)
    height, width = bucket.size
    assert height / width == pytest.approx(2, rel=0.2)
    assert math.prod(samples_at(source, 0, 2, 0)[0].target.size) == height * width
