"""Images to be measured: looked at before anything is loaded, left out where they turn out bad."""

import json
import math
import shutil
from pathlib import Path

import pytest
from PIL import Image
from test_judged import dpg, g2, pp, pp_images  # noqa: F401

from faults.hostile_images import png_file
from tests.stub_endpoint import said, stub
from uae.data import opening
from uae.data.captions import CaptionRow, CaptionsWriter
from uae.runs.first_look import faults_of

NAMES = ("a.png", "b.jpg", "sub/c.webp", "d.png")
UNDECODABLE = png_file((24, 24), 8, 2, (b"\x09" + bytes(72)) * 24)
"""All is sound that shows without decoding: rows by a filter that does not exist."""
VERDICT = json.dumps(
    {x: {"completeness": 5, "fluency": 5, "insight": 5} for x in "AB"} | {"choice": "A"}
)
TOP = {"two": math.log(0.5), "Yes": math.log(0.4)}


@pytest.fixture
def backbones(random_model_folder):
    return ("--backbone", f"clip={random_model_folder.with_name('clip')}")


@pytest.fixture
def late(photos, tmp_path) -> Path:
    """Three good images, one that turns out bad when it is decoded, and captions of all."""
    (photos / "d.png").write_bytes(UNDECODABLE)
    with CaptionsWriter(tmp_path / "theirs.jsonl") as writer:
        for name in NAMES:
            writer.append(CaptionRow(image=name, caption="A red circle."))
    return photos


def assert_left_out(run, command, item, reason) -> None:
    """Run twice: the item is left out and counted, and the run goes on where it stopped."""
    code, out, err = run(*command, "--out", "run", "--json")
    assert code == 4, err
    result = json.loads(out)
    assert reason in {x["reason"] for x in result["excluded"] if item in x["items"]}, out
    assert "its PNG data cannot be decoded" in err
    assert any(score["n"] for score in result["scores"]), "the others are measured"
    assert run(*command, "--out", "run", "--json")[:2] == (4, out)


# -- pictures that turn out bad -------------------------------------------------------------------


@pytest.mark.parametrize("captioner", [(), ("--captioner", "file:theirs.jsonl")])
def test_unified_bench_leaves_out_an_image(run, late, random_model_folder, backbones, captioner):
    command = ("eval", "unified-bench", late, "--model", random_model_folder, *backbones)
    assert_left_out(run, (*command, *captioner), "d.png", "unreadable image")


def test_unified_bench_leaves_out_given_redraws_though_many_come_running(
    run, photos, random_model_folder, backbones
):
    for i in range(7):
        shutil.copy(photos / "a.png", photos / f"c{i}.png")
    shutil.copytree(photos, "redraws")
    for i in range(7):
        (Path("redraws") / f"c{i}.png").write_bytes(UNDECODABLE)
    command = ("eval", "unified-bench", photos, "--model", random_model_folder, *backbones)
    command = (*command, "--generator", "folder:redraws")
    assert_left_out(run, command, "c6.png", "unreadable redraw")


def test_an_audit_leaves_out_an_image(run, late, random_model_folder, backbones):
    models = ("--model", random_model_folder, "--before", random_model_folder)
    assert_left_out(run, ("eval", "audit", late, *models, *backbones), "d.png", "unreadable image")


def test_a_duel_leaves_out_an_image(run, late):
    with stub(lambda *_: said(VERDICT)) as server:
        judge = ("--judge", server.url, "--judge-model", "m")
        captions = ("--first", "theirs.jsonl", "--second", "theirs.jsonl")
        command = ("eval", "caption-duel", late, *captions, *judge)
        assert_left_out(run, command, "d.png", "unreadable image")


@pytest.mark.parametrize("benchmark", ["dpg", "geneval2", "geneval-pp"])
def test_a_judged_benchmark_leaves_out_an_image(
    run,
    benchmark,
    dpg,  # noqa: F811
    g2,  # noqa: F811
    pp,  # noqa: F811
    pp_images,  # noqa: F811
):
    for name in "ab":
        Image.new("RGB", (8, 8)).save(f"prompts/{name}.png")
    bad = {"dpg": "prompts/b.png", "geneval2": "prompts/b.png", "geneval-pp": "images/2.jpg"}
    Path(bad[benchmark]).write_bytes(UNDECODABLE)
    table = {"two red circles": "prompts/a.png", "a bar": "prompts/b.png"}
    Path("paths.json").write_text(json.dumps(table))
    second = {"prompt": "a bar", "atom_count": 1, "vqa_list": [["A bar?", "Yes"]]}
    with Path(g2[1]).open("a") as file:
        file.write(json.dumps({**second, "skills": ["object"]}) + "\n")
    given = {
        "dpg": ("prompts", *dpg),
        "geneval2": ("paths.json", *g2),
        "geneval-pp": (pp_images, *pp),
    }[benchmark]
    item = {"dpg": "b/image 3", "geneval2": "0001/0", "geneval-pp": "2"}[benchmark]
    with stub(lambda *_: said('{"correct": 1}', top=TOP)) as server:
        judge = ("--judge", server.url, "--judge-model", "m")
        assert_left_out(run, ("eval", benchmark, *given, *judge), item, "image: damaged")


# -- the look -------------------------------------------------------------------------------------


def test_a_look_decodes_nothing_and_says_how_far_it_is(
    run, late, random_model_folder, backbones, monkeypatch
):
    (late / "e.png").write_bytes(b"no picture")
    monkeypatch.setattr(opening, "_decode", None)
    command = ("eval", "unified-bench", late, "--model", random_model_folder, *backbones)
    code, _, err = run(*command, "--out", "run")
    assert code == 2
    assert "images 5/5" in err
    assert "1 unreadable images: e.png: not an image" in err
    assert "images 5/5" not in run(*command, "--out", "run", "-q")[2]


def test_files_are_named_in_their_order_with_what_is_wrong(tmp_path):
    names = [f"{i}.png" for i in (3, 1, 2)]
    for name in names[1:]:
        (tmp_path / name).write_bytes(b"")
    faults = faults_of({name: tmp_path / name for name in names})
    assert faults == {
        "3.png": "unreadable: No such file or directory",
        "1.png": "empty file: 0 bytes",
        "2.png": "empty file: 0 bytes",
    }
    assert list(faults) == names
    assert faults_of({}) == {}
