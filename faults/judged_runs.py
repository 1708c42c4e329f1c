"""The judged benchmarks on few items of their own, ready to be run."""

import csv
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from faults.benchmark_runs import Fill
from uae.backends.judge import Judge, JudgeStamp
from uae.benchmarks.dpg import run as dpg
from uae.benchmarks.dpg.prompts import COLUMNS, read_dpg
from uae.benchmarks.dpg.prompts import image_path as dpg_path
from uae.benchmarks.geneval2 import prompts as geneval2_prompts
from uae.benchmarks.geneval2 import run as geneval2
from uae.benchmarks.geneval2.benchmark import pictures_of, write_table
from uae.benchmarks.geneval_pp import prompts as geneval_pp_prompts
from uae.benchmarks.geneval_pp import run as geneval_pp
from uae.benchmarks.run import run_plan
from uae.benchmarks.unified_bench import duel
from uae.data.captions import CaptionRow, CaptionsWriter

NUM_PROMPTS = 36
NUM_GRIDS = 12
NUM_DUELS = 24


class FixedJudge:
    """A judge in this process: answers by a hash of the question, after a moment."""

    stamp = JudgeStamp(kind="local", name="fixed", dtype="float32")

    def reply(self, image: Image.Image, system: str, text: str, max_tokens: int) -> str:
        """Say nothing: it is asked for probabilities alone."""
        return ""

    def p_of(
        self, image: Image.Image, question: str, answers: Sequence[Sequence[str]]
    ) -> list[float]:
        """Return a number in [0, 1) for the first answer, and share the rest among the others."""
        time.sleep(0.002)
        first = hashlib.sha256(question.encode()).digest()[0] / 256
        others = len(answers) - 1
        return [first, *[(1 - first) / others for _ in range(others)]]


def write_noise(paths: Sequence[Path], seed: int) -> None:
    """Write an image of noise to each path."""
    rng = np.random.default_rng(seed)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(path)


def geneval2_run(root: Path, judge: Judge) -> Fill:
    """Two questions a prompt, each a row; an image's row follows from them."""
    lines = [
        {
            "prompt": f"two red kites, number {i}",
            "atom_count": 3,
            "vqa_list": [[f"How many kites are there in {i}?", "two"], [f"Is {i} red?", "Yes"]],
            "skills": ["count", "attribute"],
        }
        for i in range(NUM_PROMPTS)
    ]
    prompts = geneval2_prompts.read_prompts(_write_lines(root / "geneval2.jsonl", lines))
    images = root / "geneval2-images"
    pictures = pictures_of(images, prompts)
    write_noise([picture.path for picture in pictures], 1)
    found = geneval2_prompts.find_images(write_table(images, pictures), prompts)
    task = geneval2.Task(prompts, found, judge)
    plan = geneval2.plan_of(task)
    return lambda out, show, again: run_plan(plan, out, retry_failed=again, show=show)


def geneval_pp_run(root: Path, judge: Judge) -> Fill:
    """One question an image."""
    lines = [
        {
            "tag": ("counting", "color")[i % 2],
            "include": [{"class": "kite", "count": i + 1}],
            "prompt": f"{i + 1} kites",
        }
        for i in range(NUM_PROMPTS)
    ]
    prompts = geneval_pp_prompts.read_prompts(_write_lines(root / "geneval-pp.jsonl", lines))
    images = root / "geneval-pp-images"
    paths = [geneval_pp_prompts.image_path(images, name) for name in prompts.by_name]
    write_noise(paths, 2)
    found = geneval_pp_prompts.find_images(images, prompts)
    task = geneval_pp.Task(prompts, found, judge)
    plan = geneval_pp.plan_of(task)
    return lambda out, show, again: run_plan(plan, out, retry_failed=again, show=show)


def dpg_run(root: Path, judge: Judge) -> Fill:
    """Grids of four images, three questions each, of which one depends on another."""
    folder, table, images = root / "dpg-prompts", root / "dpg.csv", root / "dpg-images"
    folder.mkdir()
    names, rows = [f"{i:02}" for i in range(NUM_GRIDS)], []
    for name in names:
        (folder / f"{name}.txt").write_text(f"A red kite over house {name}.")
        rows += [
            (name, 1, "0", "entity - whole (kite)", f"Is there a kite over house {name}?"),
            (name, 2, "1", "attribute - color (kite, red)", f"Is kite {name} red?"),
            (name, 3, "0", "entity - whole (house)", f"Is there a house {name}?"),
        ]
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])
    write_noise([dpg_path(images, name) for name in names], 3)
    prompts = read_dpg(folder, table)
    task = dpg.DpgTask(prompts, dpg.find_images(images, prompts, 4), judge)
    plan = dpg.plan_of(task)
    return lambda out, show, again: run_plan(plan, out, retry_failed=again, show=show)


def caption_duel_run(root: Path, judge: Judge) -> Fill:
    """Two captions an image, in both orders."""
    images = {f"{i:02}.png": root / "duel-images" / f"{i:02}.png" for i in range(NUM_DUELS)}
    write_noise(list(images.values()), 4)
    first, second = root / "first.jsonl", root / "second.jsonl"
    for path, words in ((first, "A kite in"), (second, "Noise, picture")):
        with CaptionsWriter(path) as captions:
            for name in images:
                captions.append(CaptionRow(image=name, caption=f"{words} {name}."))
    duels, _ = duel.pair_up(images, first, second)
    plan = duel.plan_of(judge, duels, first, second)
    return lambda out, show, again: run_plan(plan, out, retry_failed=again, show=show)


JUDGED: Mapping[str, Callable[[Path, Judge], Fill]] = {
    "geneval2": geneval2_run,
    "geneval-pp": geneval_pp_run,
    "dpg": dpg_run,
    "caption-duel": caption_duel_run,
}


def _write_lines(path: Path, lines: Sequence[object]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path
