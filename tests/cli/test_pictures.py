"""`uae caption`, `uae draw` and `uae reconstruct`, from the command to the files."""

import io
import json
import resource
import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from uae.backends import own as loop
from uae.data.folder_captions import read_captions
from uae.rewards import loading


@pytest.fixture
def full_disk():
    """Let files grow up to a number of bytes, as on a disk that has no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda num_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def json_lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


# -- caption --------------------------------------------------------------------------------------


def test_one_image_gives_its_caption_alone(run, photos, random_model_folder):
    code, out, err = run("caption", photos / "a.png", "--model", random_model_folder)
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    assert "{" not in out
    command = ("caption", photos / "a.png", "--model", random_model_folder, "--json")
    [row] = json_lines(run(*command)[1])
    assert row["caption"] == out.strip()
    assert row["num_tokens"] > 0


def test_an_image_on_stdin(run, photos, random_model_folder, monkeypatch):
    stdin = io.TextIOWrapper(io.BytesIO((photos / "a.png").read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    code, out, _ = run("caption", "-", "--model", random_model_folder)
    assert code == 0
    assert out.strip()


def test_a_folder_gives_json_lines_that_do_not_depend_on_the_batch(
    run, photos, random_model_folder
):
    command = ("caption", photos, "--model", random_model_folder, "--temperature", "2")
    code, out, err = run(*command)
    rows = json_lines(out)
    assert code == 0
    assert [row["image"] for row in rows] == ["a.png", "b.jpg", "sub/c.webp"]
    assert "captioned 3, 1 other files ignored" in err
    assert json_lines(run(*command, "--batch-size", "1")[1]) == rows
    [alone] = json_lines(run("caption", photos / "a.png", *command[2:], "--json")[1])
    assert alone["caption"] == rows[0]["caption"]


def test_what_is_no_image_is_named_and_a_gif_is_left_out(run, photos, random_model_folder):
    Image.new("RGB", (32, 32)).save(photos / "moving.gif")
    code, out, err = run("caption", photos, "--model", random_model_folder)
    assert code == 4
    assert len(json_lines(out)) == 3
    assert "left out 1 (1 unsupported format), 1 other files ignored: " in err
    assert f"ignored: {photos / 'notes.txt'}\n" in err
    assert f"{photos / 'moving.gif'}: unsupported format: GIF, expected JPEG, PNG or WebP" in err


def test_a_job_that_stopped_goes_on_and_gives_the_same(run, photos, random_model_folder):
    command = ("caption", photos, "--model", random_model_folder, "--temperature", "2", "--out")
    code, out, _ = run(*command, "whole.jsonl")
    assert (code, out) == (0, "")
    whole = Path("whole.jsonl").read_text()
    first = whole.splitlines(keepends=True)[0]
    Path("cut.jsonl").write_text(first + whole[len(first) :][:20])
    code, _, err = run(*command, "cut.jsonl")
    assert code == 0
    assert "captioned 2, 1 done before" in err
    assert Path("cut.jsonl").read_text() == whole


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("caption", "photos", "--out", "x.jsonl"), "captioned 0, 3 done before"),
        (("reconstruct", "photos", "--out", "again"), "reconstructed 0, 3 done before"),
        (("eval", "geneval-images", "--prompts", "p.jsonl", "--out", "drawn"), "drawn   0, 4 kept"),
        (
            ("eval", "geneval-images", "--prompts", "p.jsonl", "--rewrite", "--out", "more"),
            "drawn   0, 4 kept",
        ),
    ],
    ids=lambda x: x[-1] if isinstance(x, tuple) else "",
)
def test_what_has_nothing_to_do_loads_no_model(
    run, photos, random_model_folder, monkeypatch, command, said
):
    line = {"tag": "single_object", "include": [{"class": "cup", "count": 1}], "prompt": "a cup"}
    Path("p.jsonl").write_text(json.dumps(line) + "\n")
    whole = (*command, "--model", random_model_folder)
    first = run(*whole)
    assert first[0] == 0, first
    monkeypatch.setattr(loop.UnifiedAutoEncoder, "from_pretrained", None)
    monkeypatch.setattr(loading, "load_backbone", None)
    code, out, err = run(*whole)
    assert code == 0
    assert said in out + err


def test_a_caption_is_that_of_unified_bench(run, photos, random_model_folder):
    """Of the same image, seed and temperature, by the same model."""
    clip = f"clip={random_model_folder.with_name('clip')}"
    options = ("--model", random_model_folder, "--temperature", 2, "--seed", 3)
    assert run("caption", photos, *options, "--out", "ours.jsonl")[0] == 0
    bench = ("eval", "unified-bench", photos, *options, "--backbone", clip, "--out", "bench", "-q")
    assert run(*bench)[0] == 0
    ours, theirs = (
        {row["image"]: row["caption"] for row in json_lines(Path(path).read_text())}
        for path in ("ours.jsonl", "bench/captions/plain.jsonl")
    )
    assert ours == theirs
    assert len(set(ours.values())) == 3


def test_captions_of_two_seeds_are_not_mixed(run, photos, random_model_folder):
    command = ("caption", photos, "--model", random_model_folder, "--out", "x.jsonl")
    run(*command)
    before = Path("x.jsonl").read_text()
    code, _, err = run(*command, "--seed", "1")
    assert code == 2
    assert "x.jsonl holds captions of other settings (--seed 0, not 1)" in err
    assert Path("x.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--temperature", "0", "--temperature 0.7, not 0.0"),
        ("--max-new-tokens", "5", "--max-new-tokens 48, not 5"),
    ],
)
def test_captions_of_two_ways_of_sampling_are_not_mixed(
    run, photos, random_model_folder, option, value, said
):
    command = ("caption", photos / "a.png", "--model", random_model_folder, "--out", "x.jsonl")
    run(*command)
    [row] = json_lines(Path("x.jsonl").read_text())
    longest = row["max_new_tokens"]
    code, _, err = run(*command, option, value)
    assert code == 2
    assert f"({said})".replace("48", str(longest)) in err
    assert run(*command, "--max-new-tokens", longest)[0] == 0  # the model's own, by name
    # a file of before has neither key
    old = {key: row[key] for key in ("image", "caption", "model", "seed")}
    Path("x.jsonl").write_text(json.dumps(old) + "\n")
    code, _, err = run(*command, option, value)
    assert code == 0
    assert json_lines(Path("x.jsonl").read_text()) == [old]


def test_unreadable_files_are_left_out_counted_and_listed(run, photos, random_model_folder):
    (photos / "empty.jpg").touch()
    (photos / "cut.png").write_bytes((photos / "a.png").read_bytes()[:60])
    (photos / "text.jpg").write_text("no image")
    code, out, err = run("caption", photos, "--model", random_model_folder)
    assert code == 4
    assert len(json_lines(out)) == 3
    assert "captioned 3, left out 3" in err
    assert "empty.jpg: empty file" in err
    assert "cut.png: truncated" in err
    assert "text.jpg: not an image" in err
    code, out, _ = run("caption", photos / "empty.jpg", "--model", random_model_folder)
    assert (code, out) == (4, "")


@pytest.fixture
def beside(run, photos, random_model_folder):
    """`uae caption --write txt` of the photos."""
    (photos / "notes.txt").unlink()
    return lambda *options: run(
        "caption", photos, "--model", random_model_folder, "--write", "txt", *options
    )


def texts_of(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.txt")}


def test_captions_are_written_beside_their_images(beside, run, photos, random_model_folder):
    rows = json_lines(run("caption", photos, "--model", random_model_folder)[1])
    code, out, err = beside()
    assert (code, out) == (0, "")
    assert "captioned 3" in err
    assert list(texts_of(photos).values()) == [f"{row['caption']}\n" for row in rows]
    assert read_captions(photos) == {row["image"]: row["caption"] for row in rows}
    code, out, err = beside()
    assert (code, out) == (0, "")
    assert err.endswith("captioned 0, 3 done before\n")


def test_sidecars_that_a_stop_held_up_are_written_by_the_same_command(beside, photos):
    beside()
    whole = texts_of(photos)
    record = photos / ".captions.jsonl"
    first, second, _ = record.read_bytes().splitlines(keepends=True)
    (photos / "b.txt").unlink()
    (photos / "sub" / "c.txt").unlink()
    record.write_bytes(first + second + b'{"image": "sub/c')
    code, _, err = beside()
    assert code == 0
    assert "captioned 1, 2 done before" in err
    assert texts_of(photos) == whole


@pytest.mark.parametrize("name", ["a.txt", "a.TXT", "a.png.txt", "a.caption"])
def test_a_caption_file_of_somebody_else_stays_and_its_image_is_left_out(beside, photos, name):
    (photos / name).write_text("by hand")
    for _ in range(2):
        code, _, err = beside()
        assert code == 4
        assert "left out 1 (1 has a caption file)" in err
        assert f"{photos / 'a.png'}: has a caption file: {name} is not as this command" in err
    assert (photos / name).read_text() == "by hand"
    assert read_captions(photos)["a.png"] == "by hand"
    assert set(texts_of(photos)) - {name} == {"b.txt", "sub/c.txt"}


def test_a_sidecar_that_was_changed_by_hand_stays(beside, photos):
    beside()
    (photos / "a.txt").write_text("mended by hand")
    code, _, err = beside()
    assert code == 4
    assert "captioned 0, 2 done before, left out 1 (1 has a caption file)" in err
    assert read_captions(photos)["a.png"] == "mended by hand"


def test_images_that_differ_in_their_suffix_have_a_sidecar_each(beside, photos):
    (photos / "a.jpg").write_bytes((photos / "b.jpg").read_bytes())
    assert beside()[0] == 0
    assert sorted(texts_of(photos)) == ["a.jpg.txt", "a.png.txt", "b.txt", "sub/c.txt"]
    assert beside()[2].endswith("captioned 0, 4 done before\n")


def test_an_image_whose_sidecar_would_have_too_long_a_name_is_left_out(beside, photos):
    for suffix in (".jpg", ".png"):
        (photos / ("x" * 251 + suffix)).write_bytes((photos / "a.png").read_bytes())
    code, _, err = beside()
    assert code == 4
    assert "captioned 3, left out 2 (2 name too long)" in err
    assert sorted(texts_of(photos)) == ["a.txt", "b.txt", "sub/c.txt"]


def test_sidecars_of_other_settings_are_not_mixed(beside):
    beside()
    code, _, err = beside("--seed", 1)
    assert code == 2
    assert ".captions.jsonl holds captions of other settings (--seed 0, not 1)" in err


@pytest.mark.parametrize(
    ("images", "fault"),
    [(["-"], "expected files or folders"), (["photos/a.png", "photos/sub"], "give --out")],
)
def test_sidecars_need_a_place_for_their_record(run, photos, random_model_folder, images, fault):
    command = ("caption", *images, "--model", random_model_folder, "--write", "txt")
    code, _, err = run(*command)
    assert code == 2
    assert fault in err
    if images != ["-"]:
        assert run(*command, "--out", "record.jsonl")[0] == 0
        assert sorted(texts_of(photos)) == ["a.txt", "notes.txt", "sub/c.txt"]


def test_a_name_that_is_no_unicode_is_shown_and_kept(run, photos, random_model_folder):
    name = b"caf\xe9.jpg".decode(errors="surrogateescape")
    (photos / name).write_bytes((photos / "b.jpg").read_bytes())
    (photos / name.replace("caf", "bad")).touch()
    command = ("caption", photos, "--model", random_model_folder)
    code, out, err = run(*command)
    assert code == 4
    assert "bad\ufffd.jpg: empty file" in err
    assert name in [row["image"] for row in json_lines(out)]
    out.encode()
    assert run("reconstruct", photos, "--model", random_model_folder, "--out", "again")[0] == 4
    assert Path("again/sheet.png").exists()


# -- draw -----------------------------------------------------------------------------------------


def test_a_caption_that_is_no_unicode_is_not_drawn(run, random_model_folder):
    caption = b"a red caf\xe9".decode(errors="surrogateescape")
    code, _, err = run("draw", caption, "--model", random_model_folder)
    assert code == 2
    assert "the caption: character 10 is \\udce9, half of a surrogate pair" in err


def test_draw_prints_the_path_alone(run, random_model_folder):
    code, out, err = run("draw", "A red circle.", "--model", random_model_folder)
    assert (code, out, err) == (0, "a-red-circle-0.png\n", "")
    assert Image.open("a-red-circle-0.png").size == (64, 64)


def test_draw_is_a_function_of_caption_seed_and_settings(run, random_model_folder):
    def drawn(*options: str) -> bytes:
        command = ("draw", "A bar.", "--model", random_model_folder, "--out", "x/y.png")
        assert run(*command, *options)[0] == 0
        return Path("x/y.png").read_bytes()

    first = drawn()
    assert drawn() == first
    assert drawn("--seed", "1") != first
    assert drawn("--steps", "5") != first
    assert drawn("--guidance-scale", "3") != first


def test_an_overlong_caption_is_drawn_and_said(run, random_model_folder, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("a red circle " * 200))
    command = ("draw", "-", "--model", random_model_folder, "--json", "--out", "x.png")
    code, out, err = run(*command)
    values = json.loads(out)
    assert code == 0
    assert values["image"] == "x.png"
    assert values["num_tokens"] > values["max_caption_tokens"] == 128
    assert f"warning: a caption has {values['num_tokens']} tokens" in err
    assert "trained for 128" in err


def test_a_picture_on_a_full_disk_is_named_and_leaves_nothing(run, random_model_folder, full_disk):
    command = ("draw", "A bar.", "--model", random_model_folder, "--out", "x.png")
    full_disk(100)
    code, out, err = run(*command)
    assert (code, out) == (3, "")
    assert err.startswith("error: cannot write x.png: File too large; free some space")
    assert not list(Path().glob("*x.png*"))
    full_disk(10**9)
    assert run(*command)[0] == 0


# -- reconstruct ----------------------------------------------------------------------------------


def test_reconstruct_writes_captions_redraws_similarities_and_a_sheet(
    run, photos, random_model_folder
):
    command = ("reconstruct", photos, "--model", random_model_folder, "--out", "again")
    code, out, _ = run(*command)
    rows = json_lines(out)
    assert code == 0
    assert json_lines(Path("again/captions.jsonl").read_text())[0]["image"] == "a.png"
    for row in rows:
        assert Image.open(Path("again", row["redraw"])).size == (64, 64)
        assert set(row["similarities"]) == {"clip", "dinov2"}
        assert all(-1 <= value <= 1 for value in row["similarities"].values())
    assert Image.open("again/sheet.png").width > 300
    times = {path: path.stat().st_mtime_ns for path in Path("again/redraws").rglob("*.png")}
    code, repeated, err = run(*command)
    assert (code, repeated) == (0, out)
    assert "reconstructed 0, 3 done before" in err
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_reconstruct_for_a_reader_and_into_the_folder_itself(
    run, photos, random_model_folder, monkeypatch
):
    monkeypatch.chdir(photos)
    command = ("reconstruct", ".", "--model", random_model_folder, "--format", "human")
    for _ in range(2):
        code, out, _ = run(*command)
        lines = out.splitlines()
        assert code == 0
        assert lines[0].split() == ["image", "clip", "dinov2", "caption"]
        assert [line.split()[0] for line in lines[1:-2]] == ["a.png", "b.jpg", "sub/c.webp"]
        assert lines[-1] == "sheet  photos-reconstructed/sheet.png"
    assert run(*command[:-2], "-q")[1] == "photos-reconstructed\n"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_reconstruct_leaves_out_a_redraw_that_is_not_finite_and_does_the_others(
    run, photos, random_model_folder, monkeypatch, bad
):
    whole = loop.redraw

    def redraw(model, rows, images, seed):
        redraws = whole(model, rows, images, seed)
        return [
            torch.full_like(pixels, bad) if row.image == "b.jpg" else pixels
            for row, pixels in zip(rows, redraws, strict=True)
        ]

    monkeypatch.setattr(loop, "redraw", redraw)
    command = ("reconstruct", photos, "--model", random_model_folder, "--out", "again")
    code, out, err = run(*command)
    assert code == 4
    assert [row["image"] for row in json_lines(out)] == ["a.png", "sub/c.webp"]
    assert "reconstructed 2, left out 1 (1 not finite)" in err
    assert f"  {photos / 'b.jpg'}: not finite: its redraw holds NaN or infinity" in err
    assert not Path("again/redraws/b.jpg.png").exists()
    monkeypatch.setattr(loop, "redraw", whole)
    code, out, err = run(*command)
    assert (code, len(json_lines(out))) == (0, 3)
    assert "reconstructed 1, 2 done before" in err


def test_reconstruct_leaves_out_a_similarity_that_is_not_finite(
    run, photos, random_model_folder, monkeypatch
):
    monkeypatch.setattr(loop, "compare", lambda _, items, __: [{"clip": float("nan")}] * len(items))
    command = ("reconstruct", photos / "a.png", "--model", random_model_folder, "--out", "again")
    code, _, err = run(*command)
    assert code == 4
    assert "a.png: not finite: its similarities hold clip nan" in err
    assert Path("again/captions.jsonl").read_text() == ""


@pytest.mark.parametrize("what", ["a run", "photos", "captions"])
def test_reconstruct_refuses_a_folder_that_is_not_its_own(run, photos, random_model_folder, what):
    out = Path("other")
    if what == "photos":
        shutil.copytree(photos, out)
    else:
        out.mkdir()
    if what == "a run":
        (out / "config.yaml").write_text("seed: 0\n")
    if what == "captions":  # of `uae caption`: they have no redraws
        run("caption", photos, "--model", random_model_folder, "--out", out / "captions.jsonl")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    code, table, err = run("reconstruct", photos, "--model", random_model_folder, "--out", out)
    assert (code, table) == (2, "")
    assert "--out other is not empty and was not written by this command" in err
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_reconstruct_goes_on_in_a_folder_that_was_stopped_before_its_first_row(
    run, photos, random_model_folder
):
    Path("again/redraws").mkdir(parents=True)
    Path("again/redraws/a.png.png").touch()
    Path("again/captions.jsonl").write_text('{"image": "a.p')
    command = ("reconstruct", photos, "--model", random_model_folder, "--out", "again")
    assert run(*command)[0] == 0
    code, _, err = run(*command, "--temperature", "0.2")
    assert code == 2
    assert "(--temperature 0.7, not 0.2)" in err


def test_reconstruct_on_a_full_disk_names_the_file_and_goes_on_later(
    run, photos, random_model_folder, full_disk
):
    command = ("reconstruct", photos, "--model", random_model_folder, "--out", "again")
    whole = run(*command)[1]
    sheet, rows = Path("again/sheet.png"), Path("again/captions.jsonl")
    size, old = sheet.stat().st_size, sheet.read_bytes()
    full_disk(size - 1)
    code, _, err = run(*command)
    assert code == 3
    assert "error: cannot write again/sheet.png: File too large" in err
    assert sheet.read_bytes() == old
    shutil.rmtree("again")
    full_disk(100)
    code, _, err = run(*command)
    assert code == 3
    assert "error: cannot write again/redraws/a.png.png: File too large" in err
    assert (rows.read_text(), list(Path("again/redraws").iterdir())) == ("", [])
    full_disk(10**9)
    assert run(*command)[:2] == (0, whole)


def test_a_caption_on_stdin_that_is_no_text(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"red \xff"), encoding="utf-8"))
    assert run("draw", "-") == (2, "", "error: stdin: byte 4 is not UTF-8: expected a text\n")
