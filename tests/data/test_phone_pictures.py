"""What phones and their editors store: large pictures, and orientations written in odd ways."""

import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from faults.hostile_images import gray_jpeg
from uae.data.opening import read_image
from uae.data.untrusted.exif import orientation
from uae.data.untrusted.file import MAX_JPEG_PIXELS, MAX_PIXELS, Reason, UnreadableImage

SHORT, LONG = 3, 4


def photo(size: tuple[int, int] = (96, 72)) -> Image.Image:
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    channels = [255 * x / size[0], 255 * y / size[1], 128 + 100 * np.sin(x / 9)]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def jpeg(image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90, **options)
    return stream.getvalue()


def opened(data: bytes) -> Image.Image:
    return read_image(io.BytesIO(data), Path("photo.jpg"))


def refusal(data: bytes) -> UnreadableImage:
    with pytest.raises(UnreadableImage) as caught:
        opened(data)
    return caught.value


# Orientations


def exif(*entries: tuple[int, int, int, int], order: str = "<") -> bytes:
    """An EXIF block of (tag, kind, count, value); values of four bytes, as their kind puts them."""
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    data += struct.pack(order + "H", len(entries))
    for tag, kind, count, value in entries:
        letter = {1: "Bxxx", 3: "Hxx", 6: "bxxx", 8: "hxx", 9: "i"}.get(kind, "I")
        data += struct.pack(order + "HHI" + letter, tag, kind, count, value)
    return b"Exif\0\0" + data + bytes(4)


def with_exif(data: bytes, *blocks: bytes) -> bytes:
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(b) + 2) + b for b in blocks)
    return data[:2] + segments + data[2:]


@pytest.mark.parametrize(
    "blocks",
    [
        [exif((0x112, LONG, 1, 6))],
        [exif((0x112, LONG, 1, 6), order=">")],
        [exif((0x112, SHORT, 1, 6)), exif((0x112, SHORT, 1, 1))],
        [exif((0x112, SHORT, 1, 1)), exif((0x112, SHORT, 1, 6))],
        [exif((0x112, SHORT, 1, 3), (0x112, SHORT, 1, 8))],
        [exif((0x112, SHORT, 1, 5))[:12], b"Exif\0\0" + exif((0x112, SHORT, 1, 5))[12:]],
        [exif((0x112, 1, 1, 6))],
    ],
    ids=["LONG", "LONG, big endian", "6, 1", "1, 6", "two tags", "split in two", "BYTE"],
)
def test_pictures_stand_as_pillow_turns_them(blocks: list[bytes]) -> None:
    data = with_exif(jpeg(photo()), *blocks)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(np.asarray(opened(data)), np.asarray(expected))


ENTRIES = st.tuples(
    st.sampled_from([0x10F, 0x112]),
    st.sampled_from([SHORT, LONG, 6, 8, 9]),
    st.integers(0, 2),
    st.integers(0, 9),
)


@given(st.lists(ENTRIES, max_size=4), st.sampled_from("<>"))
@example([(0x112, LONG, 1, 6)], "<")
@settings(max_examples=300, deadline=None)
def test_any_directory_is_read_as_pillow_reads_it(
    entries: list[tuple[int, int, int, int]], order: str
) -> None:
    # values that do not fit into four bytes lie elsewhere, in no file of ours
    small = [x for x in entries if x[2] * {LONG: 4, 9: 4, SHORT: 2, 8: 2}.get(x[1], 1) <= 4]
    block = exif(*small, order=order)
    pillow = Image.Exif()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pillow.load(block)
        found = pillow.get(0x112, 1)
    assert orientation(block) == (found if found in range(1, 9) else 1)


# Sizes


@pytest.mark.parametrize("size", [(8160, 6144), (8192, 6144), (9248, 6936)])
def test_what_phones_of_50_and_64_megapixels_store_is_whole(size: tuple[int, int]) -> None:
    assert opened(gray_jpeg(*size)).size == size


@pytest.mark.parametrize("size", [(12_032, 9_024), (16_384, 12_288)])
def test_what_phones_of_108_and_200_megapixels_store_comes_at_half_its_size(
    size: tuple[int, int],
) -> None:
    image = opened(gray_jpeg(*size))
    assert image.size == (size[0] // 2, size[1] // 2)
    assert np.ptp(np.asarray(image.resize((64, 64)))) == 0


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_reduced_picture_is_the_picture_made_smaller(
    options: dict[str, object], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = photo((320, 240)).convert(mode)
    data = jpeg(image, **options)
    whole = opened(data)
    monkeypatch.setattr("uae.data.untrusted.jpeg.MAX_PIXELS", 80 * 60)
    reduced = opened(data)
    assert reduced.size == (80, 60)
    error = np.asarray(reduced, int) - np.asarray(whole.resize((80, 60), Image.Resampling.BOX), int)
    assert np.abs(error).mean() < 3  # of 255
    for share in (0.3, 0.9):  # and as strict
        cut = data[: int(len(data) * share)].rstrip(b"\xff")
        assert refusal(cut).reason == Reason.TRUNCATED


def test_turned_pictures_are_reduced_too(monkeypatch: pytest.MonkeyPatch) -> None:
    data = with_exif(jpeg(photo((97, 71))), exif((0x112, SHORT, 1, 6)))
    monkeypatch.setattr("uae.data.untrusted.jpeg.MAX_PIXELS", 49 * 36)
    assert opened(data).size == (36, 49)


def test_limits_are_said() -> None:
    assert 16_384 * 12_288 < MAX_JPEG_PIXELS < 4 * MAX_PIXELS
    assert "= 225.0 megapixels, at most 210 allowed" in str(refusal(gray_jpeg(15_000, 15_000)))


@pytest.mark.parametrize(("subsampling", "fits"), [("4:2:0", True), ("4:4:4", False)])
def test_coefficients_of_progressive_pictures_have_a_limit(subsampling: str, fits: bool) -> None:
    data = bytearray(jpeg(photo(), progressive=True, subsampling=subsampling))
    struct.pack_into(">HH", data, data.index(b"\xff\xc2") + 5, 12_288, 16_384)
    if fits:  # up to its pixels, which are not there
        assert refusal(bytes(data[:-2])).detail == "its end marker is missing"
    else:
        error = refusal(bytes(data))
        assert error.reason == Reason.TOO_MANY_PIXELS
        assert "take 1,152 MiB to decode, at most 640 allowed" in error.detail
