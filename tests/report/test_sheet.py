"""Sheets of results, judged by their pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from uae.report import sheet
from uae.report.sheet import MAX_ROWS, SheetRow, StageColumn, progress_sheet, reconstruction_sheet

RED, BLUE, GREEN = (200, 10, 10), (10, 10, 200), (10, 160, 10)
SCALE = 2


def row(caption: str = "A red square.", size: tuple[int, int] = (64, 64)) -> SheetRow:
    original, redraw = Image.new("RGB", size, RED), Image.new("RGB", size, BLUE)
    similarities = {"CLIP": 0.9, "DINOv2": 0.8}
    return SheetRow(
        name="a.png", original=original, caption=caption, redraw=redraw, similarities=similarities
    )


def extent(image: Image.Image, color: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of a colour."""
    rows, columns = np.nonzero((np.asarray(image) == color).all(axis=-1))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_pictures_stand_side_by_side_enlarged_threefold() -> None:
    image = reconstruction_sheet([row()])
    left, top, right, bottom = extent(image, RED)
    edge = 2  # the thin line around a picture
    assert (right - left + edge, bottom - top + edge) == (3 * 64 * SCALE, 3 * 64 * SCALE)
    redraw = extent(image, BLUE)
    assert redraw[1] == top
    assert redraw[3] == bottom
    assert redraw[0] > right
    assert redraw[2] < image.width


def test_small_pictures_keep_hard_pixels() -> None:
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 255
    picture = Image.fromarray(checks.astype(np.uint8)).convert("RGB")
    enlarged = np.asarray(sheet._fit_inside(picture, 384))
    assert set(np.unique(enlarged)) == {0, 255}
    np.testing.assert_array_equal(enlarged[::6, ::6, 0], checks)


@given(st.integers(1, 500), st.integers(1, 500))
@settings(max_examples=30, deadline=None)
def test_any_size_fits_the_square_and_keeps_its_proportions(width: int, height: int) -> None:
    fitted = sheet._fit_inside(Image.new("RGB", (width, height)), 384)
    assert max(fitted.size) == 384
    assert min(fitted.size) == max(1, round(384 * min(width, height) / max(width, height)))


def test_rows_grow_with_their_captions() -> None:
    short = reconstruction_sheet([row()])
    long = reconstruction_sheet([row("a long caption that goes on " * 60)])
    assert long.width == short.width
    assert long.height > short.height + 200


def test_every_word_of_a_caption_is_there() -> None:
    caption = "one two  three\nfour " + "five " * 50 + "x" * 300
    lines = sheet._wrap(caption, 380, 14)
    assert "".join(lines).replace(" ", "") == "".join(caption.split())
    assert all(sheet._width(line, 14) <= 380 for line in lines)


def test_a_caption_beyond_the_limit_says_what_is_left_out() -> None:
    lines = sheet._wrap("word " * 5000, 380, 14)
    shown = " ".join(lines[:-1]).count("word")
    assert lines[-1] == f"[... and {5000 - shown:,} words more]"


def test_letters_that_the_font_lacks_are_replaced() -> None:
    text = "na\u00efve caf\u00e9 \u2019 \u201cGr\u00f6\u00dfe\u201d \u4e2d"
    assert sheet._printable(text) == 'naive cafe \' "Grosse" ?'
    reconstruction_sheet([row("\u4e2d\u6587 \U0001f642 \u0644")])


def test_numbers_are_aligned_to_the_right_and_missing_ones_are_dashes() -> None:
    bare = SheetRow(name="b", original=Image.new("RGB", (8, 8)), caption="", redraw=row().redraw)
    image = np.asarray(reconstruction_sheet([row(), bare]))
    dark = (image < 120).all(axis=-1)
    last_column = [np.nonzero(rows.any(axis=0))[0].max() for rows in np.array_split(dark, 2)]
    assert abs(last_column[0] - last_column[1]) <= 4  # side bearing of the glyphs


def test_of_very_many_images_the_first_are_drawn() -> None:
    rows = [row()] * (MAX_ROWS + 5)
    few, many = reconstruction_sheet(rows[:MAX_ROWS]), reconstruction_sheet(rows)
    assert 0 < many.height - few.height < 100


def test_stages_stand_in_columns_over_their_captions() -> None:
    originals = [Image.new("RGB", (64, 64), RED)] * 2
    stages = [
        StageColumn(
            title="before", captions=["a", "b"], redraws=[Image.new("RGB", (64, 64), BLUE)] * 2
        ),
        StageColumn(
            title="after",
            captions=["a longer caption " * 20, "b"],
            redraws=[Image.new("RGB", (64, 64), GREEN)] * 2,
            similarities=[0.5, 0.75],
        ),
    ]
    image = progress_sheet(originals, stages)
    lefts = [extent(image, color)[0] for color in (RED, BLUE, GREEN)]
    assert lefts[1] - lefts[0] == lefts[2] - lefts[1] > 200 * SCALE
    assert len({extent(image, color)[1::2] for color in (RED, BLUE, GREEN)}) == 1


def test_missing_or_uneven_input_is_refused() -> None:
    picture = Image.new("RGB", (8, 8))
    stage = StageColumn(title="before", captions=["a"], redraws=[picture, picture])
    with pytest.raises(ValueError, match="rows is empty"):
        reconstruction_sheet([])
    with pytest.raises(ValueError, match="originals or stages is empty"):
        progress_sheet([picture], [])
    with pytest.raises(ValueError, match="stage 'before' has another number of images"):
        progress_sheet([picture], [stage])
