import importlib.util
import json
import logging
import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from uae.core.errors import EnvironmentFault, NonFinite
from uae.runs.metrics import METRICS, Metrics, read_metrics
from uae.runs.progress import Progress, summary
from uae.runs.tracking import Tracker


@pytest.fixture
def metrics(tmp_path):
    opened = Metrics(tmp_path)
    yield opened
    opened.close()


def write_steps(metrics, session, steps, stage="encoder_rl"):
    for step in steps:
        with metrics.step(step, stage, 100):
            metrics.write({"reward/mean": step / 10})


def places(path):
    return [(line["session"], line["step"]) for line in read_metrics(path)]


def test_one_object_per_line(metrics):
    metrics.begin("rl", 0)
    with metrics.step(3, "encoder_rl", 10):
        metrics.write({"reward/mean": np.float64(0.5), "group/num_dropped": 2, "optim/lr": 1e-6})
    (line,) = [json.loads(text) for text in metrics.path.read_text().splitlines()]
    assert line.pop("wall_s") >= 0
    assert line == {
        "step": 3,
        "stage": "encoder_rl",
        "session": "rl",
        "reward/mean": 0.5,
        "group/num_dropped": 2,
        "optim/lr": 1e-6,
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float64("-inf")])
def test_non_finite_is_refused_and_nothing_written(metrics, value):
    metrics.begin("rl", 0)
    with (
        pytest.raises(NonFinite, match=r"kl/reference is -?(nan|inf) at step 4 of encoder_rl"),
        metrics.step(4, "encoder_rl", 10),
    ):
        metrics.write({"reward/mean": 0.5, "kl/reference": value})
    assert read_metrics(metrics.path) == []


@pytest.mark.parametrize("name", ["reward", "Reward/mean", "reward/", "reward mean/x"])
def test_names_are_group_and_name(metrics, name):
    with pytest.raises(ValueError, match="group/name"):
        metrics.write_at(0, "eval", {name: 1.0})


def test_a_line_outside_the_session_survives_its_resume(metrics):
    metrics.begin("rl", 0)
    write_steps(metrics, "rl", range(2))
    metrics.write_at(1, "evaluation", {"mcq/overall": 0.5}, session="evaluation")
    metrics.begin("rl", 1)
    assert places(metrics.path) == [("rl", 0), ("evaluation", 1)]
    assert metrics.holds(1, "evaluation")
    assert not metrics.holds(1, "encoder_rl")
    assert not metrics.holds(0, "evaluation")


def test_lines_of_steps_redone_are_dropped(metrics):
    metrics.begin("1-pretrain", 0)
    write_steps(metrics, "1-pretrain", range(6), "pretrain")
    metrics.begin("3-rl", 0)
    write_steps(metrics, "3-rl", range(8))
    metrics.begin("3-rl", 5)
    expected = [("1-pretrain", s) for s in range(6)] + [("3-rl", s) for s in range(5)]
    assert places(metrics.path) == expected
    write_steps(metrics, "3-rl", [5])
    assert places(metrics.path) == [*expected, ("3-rl", 5)]


def test_resumed_is_uninterrupted_up_to_timings(tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    whole.mkdir()
    resumed.mkdir()
    for folder, turns in ((whole, [(0, 9)]), (resumed, [(0, 6), (4, 7), (2, 9)])):
        for start, end in turns:
            metrics = Metrics(folder)
            metrics.begin("rl", start)
            write_steps(metrics, "rl", range(start, end))
            metrics.close()
    lines = [
        [line | {"wall_s": 0} for line in read_metrics(folder / METRICS)]
        for folder in (whole, resumed)
    ]
    assert lines[0] == lines[1]
    seconds = [line["wall_s"] for line in read_metrics(resumed / METRICS)]
    assert seconds == sorted(seconds)


def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path, caplog):
    metrics = Metrics(tmp_path)
    metrics.begin("rl", 0)
    write_steps(metrics, "rl", range(3))
    metrics.close()
    whole = metrics.path.read_bytes()
    metrics.path.write_bytes(whole + b'{"step": 3, "sta')
    assert places(metrics.path) == [("rl", 0), ("rl", 1), ("rl", 2)]
    assert "line 4 was cut short" in caplog.text
    Metrics(tmp_path).close()
    assert metrics.path.read_bytes() == whole


