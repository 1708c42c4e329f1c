"""Fault 37: kill -9 at random moments of a benchmark run, ten times over, then a run to the end.

GenEval by a tiny detector, and GenEval 2 by a judge whose answers are a function of the question:
one row an image there, here rows for questions and rows that follow from them. A kill inside the
writing of a row is too short to be met by chance, so that every other kill also cuts the last row.
"""

import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from faults.random_detector import SURE, random_clip_folder, random_mask2former_folder
from faults.trials import Outcome, arguments, fork, quantile, report, wait
from uae.eval.geneval import detector as detector_module
from uae.eval.geneval import run as geneval
from uae.eval.geneval.colors import ColorClassifier
from uae.eval.geneval.detector import Detector
from uae.eval.geneval.layout import read_folder, sample_path, write_metadata
from uae.eval.geneval.prompts import PromptSet, official_prompts
from uae.eval.geneval2 import prompts as geneval2_prompts
from uae.eval.geneval2 import run as geneval2
from uae.eval.judges.judge import JudgeStamp
from uae.eval.results.rows import ITEMS

NUM_KILLS = 10  # of one run
NUM_PROMPTS = 36
KEPT = (ITEMS, "result.json", "results.jsonl", "summary.json")
"""What a run leaves; the last two are GenEval's alone."""

Show = Callable[[int, int], None]
Score = Callable[[Path, Show], object]


class FixedJudge:
    """Answers by a hash of the question, after a moment."""

    stamp = JudgeStamp(kind="local", name="fixed", dtype="float32")

    def reply(self, image: Image.Image, system: str, text: str, max_tokens: int) -> str:
        """Say nothing: GenEval 2 asks for no words."""
        return ""

    def p_of(self, image: Image.Image, question: str, forms: Sequence[str]) -> float:
        """Return a number in [0, 1)."""
        time.sleep(0.002)
        return hashlib.sha256(question.encode()).digest()[0] / 256


def write_image(path: Path, rng: np.random.Generator) -> None:
    """Write noise, which the tiny detector finds objects in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(path)


def geneval_score(root: Path) -> Score:
    """Write images, load the networks, and return how a run folder is filled."""
    detector_module.SHORT_PX = 32  # the trial is of the run, not of large inputs
    lines = official_prompts().lines
    prompts = PromptSet("every 15th", lines[:: len(lines) // NUM_PROMPTS][:NUM_PROMPTS])
    images, rng = root / "geneval-images", np.random.default_rng(0)
    images.mkdir()
    write_metadata(images, prompts)
    for prompt_id in range(NUM_PROMPTS):
        write_image(sample_path(images, prompt_id, 0), rng)
    judges = geneval.Judges(
        Detector.from_pretrained(random_mask2former_folder()),
        ColorClassifier.from_pretrained(random_clip_folder()),
        names={},
        weights={},
    )
    task = geneval.Task(read_folder(images, prompts, 1), prompts, 1, judges, SURE)
    return lambda out, show: geneval.score(task, out, "auto", show)


def geneval2_score(root: Path) -> Score:
    """Write prompts and images, and return how a run folder is filled."""
    path, images = root / "prompts.jsonl", root / "geneval2-images"
    lines = [
        {
            "prompt": f"two red kites, number {i}",
            "atom_count": 3,
            "vqa_list": [[f"How many kites are there in {i}?", "two"], [f"Is {i} red?", "Yes"]],
            "skills": ["count", "attribute"],
        }
        for i in range(NUM_PROMPTS)
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    prompts, rng = geneval2_prompts.read_prompts(path), np.random.default_rng(1)
    for picture in geneval2.pictures_of(images, prompts):
        write_image(picture.path, rng)
    found = geneval2_prompts.find_images(geneval2.write_table(images, prompts), prompts)
    task = geneval2.Task(prompts, found, FixedJudge())
    return lambda out, show: geneval2.score(task, out, show=show)


def run_once(score: Score, out: Path, pipe: int) -> int:
    """Fill a run folder, telling of each item through a pipe."""
    score(out, lambda _done, _total: os.write(pipe, b".") and None)
    return 0


def kill_once(score: Score, out: Path, chance: random.Random, *, tears: bool) -> float:
    """Kill a run between two items; return the seconds it took to take the folder up.

    Args:
        score: Fills the folder.
        out: Run folder.
        chance: Chooses the moment.
        tears: Cut the last row short too, as a kill inside its writing leaves it.
    """
    reader, writer = os.pipe()
    start = time.perf_counter()
    child = fork(partial(run_once, score, out, writer))
    os.close(writer)
    os.read(reader, 1)
    seconds = time.perf_counter() - start
    for _ in range(chance.randrange(3)):
        os.read(reader, 1)
    time.sleep(chance.uniform(0, 0.005))
    os.kill(child, signal.SIGKILL)
    wait(child)
    os.close(reader)
    path = out / ITEMS
    data = path.read_bytes()
    if tears and data:
        last = data.rfind(b"\n", 0, len(data) - 1) + 1
        path.write_bytes(data[: chance.randrange(last, len(data))])
    return seconds


def run_to_end(score: Score, out: Path) -> bool:
    """Let a child finish a run; tell if it did."""
    reader, writer = os.pipe()
    done = wait(fork(partial(run_once, score, out, writer)))
    os.close(writer)
    os.close(reader)
    return done == 0


def left_by(out: Path) -> dict[str, bytes]:
    """Return the files of a finished run."""
    return {name: (out / name).read_bytes() for name in KEPT if (out / name).exists()}


def main() -> int:
    """Run the trials: `trials` kills in all, ten to a run, half of the runs of each benchmark."""
    given = arguments(200)
    chance = random.Random(given.seed)
    found, seconds = 0, []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        scores = {"geneval": geneval_score(root), "geneval2": geneval2_score(root)}
        for name, score in scores.items():
            whole = root / name
            assert run_to_end(score, whole), f"{name} does not run"
            for i in range(max(1, given.trials // (2 * NUM_KILLS))):
                out = root / f"{name}-{i}"
                seconds += [
                    kill_once(score, out, chance, tears=k % 2 == 1) for k in range(NUM_KILLS)
                ]
                found += NUM_KILLS * (run_to_end(score, out) and left_by(out) == left_by(whole))
    return report(
        Outcome(
            number=37,
            fault="kill -9 in a benchmark run",
            how=f"SIGKILL {NUM_KILLS} times in a run of GenEval or GenEval 2 by tiny judges, every "
            "other time its last row cut short",
            trials=len(seconds),
            detected=found,
            lost="at most the item in work, or the row cut short; rows and scores byte for byte as "
            "uninterrupted",
            recovery_p50_s=quantile(seconds, 0.5),
            recovery_p95_s=quantile(seconds, 0.95),
            passed=found == len(seconds),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
