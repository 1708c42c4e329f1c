"""From a folder of images to files of results, with tiny random networks."""

import json
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from uae.benchmarks.geneval import detector as detector_module
from uae.benchmarks.geneval.clauses import TAGS
from uae.benchmarks.geneval.colors import ColorClassifier
from uae.benchmarks.geneval.decisions import DecisionConfig, confident_objects
from uae.benchmarks.geneval.detector import Detector
from uae.benchmarks.geneval.layout import read_folder, sample_path, write_metadata
from uae.benchmarks.geneval.prompts import PromptSet, official_prompts
from uae.benchmarks.geneval.run import plan_of, write_official
from uae.benchmarks.geneval.task import Judges, Task
from uae.benchmarks.run import run_plan

LINES = official_prompts().lines
PROMPTS = PromptSet(
    "two of each", tuple(LINES[i + j] for i in (0, 80, 179, 259, 353, 453) for j in (0, 1))
)
LOW = DecisionConfig(threshold=0.01, counting_threshold=0.02, max_overlap=0.9)


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    write_metadata(tmp_path, PROMPTS)
    for prompt_id in range(len(PROMPTS.lines)):
        for sample_id in range(2):
            pixels = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(sample_path(tmp_path, prompt_id, sample_id))
    return tmp_path


@pytest.fixture
def detector(mask2former_folder, monkeypatch):
    monkeypatch.setattr(detector_module, "SHORT_PX", 32)
    return Detector.from_pretrained(mask2former_folder)


@pytest.fixture
def classifier(clip_folder):
    return ColorClassifier.from_pretrained(clip_folder)


@pytest.fixture
def run(detector, classifier, tmp_path):
    """Scores a folder as the command does; returns the result in the official scorer's terms."""

    def scored(folder, config=LOW, show=lambda done, total: None):
        judges = Judges(detector, classifier, names={}, weights={})
        task = Task(folder, PROMPTS, 2, judges, config)
        out = tmp_path / "out"
        run_plan(plan_of(task, out), out, resume="never", show=show)
        return write_official(task, out)

    return scored


def test_a_complete_folder(images, run, tmp_path):
    told = []
    folder = read_folder(images, PROMPTS, 2)
    result = run(folder, show=lambda done, total: told.append((done, total)))
    assert result.is_complete
    assert told == [(i, 24) for i in range(25)]
    assert Counter(row["tag"] for row in result.results) == dict.fromkeys(TAGS, 4)
    assert {e.n for e in result.summary.by_tag.values()} == {4}
    assert all(row["correct"] == (row["reason"] == "") for row in result.results)
    boxes = [
        box for row in result.results for v in json.loads(row["details"]).values() for box in v
    ]
    assert boxes
    assert all(len(box) == 5 and LOW.threshold < box[4] <= 1 for box in boxes)
    assert "torchvision" not in sys.modules or sys.modules["torchvision"] is None

    lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result.results
    official = ["filename", "tag", "prompt", "correct", "reason", "metadata", "details"]
    assert list(json.loads(lines[0])) == official
    assert isinstance(json.loads(lines[0])["correct"], bool)
    values = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert values["benchmark"] == "geneval-hf"
    assert values["prompts"] == "two of each"
    assert values["is_complete"] is True
    assert values["part"] == {"num": 12, "published": 553, "unit": "prompts"}
    assert "PART of the benchmark: 12 of 553 prompts" in result.text().splitlines()
    assert values["config"]["threshold"] == 0.01
    assert values["overall"]["n"] == 24
    assert "INCOMPLETE" not in result.text()


def test_no_detection_that_counts_is_lost(images, detector, run):
    folder = read_folder(images, PROMPTS, 2)
    result = run(folder)
    for row in result.results[::8]:
        everything = detector.detect(Image.open(row["filename"]))
        objects = confident_objects(everything, row["tag"], LOW)
        scores = {
            name: [box[4] for box in found] for name, found in json.loads(row["details"]).items()
        }
        assert scores == {name: [o.score for o in found] for name, found in objects.items()}
        assert scores


def test_gaps_and_failures_are_marked_counted_and_never_wrong(images, run):
    (images / "00003" / "samples" / "0001.png").unlink()
    (images / "00004" / "samples" / "0000.png").write_bytes(b"damaged")
    folder = read_folder(images, PROMPTS, 2, allow_missing=True)
    late = images / "00005" / "samples" / "0000.png"
    late.write_bytes(b"")  # after it was listed
    result = run(folder)
    assert not result.is_complete
    assert [image["filename"] for image in result.failed] == [
        str(images / "00004" / "samples" / "0000.png"),
        str(late),
    ]
    assert result.summary.correct_images.n == len(result.results) == 24 - 3
    assert result.summary.correct_images.num_excluded == 2
    assert result.summary.by_tag["counting"].num_excluded == 2
    values = result.values()
    assert values["is_complete"] is False
    assert list(values["gaps"]) == ["folders with missing samples", "unreadable samples"]
    assert "empty file" in values["failed"][1]["fault"]
    lines = result.text().split("\n")
    assert lines[1] == "INCOMPLETE, no GenEval score: 2 images failed"
    assert "folders with missing samples: 00003 (1 of 2)" in lines[2]


def test_an_image_whose_scores_are_not_finite_is_a_failure(images, detector, run):
    detector.model.class_predictor.bias.data[0] = float("nan")
    folder = read_folder(images, PROMPTS, 2)
    result = run(folder, DecisionConfig())
    assert len(result.failed) == 24
    assert result.results == []
    assert result.values()["overall"]["value"] is None
