"""Opening images from strangers, and folders of them."""

import io
import os
import pickle
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from faults.hostile_images import bombs, gray_jpeg, mutated, png_file, seed_files
from uae.core.errors import UsageError
from uae.data.folder import fit_square, list_images
from uae.data.opening import open_image, read_image
from uae.data.untrusted.file import MAX_PIXELS, Reason, UnreadableImage

TRANSPOSED_BY = {  # EXIF orientation to how the stored picture was turned from the upright one
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def picture(mode: str = "RGB", size: tuple[int, int] = (45, 30)) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (6, 9, 4), dtype=np.uint8)
    noise[0, 0] = (255, 0, 0, 255)
    return Image.fromarray(noise, "RGBA").resize(size, Image.Resampling.NEAREST).convert(mode)


def smooth(size: tuple[int, int]) -> Image.Image:
    """A picture without symmetry that JPEG keeps well."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    channels = [255 * x / size[0], 255 * y / size[1], 128 + 100 * np.sin(x / 9)]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def opened(data: bytes) -> np.ndarray:
    image = read_image(io.BytesIO(data), Path("picture"))
    assert image.mode == "RGB"
    assert image.info == {}
    return np.asarray(image)


def refusal(data: bytes) -> UnreadableImage:
    with pytest.raises(UnreadableImage) as caught:
        read_image(io.BytesIO(data), Path("picture"))
    return caught.value


def on_white(image: Image.Image) -> np.ndarray:
    page = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(page, image.convert("RGBA")).convert("RGB"))


# What is accepted


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_has_the_pixels_of_its_decoder(mode: str, options: dict[str, Any]) -> None:
    data = encoded(picture(mode), "JPEG", **options)
    expected = Image.open(io.BytesIO(data)).convert("RGB")
    np.testing.assert_array_equal(opened(data), np.asarray(expected))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA", "RGBA"])
def test_png_of_every_mode(mode: str) -> None:
    image = picture(mode)
    np.testing.assert_allclose(opened(encoded(image, "PNG")), on_white(image), atol=1)  # rounding


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_lossless_webp(mode: str) -> None:
    image = picture(mode)
    data = encoded(image, "WEBP", lossless=True, exact=True)
    np.testing.assert_allclose(opened(data), on_white(image), atol=1)  # rounding


def test_lossy_webp_is_near() -> None:
    image = smooth((64, 48))
    error = np.abs(opened(encoded(image, "WEBP", quality=95)).astype(int) - np.asarray(image))
    assert error.mean() < 3  # of 255, lossy


def test_16_bit_channels_keep_their_upper_byte() -> None:
    rows = b"\0" + struct.pack(">4H", 0, 0x1234, 0x8000, 0xFFFF)
    gray = opened(png_file((4, 1), 16, 0, rows))
    assert gray[0, :, 0].tolist() == [0, 0x12, 0x80, 0xFF]
    rows = b"\0" + struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0xFFFF, 0, 0x7FFF)
    color = opened(png_file((2, 1), 16, 2, rows))
    assert color[0].tolist() == [[0x12, 0x56, 0x9A], [0xFF, 0, 0x7F]]


@pytest.mark.parametrize(
    ("depth", "row", "step"),
    [(1, b"\x40", 255), (2, b"\x1b", 85), (4, b"\x01\x23", 17), (8, b"\0\1\2\3", 1)],
)
def test_transparent_gray_is_white_at_every_depth(depth: int, row: bytes, step: int) -> None:
    data = png_file((4, 1), depth, 0, b"\0" + row, (b"tRNS", b"\0\1"))
    samples = [0, 1, 0, 0] if depth == 1 else [0, 1, 2, 3]
    expected = [255 if sample == 1 else sample * step for sample in samples]
    assert opened(data)[0, :, 0].tolist() == expected


def test_transparent_colour_and_palette_are_laid_on_white() -> None:
    rgb = png_file((2, 1), 8, 2, b"\0\1\2\3\4\5\6", (b"tRNS", struct.pack(">3H", 1, 2, 3)))
    assert opened(rgb)[0].tolist() == [[255, 255, 255], [4, 5, 6]]
    palette = (b"PLTE", bytes([0, 0, 0, 9, 9, 9])), (b"tRNS", bytes([0x80]))
    half = opened(png_file((2, 1), 8, 3, b"\0\0\1", *palette))
    assert half[0].tolist() == [[127, 127, 127], [9, 9, 9]]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_first_frame_of_an_animation(kind: str) -> None:
    first = picture()
    others = [first.rotate(180), first.rotate(90)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=others, **options)
    np.testing.assert_array_equal(opened(data), np.asarray(first))


@pytest.mark.parametrize("orientation", TRANSPOSED_BY)
@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"lossless": True})]
)
def test_every_orientation_gives_the_same_upright_picture(
    kind: str, options: dict[str, Any], orientation: int
) -> None:
    upright = smooth((48, 32))
    turn = TRANSPOSED_BY[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "maker"
    result = opened(encoded(stored, kind, exif=exif.tobytes(), **options))
    assert result.shape == (32, 48, 3)
    error = np.abs(result.astype(int) - np.asarray(upright))
    assert error.mean() < (3 if kind == "JPEG" else 1e-9)  # of 255; JPEG is lossy


def test_damaged_exif_does_not_cost_the_picture() -> None:
    image = picture()
    far_directory, far_entry = b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"
    for exif in (b"Exif\0\0" + far_directory, b"Exif\0\0" + far_entry, b"Exif\0\0junk"):
        plain = opened(encoded(image, "JPEG"))
        np.testing.assert_array_equal(opened(encoded(image, "JPEG", exif=exif)), plain)


def test_metadata_is_not_decoded() -> None:
    text = zlib.compress(bytes(100_000_000), 9)  # Pillow alone refuses a picture with such a text
    chunks = (b"zTXt", b"k\0\0" + text), (b"iCCP", b"p\0\0" + text)
    assert opened(png_file((4, 1), 8, 0, b"\0\0\1\2\3", *chunks))[0, :, 0].tolist() == [0, 1, 2, 3]


def test_bytes_after_the_picture_and_between_segments_are_passed_over() -> None:
    image = picture()
    for kind in ("JPEG", "PNG", "WEBP"):
        data = encoded(image, kind)
        np.testing.assert_array_equal(opened(data + b"\xff\xd8\xff\xe1 motion"), opened(data))
    data = encoded(image, "JPEG")
    np.testing.assert_array_equal(opened(data[:20] + b"\0\0\xff" + data[20:]), opened(data))


def test_content_counts_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "png.jpg"
    path.write_bytes(encoded(picture(), "PNG"))
    np.testing.assert_array_equal(np.asarray(open_image(str(path))), np.asarray(picture()))


def interlaced_png(samples: np.ndarray, num_bytes_cut: int = 0) -> bytes:
    """Build an 8-bit grey PNG in seven passes, its rows cut before compression."""
    rows = b""
    passes = "0088 4088 0448 2044 0224 1022 0112"
    for left, top, across, down in (map(int, digits) for digits in passes.split()):
        part = samples[top::down, left::across]
        rows += b"".join(b"\0" + row.tobytes() for row in part if part.shape[1])
    data = bytearray(png_file(samples.shape[::-1], 8, 0, rows[: len(rows) - num_bytes_cut]))
    data[28] = 1
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4)
    return bytes(data)


@given(st.integers(1, 20), st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_interlaced_png_is_read_whole_or_refused(width: int, height: int) -> None:
    assume(max(width, height) <= 20 * min(width, height))
    samples = np.arange(width * height, dtype=np.uint8).reshape(height, width)
    np.testing.assert_array_equal(opened(interlaced_png(samples))[..., 1], samples)
    assert refusal(interlaced_png(samples, num_bytes_cut=1)).reason == Reason.TRUNCATED


# What is refused


@pytest.mark.parametrize("index", range(len(seed_files())))
def test_a_file_cut_anywhere_is_refused(index: int) -> None:
    data = seed_files((11, 9))[index]
    end = len(data) - (data.startswith(b"RIFF") and data[-1] == 0)  # RIFF pads to even lengths
    for length in range(1, end):
        assert refusal(data[:length]).reason in (Reason.TRUNCATED, Reason.NOT_AN_IMAGE)


@pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 2}, {"subsampling": 0}])
def test_a_cut_jpeg_closed_by_an_end_marker_is_refused(options: dict[str, Any]) -> None:
    data = encoded(picture(size=(128, 96)), "JPEG", **options)
    scan = data.index(b"\xff\xda") + 14
    for share in (0.1, 0.5, 0.9):
        cut = data[: scan + int(share * (len(data) - scan))].rstrip(b"\xff") + b"\xff\xd9"
        Image.open(io.BytesIO(cut)).load()  # Pillow alone returns it, grey from the cut on
        assert refusal(cut).reason == Reason.TRUNCATED


def test_truncated_files_are_refused_even_where_another_library_allows_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encoded(picture("L", (64, 64)), "JPEG", progressive=True)
    assert refusal(data[: len(data) // 2]).reason == Reason.TRUNCATED
    sequential = encoded(picture(size=(64, 64)), "JPEG")
    cut = sequential[: len(sequential) * 3 // 4].rstrip(b"\xff") + b"\xff\xd9"
    assert refusal(cut).reason == Reason.TRUNCATED
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_one_flipped_bit_in_png_pixels_is_refused() -> None:
    data = bytearray(encoded(picture(), "PNG"))
    data[data.index(b"IDAT") + 20] ^= 4
    error = refusal(bytes(data))
    assert error.reason == Reason.DAMAGED
    assert "checksum of its IDAT" in str(error)


@pytest.mark.parametrize(
    ("data", "reason", "words"),
    [
        (b"", Reason.EMPTY_FILE, "0 bytes"),
        (b"hello, world", Reason.NOT_AN_IMAGE, "JPEG, PNG or WebP"),
        (b"\xff", Reason.NOT_AN_IMAGE, ""),
        (bytes(5000), Reason.NOT_AN_IMAGE, ""),
        (b"RIFF\x24\0\0\0WAVEfmt ", Reason.NOT_AN_IMAGE, ""),
        (b"BM" + bytes(60), Reason.UNSUPPORTED_FORMAT, "BMP, expected JPEG, PNG or WebP"),
        (b"\0\0\0\x18ftypheic" + bytes(60), Reason.UNSUPPORTED_FORMAT, "HEIC"),
        (b"\0\0\0\x18ftypavif" + bytes(60), Reason.UNSUPPORTED_FORMAT, "AVIF"),
        (b"\xff\xd8\xff\xd9", Reason.DAMAGED, "before the picture"),
        (b"RIFF\x24\0\0\0WEBPVP8 " + bytes(60), Reason.DAMAGED, "header"),
        (b"RIFF\x0c\0\0\0WEBPVP8X" + bytes(60), Reason.DAMAGED, "declares 20 bytes"),
        (png_file((0, 4), 8, 0, b""), Reason.DAMAGED, "0 x 4"),
        (png_file((4, 1), 8, 0, b"\0\0\1\2\3", (b"ABCD", b"")), Reason.DAMAGED, "unknown kind"),
        (
            png_file((4, 4), 8, 0, b"\0\0\1\2\3"),
            Reason.TRUNCATED,
            "15 bytes of its pixels",
        ),
        (png_file((4, 1), 7, 9, b"\0\0\1\2\3"), Reason.DAMAGED, "cannot be decoded"),
        (png_file((21, 1), 8, 0, bytes(22)), Reason.EXTREME_ASPECT, "at most 20 to 1"),
    ],
)
def test_refusals_say_what_and_why(data: bytes, reason: Reason, words: str) -> None:
    error = refusal(data)
    assert error.reason == reason
    assert str(error).startswith("picture: ")
    assert words in str(error)


def test_aspect_of_20_is_allowed() -> None:
    assert opened(png_file((20, 1), 8, 0, bytes(21))).shape == (1, 20, 3)


def test_a_jpeg_of_an_uncommon_process_is_named() -> None:
    data = encoded(picture(), "JPEG").replace(b"\xff\xc0", b"\xff\xc3", 1)
    error = refusal(data)
    assert error.reason == Reason.UNSUPPORTED_FORMAT
    assert "SOF3" in str(error)


def test_a_large_jpeg_of_very_many_scans_is_refused() -> None:
    data = encoded(Image.new("L", (64, 64)), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    frame = bytearray(data)
    struct.pack_into(">HH", frame, data.index(b"\xff\xc2") + 5, 7_000, 7_000)
    assert refusal(bytes(frame[:-2]) + last * 40 + b"\xff\xd9").reason == Reason.TOO_MANY_PIXELS
    assert opened(data[:-2] + last * 40 + b"\xff\xd9").shape == (64, 64, 3)  # a small one may


@pytest.mark.parametrize("name", list(bombs()))
def test_bombs_are_refused_at_once(name: str, tmp_path: Path) -> None:
    reason, data = bombs()[name]
    path = tmp_path / "bomb.png"
    path.write_bytes(data)
    start = time.process_time()
    with pytest.raises(UnreadableImage) as caught:
        open_image(path)
    assert time.process_time() - start < 1.0  # of a busy machine; faults/ holds it to 0.05
    assert caught.value.reason == reason


def test_the_bombs_are_what_they_say() -> None:
    files = bombs()
    assert 20_000 < len(files["PNG of 178 MP"][1]) < 23_000
    assert 6_000_000 < len(files["JPEG of 400 MP"][1]) < 6_500_000
    assert opened(gray_jpeg(640, 480)).shape == (480, 640, 3)
    assert np.ptp(opened(gray_jpeg(640, 480))) == 0


def test_paths_that_are_no_readable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    found = {}
    for name in ("pipe.jpg", "folder.jpg", "loop.jpg", "missing.jpg"):
        with pytest.raises(UnreadableImage) as caught:
            open_image(tmp_path / name)
        assert caught.value.reason == Reason.UNREADABLE
        found[name] = caught.value.detail
    assert found["pipe.jpg"] == found["folder.jpg"] == "not a regular file"
    assert found["missing.jpg"] == "No such file or directory"

    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "locked.jpg").write_bytes(encoded(picture(), "JPEG"))
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UnreadableImage, match=r"locked\.jpg: unreadable: Permission denied"):
        open_image(tmp_path / "locked.jpg")


def test_the_error_pickles_and_is_a_usage_error() -> None:
    error = UnreadableImage(Path("a.jpg"), Reason.TRUNCATED, "it ends")
    copy = pickle.loads(pickle.dumps(error))  # what a worker process does
    assert (copy.path, copy.reason, copy.detail) == (Path("a.jpg"), Reason.TRUNCATED, "it ends")
    assert str(copy) == "a.jpg: truncated: it ends"
    assert isinstance(error, UsageError)
    assert isinstance(error, ValueError)


def test_no_message_of_a_decoder_is_passed_on() -> None:
    files, messages = seed_files(), set()
    for index in range(300):
        try:
            read_image(io.BytesIO(mutated(files, index, seed=2)), Path("picture"))
        except UnreadableImage as error:
            messages.add(error.detail)
    assert len(messages) > 5
    assert not any("0x" in message or "BytesIO" in message for message in messages)


def test_mutated_files_decode_or_are_refused() -> None:
    files = seed_files()
    num_decoded = 0
    for index in range(600):
        try:
            image = read_image(io.BytesIO(mutated(files, index, seed=1)), Path("picture"))
        except UnreadableImage:
            continue
        num_decoded += 1
        assert image.mode == "RGB"
        assert image.width * image.height <= MAX_PIXELS
    assert 20 < num_decoded < 500


STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBPVP8", b"")


@given(st.binary(max_size=200), st.sampled_from(STARTS))
@settings(max_examples=200, deadline=None)
def test_random_bytes_are_refused(data: bytes, start: bytes) -> None:
    assert isinstance(refusal(start + data).reason, Reason)


# Folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    good = encoded(picture(), "JPEG")
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "b" / "2.JPG").write_bytes(good)
    (tmp_path / "b" / "10.png").write_bytes(encoded(picture(), "PNG"))
    (tmp_path / "a.webp").write_bytes(encoded(picture(), "WEBP"))
    (tmp_path / "cut.jpg").write_bytes(good[:-100])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "bomb.png").write_bytes(bombs()["PNG of 178 MP"][1])
    (tmp_path / "text.jpeg").write_text("no picture")
    (tmp_path / "notes.txt").write_text("a note")
    (tmp_path / ".hidden.jpg").write_bytes(good)
    (tmp_path / ".hidden" / "c.jpg").write_bytes(good)
    return tmp_path


def test_listing_is_sorted_and_counts_the_rest(folder: Path) -> None:
    listing = list_images(folder)
    assert listing.names == (
        "a.webp", "b/10.png", "b/2.JPG", "bomb.png", "cut.jpg", "empty.png", "text.jpeg",
    )  # fmt: skip
    assert listing.others == ("notes.txt",)
    assert listing.paths[1] == folder / "b" / "10.png"
    assert listing.skipped == ()


@pytest.mark.parametrize(
    "name",
    [
        "a-masklabel.png",
        "b/a-condlabel.png",
        "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
        "b/@eaDir/c.png",
        "__MACOSX/a.jpg",
        "Thumbs/a.jpg",
        "b/#recycle/old.jpg",
    ],
)
def test_masks_thumbnails_and_deleted_pictures_are_files_of_other_kinds(
    folder: Path, name: str
) -> None:
    before = list_images(folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(encoded(picture(), "PNG"))
    (folder / name).with_name("._a.jpg").write_bytes(b"\0\5\26\7")
    listing = list_images(folder)
    assert listing.names == before.names
    assert set(listing.unused) - set(before.unused) == {name}


def test_links_to_folders_are_not_followed(folder: Path) -> None:
    (folder / "again").symlink_to(folder)
    assert len(list_images(folder).names) == 7


def test_a_subfolder_that_may_not_be_read_is_listed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    (skipped,) = list_images(folder).skipped
    assert (skipped.path, skipped.reason) == (folder / "b", Reason.UNREADABLE)


def test_folders_without_images_are_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\(0 files of other kinds\): expected JPEG, PNG"):
        list_images(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(UsageError, match="1 file of other kinds"):
        list_images(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"a\.txt is a file, not a folder"):
        list_images(tmp_path / "a.txt")


# Squares


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_fit_square_has_the_size_asked_for(width: int, height: int, size_px: int) -> None:
    for how in ("crop", "pad", "stretch"):
        square = fit_square(Image.new("RGB", (width, height), "red"), size_px, how)
        assert square.size == (size_px, size_px)
        if how != "pad":
            assert np.unique(np.asarray(square).reshape(-1, 3), axis=0).tolist() == [[255, 0, 0]]


def test_fit_square_crops_the_centre_and_pads_evenly() -> None:
    stripes = np.zeros((10, 30, 3), dtype=np.uint8)
    stripes[:, 10:20] = 200
    cropped = fit_square(Image.fromarray(stripes), 10, "crop")
    np.testing.assert_array_equal(np.asarray(cropped), 200)
    padded = np.asarray(fit_square(Image.fromarray(stripes), 30, "pad"))
    np.testing.assert_array_equal(padded[10:20], stripes)
    np.testing.assert_array_equal(padded[[0, 9, 20, 29]], 255)


def test_fit_square_keeps_a_square_as_it_is() -> None:
    square = picture(size=(32, 32))
    np.testing.assert_array_equal(np.asarray(fit_square(square, 32)), np.asarray(square))
