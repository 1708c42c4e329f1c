"""The first look at a folder to train on."""

import hashlib
import io
import os
from pathlib import Path
from threading import get_ident

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from faults.hostile_images import bombs, seed_files
from uae.core.errors import UsageError
from uae.data import survey as survey_module
from uae.data.opening import open_image
from uae.data.survey import look_at, looks, survey
from uae.data.untrusted.file import MAX_JPEG_BYTES, Reason, UnreadableImage


def encoded(kind: str = "JPEG", seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (30, 45, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    good = encoded()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2.JPG").write_bytes(good)
    (tmp_path / "b" / "10.png").write_bytes(encoded("PNG"))
    (tmp_path / "a.webp").write_bytes(encoded("WEBP"))
    (tmp_path / "cut.jpg").write_bytes(good[:-100])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "bomb.png").write_bytes(bombs()["PNG of 178 MP"][1])
    (tmp_path / "text.jpeg").write_text("no picture")
    (tmp_path / "notes.txt").write_text("a note")
    return tmp_path


def test_bad_files_are_left_out_with_reasons(folder: Path) -> None:
    found = survey(folder)
    assert found.names == ["a.webp", "b/10.png", "b/2.JPG"]
    assert {error.path.name: error.reason for error in found.skipped} == {
        "bomb.png": Reason.TOO_MANY_PIXELS,
        "cut.jpg": Reason.TRUNCATED,
        "empty.png": Reason.EMPTY_FILE,
        "text.jpeg": Reason.NOT_AN_IMAGE,
    }
    summary = found.summary()
    assert "3 images, 4 skipped" in summary
    assert "1 file of other kinds ignored" in summary
    assert f"{folder}/empty.png: empty file: 0 bytes" in summary
    assert "... and 2 more" in found.summary(max_listed=2)


def test_a_good_folder_has_a_short_summary(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded())
    assert survey(tmp_path).summary() == f"{tmp_path}: 1 image"


def test_pictures_of_other_formats_are_left_out_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded())
    (tmp_path / "moving.GIF").write_bytes(encoded("GIF"))
    (tmp_path / "a.txt").write_text("the caption of a")
    for i in range(22):
        (tmp_path / f"{i:02d}.json").write_text("{}")
    found = survey(tmp_path)
    assert found.names == ["a.jpg"]
    [left_out] = found.skipped
    assert left_out.reason == Reason.UNSUPPORTED_FORMAT
    assert "22 files of other kinds ignored: 00.json, 01.json" in found.summary()
    assert "19.json and 2 more" in found.summary()
    assert "a.txt" not in found.summary()


def test_no_picture_is_decoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Image, "open")
    assert len(survey(folder).names) == 3


def test_progress_is_told_from_the_first_moment_on(tmp_path: Path) -> None:
    for i in range(40):
        (tmp_path / f"{i:02d}.jpg").write_bytes(encoded())
    told: list[tuple[int, int]] = []
    survey(tmp_path, lambda done, total: told.append((done, total)))
    assert told[0] == (0, 40)
    assert told[-1] == (40, 40)
    assert told == sorted(told)
    assert len(told) > 2


def test_a_wrong_caption_is_told_before_the_images_are_looked_at(folder: Path) -> None:
    (folder / "a.txt").write_bytes("a red circle".encode("utf-16"))
    told: list[int] = []
    with pytest.raises(UsageError, match="not UTF-8"):
        survey(folder, lambda done, _: told.append(done))
    assert told == []


def test_the_identity_is_the_content(folder: Path) -> None:
    before = survey(folder).inputs
    assert before["image"]["b/2.JPG"] == hashlib.sha256(encoded()).hexdigest()
    os.utime(folder / "b" / "2.JPG", (0, 0))
    (folder / "a.txt").write_text("\n A red circle. \n")
    (folder / "a.txt").rename(folder / "b" / "2.txt")
    assert survey(folder).inputs["image"] == before["image"]
    spaced = survey(folder).inputs["caption"]
    (folder / "b" / "2.txt").write_text("A red circle.")
    assert survey(folder).inputs["caption"] == spaced != before["caption"]
    other = bytearray(encoded())
    other[200] ^= 1
    (folder / "b" / "2.JPG").write_bytes(other)
    assert survey(folder).inputs["image"] != before["image"]


def test_what_is_no_file_has_no_content(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    for name in ("pipe.jpg", "gone.jpg"):
        look = look_at(tmp_path / name)
        assert look.digest is None
        assert look.fault is not None
        assert look.fault.reason == Reason.UNREADABLE


def test_a_file_larger_than_we_read_is_digested_whole(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    with path.open("wb") as file:
        file.write(encoded())
        file.truncate(MAX_JPEG_BYTES + 2)
    look = look_at(path)
    assert look.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert look.fault is not None
    assert look.fault.reason == Reason.TOO_LARGE_FILE


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_a_look_refuses_nothing_that_opens(tmp_path_factory: pytest.TempPathFactory, data) -> None:
    """And tells the same fault as opening where it tells one."""
    content = bytearray(data.draw(st.sampled_from(seed_files())))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("one") / "x.jpg"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    fault, error = look_at(path).fault, refusal(path)
    assert fault is None or str(fault) == str(error)


def refusal(path: Path) -> UnreadableImage | None:
    try:
        open_image(path)
    except UnreadableImage as error:
        return error
    return None


def test_threads_see_what_one_thread_sees(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(40):
        (folder / f"{i}.jpg").write_bytes(encoded(seed=i)[: 400 + i % 2 * 9999])
    alone = survey(folder)
    monkeypatch.setattr(survey_module, "_SLOW_FILE_S", 0)
    threads = set()
    monkeypatch.setattr(
        survey_module, "look_at", lambda path: threads.add(get_ident()) or look_at(path)
    )
    shared = looks(alone.listing.paths)
    assert [repr(look) for look in shared] == [repr(look) for look in alone.looks.values()]
    assert len(threads) > 1
    assert len(alone.skipped) == 24
