"""Results have names of their own: no length or spelling of an image's name ends the others."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from uae.core import disks
from uae.core.disks import MAX_NAME_BYTES, fitting_name, folded, result_path
from uae.core.durable import replace_file

NUM_BYTES = (240, 247, 248, 251, 255)


@pytest.fixture
def pictures(photos, tmp_path) -> Path:
    """Images with names as long as a disk takes, one of them in letters of three bytes."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    shutil.copy(photos / "a.png", folder / "short.png")
    for n in NUM_BYTES:
        shutil.copy(photos / "a.png", folder / f"{'x' * (n - 4)}.png")
    shutil.copy(photos / "a.png", folder / ("\u732b" * 83 + "ab.png"))
    return folder


def rows(out: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (out / "captions.jsonl").read_text().splitlines()]


def test_reconstruct_takes_names_of_any_length(pictures, run, random_model_folder, tmp_path):
    command = ("reconstruct", pictures, "--model", random_model_folder, "--out", "out", "-q")
    code, _, err = run(*command)
    assert code == 0, err
    places = {row["image"]: row["redraw"] for row in rows(tmp_path / "out")}
    assert sorted(places) == sorted(path.name for path in pictures.iterdir())
    assert len(set(places.values())) == len(places)
    assert places["short.png"] == "redraws/short.png.png"  # as ever
    assert all((tmp_path / "out" / place).is_file() for place in places.values())
    assert run(*command)[0] == 0  # and goes on
    assert len(rows(tmp_path / "out")) == len(places)


def test_the_folder_named_after_an_image_is_not_too_long(pictures, run, random_model_folder):
    code, out, err = run("reconstruct", pictures / f"{'x' * 251}.png", "--model",
                         random_model_folder, "-q")  # fmt: skip
    assert code == 0, err
    assert len(out.strip()) <= MAX_NAME_BYTES
    assert Path(out.strip(), "captions.jsonl").is_file()


def test_an_image_whose_name_a_disk_refuses_is_left_out_and_counted(
    photos, run, random_model_folder, monkeypatch, tmp_path
):
    shutil.copy(photos / "a.png", photos / "12:30.png")
    opens = Path.open

    def refuse(path, *rest, **named):
        if ":" in path.name and "out" in path.parts:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path))
        return opens(path, *rest, **named)

    monkeypatch.setattr(Path, "open", refuse)
    code, _, err = run("reconstruct", photos, "--model", random_model_folder, "--out", "out")
    assert code == 4
    assert "left out 1 (1 unfit name)" in err
    assert "12:30.png" in err
    assert "its disk takes no file of this name" in err
    assert sorted(row["image"] for row in rows(tmp_path / "out")) == [
        "a.png",
        "b.jpg",
        "sub/c.webp",
    ]


def test_unified_bench_keeps_redraws_apart_whose_names_some_disks_confuse(
    pictures, run, random_model_folder, tmp_path
):
    shutil.copy(pictures / "short.png", pictures / "SHORT.png")
    (pictures / f"{'y' * 255}").write_bytes((pictures / "short.png").read_bytes())
    names = [pictures / name for name in ("SHORT.png", "short.png", "y" * 255)]
    code, _, err = run("eval", "unified-bench", *names, "--model", random_model_folder,
                       "--out", "bench", "-q")  # fmt: skip
    assert code == 0, err
    found = [json.loads(x) for x in (tmp_path / "bench" / "items.jsonl").read_text().splitlines()]
    places = [row["details"]["pictures"]["redraw"] for row in found]
    assert len(set(map(folded, places))) == len(names)
    assert all((tmp_path / "bench" / place).is_file() for place in places)
    assert "images/plain/SHORT.png" in places  # the first of both keeps its name
    assert "images/plain/short.png" not in places


PARTS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)


@given(st.lists(PARTS.map(lambda text: text * (300 // len(text.encode()))), max_size=8))
@example(["IMG.JPG", "img.jpg", "Img.jpg"])
@example(["caf\u00e9", "cafe\u0301"])
@example(["x" * 300 + "1", "x" * 300 + "2"])
@example(["\udce9" * 300, "\udce9" * 301])
def test_results_have_paths_that_fit_and_differ(names: list[str]) -> None:
    taken: set[str] = set()
    for name in dict.fromkeys(names):
        path = result_path(f"sub/{name}.png", taken)
        assert len(os.fsencode(path.removeprefix("sub/"))) <= MAX_NAME_BYTES
        assert path.startswith("sub/")
        assert path.endswith(".png")
        assert folded(path) not in taken
        taken.add(folded(path))


@given(PARTS)
def test_a_name_that_fits_is_kept(name: str) -> None:
    if len(name.encode()) <= MAX_NAME_BYTES:
        assert fitting_name(name) == name


@pytest.mark.parametrize("num_bytes", [1, 250, 251, 255])
def test_a_file_of_any_name_is_replaced(num_bytes, tmp_path):
    path = tmp_path / ("x" * num_bytes)
    for data in (b"first", b"second"):
        replace_file(path, data)
        assert path.read_bytes() == data
    assert len(os.listdir(tmp_path)) == 1


def test_what_a_refused_name_is():
    assert disks.is_unfit_name(errno.ENAMETOOLONG, Path("a"))
    assert disks.is_unfit_name(errno.EILSEQ, Path("a"))
    assert disks.is_unfit_name(errno.EINVAL, Path("12:30"))
    assert not disks.is_unfit_name(errno.EINVAL, Path("a"))
    assert not disks.is_unfit_name(errno.ENOSPC, Path("12:30"))
