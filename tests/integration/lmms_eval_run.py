"""lmms-eval with the plug-in: a local task to the end, against our own answers.

    python tests/integration/lmms_eval_run.py [--model uae-tiny] [--num-questions 24]

Needs an environment that holds both packages. The task lies in `lmms_tasks/`; its questions are
drawn about held-out scenes. lmms-eval's accuracy must be ours.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uae.backends.answers import ChatAnswers
from uae.backends.uae import Uae
from uae.benchmarks.answers import extract_answer
from uae.benchmarks.mmt_bench.prompt import compact_text
from uae.data.questions import QuestionRow, decode_images, encode_image, write_tsv
from uae.models.unified import UnifiedAutoEncoder
from uae.scenes.graph import scene_at
from uae.scenes.questions import questions_for
from uae.scenes.render import render_image

TASK = "uae_scenes"
TASKS = Path(__file__).with_name("lmms_tasks")
MAX_NEW_TOKENS = 16


def write_questions(path: Path, num: int) -> list[QuestionRow]:
    """Write one question about each of the first scenes of the test split."""
    rows = []
    for i in range(num):
        scene = scene_at(i, "test")
        [question] = questions_for(scene, np.random.default_rng(i), 1)
        rows.append(QuestionRow(i, question, encode_image(render_image(scene)), "test"))
    write_tsv(path, rows)
    return rows


def expected(name: str, rows: Sequence[QuestionRow]) -> float:
    """Return the accuracy of our own answers."""
    answers = ChatAnswers(Uae(UnifiedAutoEncoder.from_pretrained(name)), MAX_NEW_TOKENS)
    right = []
    for row in rows:
        reply = answers.reply(decode_images(row), compact_text(row.question), "").text
        right.append(extract_answer(reply, row.question.options) == row.question.answer)
    return float(np.mean(right))


def run(folder: Path, model: str) -> float:
    """Run the task in a folder that holds its questions; return the accuracy."""
    settings = ["--model_args", f"model={model}", "--device", "cpu", "--batch_size", "1"]
    task = ["--tasks", TASK, "--include_path", str(TASKS), "--output_path", str(folder / TASK)]
    command = [sys.executable, "-m", "lmms_eval", "--model", "uae", *settings, *task]
    subprocess.run(command, cwd=folder, check=True)
    [results] = (folder / TASK).rglob("*results.json")
    return json.loads(results.read_text())["results"][TASK]["accuracy,none"]


def main(model: str, num_questions: int) -> None:
    """Run the task and compare."""
    with tempfile.TemporaryDirectory() as name:
        rows = write_questions(Path(name) / "questions.tsv", num_questions)
        theirs, ours = run(Path(name), model), expected(model, rows)
    assert theirs == ours, (theirs, ours)
    sys.stdout.write(f"lmms-eval: all passed; accuracy {ours:.3f}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="uae-tiny")
    parser.add_argument("--num-questions", type=int, default=24)
    arguments = parser.parse_args()
    main(arguments.model, arguments.num_questions)
