"""Benchmarks under torchrun: two processes on the CPU end with the bytes of one."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image
from test_benchmarks import NUM_QUESTIONS, SIX, mmt, prompts, questions, tsv  # noqa: F401
from test_judged import dpg  # noqa: F401

from tests.stub_endpoint import fault, painted, stub
from uae.benchmarks.rewriting import REWRITES

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
SEVERAL = """
import json, runpy, sys
from uae.cli import app as cli

*first, last = json.loads(sys.argv[1])
for tokens in first:
    cli.run(tokens)
sys.argv = ["uae", *last]
runpy.run_module("uae", run_name="__main__")
"""
FILES = ("items.jsonl", "result.json", "settings.json")


def together(
    folder: Path, commands: Sequence[Sequence[object]]
) -> subprocess.CompletedProcess[str]:
    """Run several commands in the same two processes, the last as `python -m uae` does."""
    script = folder / "several.py"
    script.write_text(SEVERAL)
    given = json.dumps([list(map(str, tokens)) for tokens in commands])
    command = [sys.executable, *TORCHRUN, str(script), given]
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=variables, capture_output=True, text=True)


def assert_same(one: Path, two: Path, names: Sequence[str] = FILES) -> None:
    assert not list(two.rglob("*-rank*"))
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


@pytest.fixture
def backbones(random_model_folder):
    folders = {name: random_model_folder.with_name(name) for name in ("clip", "dinov2")}
    return [x for name, folder in folders.items() for x in ("--backbone", f"{name}={folder}")]


@pytest.fixture
def asked(mmt, tsv):  # noqa: F811
    """MMT-Bench with a damaged question, without --out."""
    rows = questions.rows(NUM_QUESTIONS)
    damaged = type(rows[0])(9, rows[1].question, "no picture", "VAL")
    questions.write(tsv, [*rows, damaged])
    assert mmt[-2] == "--out"
    return (*mmt[:-2], "--allow-missing", "--json")


def test_two_processes_end_with_the_bytes_of_one(
    run,
    asked,
    photos,
    random_model_folder,
    answering_folder,
    pipeline_folder,
    backbones,
    prompts,  # noqa: F811
    dpg,  # noqa: F811
    tmp_path,
):
    (photos / "d.png").write_bytes(b"no image")
    model = ("--model", random_model_folder)
    curve = ("--curve", "sample", "--budgets", 2, "--budgets", 4, "--samples", 2)
    bench = ("eval", "unified-bench", photos, *model, *backbones, *curve, "--batch-size", 1, "-q")
    bench = (*bench, "--allow-missing")
    audit = ("eval", "audit", photos, *model, "--before", random_model_folder, *backbones)
    audit = (*audit, "--batch-size", 2, "-q", "--allow-missing")
    given = ("--prompts", prompts, "--num-samples", 1, "--batch-size", 2, "-q")
    drawn = ("eval", "geneval-images", *model, *given, "--rewrite")
    piped = ("eval", "dpg-images", *dpg[:2], "--model", f"diffusers:{pipeline_folder}", "-q")
    (tmp_path / "grids").mkdir()
    for name in "ab":
        Image.new("RGB", (16, 16), "red").save(tmp_path / "grids" / f"{name}.png")
    judged = ("eval", "dpg", "grids", *dpg, "--judge", f"local:{answering_folder}", "-q")
    commands = {"bench": bench, "audit": audit, "drawn": drawn, "piped": piped, "judged": judged}

    def answer(_, body):
        return fault(400) if body.get("prompt") == SIX[1].prompt else painted(body)

    with stub(answer) as server:
        served = ("eval", "geneval-images", "--model", f"endpoint:painter@{server.url}", *given)
        commands["served"] = served
        commands["asked"] = (*asked, "--predictions", "predictions.tsv")
        ends = {name: run(*tokens, "--out", f"one/{name}") for name, tokens in commands.items()}
        predictions = Path("predictions.tsv").read_bytes()
        Path("predictions.tsv").unlink()
        done = together(
            tmp_path, [(*tokens, "--out", f"two/{x}") for x, tokens in commands.items()]
        )
    assert done.stdout.endswith(ends["asked"][1])
    assert done.returncode == 1  # torchrun's, for any code that is not 0
    assert "exitcode  : 4" in done.stderr
    assert done.stderr.count("left out 1 of 5") == 1
    assert Path("predictions.tsv").read_bytes() == predictions
    codes = [ends[name][0] for name in ("bench", "audit", "piped", "served", "asked")]
    assert codes == [4, 4, 0, 4, 4]
    assert done.stderr.count("left out 1 of 6 images") == 1
    one, two = tmp_path / "one", tmp_path / "two"
    assert_same(one / "bench", two / "bench")
    assert_same(one / "audit", two / "audit", (*FILES, "audits.json"))
    assert_same(one / "judged", two / "judged")
    thumbnails = [f"thumbnails/{path.name}" for path in (one / "asked/thumbnails").iterdir()]
    assert len(thumbnails) == NUM_QUESTIONS + 1  # one has two images
    assert_same(one / "asked", two / "asked", (*FILES, *thumbnails))
    pictures = {path.relative_to(one) for path in one.rglob("*.png")}
    assert len(pictures) > 3 * (3 + 4) + 2 + 5
    assert_same(one, two, sorted(map(str, pictures)))
    for name in (
        "bench/captions/plain.jsonl",
        "bench/captions/sample-4.jsonl",
        f"drawn/{REWRITES}",
    ):
        lines = [(side / name).read_text().splitlines() for side in (one, two)]
        assert sorted(lines[0]) == sorted(lines[1])