def test_a_full_disk_leaves_whole_lines(metrics):
    metrics.begin("rl", 0)
    write_steps(metrics, "rl", range(3))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (metrics.path.stat().st_size + 20, hard))
    try:
        with pytest.raises(EnvironmentFault, match="File too large"):
            write_steps(metrics, "rl", [3])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert metrics.path.read_text().endswith("}\n")
    assert len(read_metrics(metrics.path)) == 3


def test_write_belongs_inside_a_step(metrics):
    with pytest.raises(AssertionError, match="inside step"):
        metrics.write({"reward/mean": 1.0})


def test_summary():
    assert summary(0, 0.0, 10, None) == ""
    assert summary(10, 5.0, 3600, 0.71234) == "2.00 steps/s  0:30:00 left  reward 0.7123"
    assert summary(2, 8.0, 1000, None) == "4.0 s/step  1:06:40 left"
    assert summary(64, 16.0, 192, None, unit="image") == "4.00 images/s  0:00:48 left"


def test_progress_without_a_terminal_is_a_log_line_now_and_then(caplog, capsys):
    caplog.set_level(logging.INFO)
    progress = Progress(terminal=False, log_every_s=1e9)
    for step in range(1, 11):
        progress.show("decoder_rl", step, 10, 0.25)
    assert [r.getMessage().split()[:2] for r in caplog.records] == [["decoder_rl", "10/10"]]
    assert "reward 0.2500" in caplog.text
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal_is_a_bar_on_stderr(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    progress = Progress(terminal=True)
    progress.show("decoder_rl", 6, 10, None)
    progress.show("decoder_rl", 10, 10, 0.25)
    progress.close()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "decoder_rl" in shown.err
    assert "10/10" in shown.err
    assert "reward 0.2500" in shown.err


TRACKED = """
import logging, os, sys
from pathlib import Path
from PIL import Image
from uae.core.errors import EnvironmentFault
from uae.runs.metrics import Metrics
from uae.runs.tracking import SampleRow, Tracker

folder = Path(sys.argv[1])
picture = Image.new("RGB", (8, 8), "red")
for step in (0, 1):
    metrics = Metrics(folder, Tracker(folder, {"seed": 0}))
    metrics.begin("rl", step)
    with metrics.step(step, "encoder_rl", 2):
        metrics.write({"reward/mean": step / 10})
    metrics.table(step, "eval", [SampleRow(picture, "a red square", picture, 0.9)])
    metrics.close()
assert os.environ["TRACKIO_SPACE_ID"] == "somebody/elsewhere"
from trackio.sqlite_storage import SQLiteStorage
logs = SQLiteStorage.get_logs("uae", folder.name)
found = [line["encoder_rl/reward/mean"] for line in logs if "encoder_rl/reward/mean" in line]
assert found == [0.0, 0.1], logs
try:
    Tracker(folder / "other", {})
except EnvironmentFault as error:
    assert "already writes to" in str(error)
else:
    raise AssertionError("a second folder in one process")
"""


@pytest.mark.skipif(importlib.util.find_spec("trackio") is None, reason="needs the extra `track`")
def test_trackio_keeps_metrics_and_samples_in_the_run_folder(tmp_path):
    # a process of its own: trackio reads its folder once, on import, and TRL imports it
    done = subprocess.run(
        [sys.executable, "-c", TRACKED, str(tmp_path)],
        env=os.environ | {"TRACKIO_SPACE_ID": "somebody/elsewhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert (tmp_path / "trackio" / "uae.db").stat().st_size
    assert len(list((tmp_path / "trackio" / "media").rglob("*.png"))) == 4


def test_without_trackio_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EnvironmentFault, match=r'pip install "uae\[track\]"'):
        Tracker(tmp_path, {})
