"""Small versions of the trials of `make faults`, by the same scripts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from faults import (
    bad_gradient,
    bad_reward,
    every_stop,
    hostile_files,
    log_probs,
    mutated_files,
    no_spread,
    planted_calls,
    same_seed,
)
from faults.planted_calls import PLANTED

ROOT = Path(__file__).parents[2]
FORKING = {"kill_in_save": 6, "sigterm": 1, "bad_output": 8, "second_run": 1}
KILLED_BENCHMARKS = {"kill_in_benchmark": 8, "kill_of_judge": 4}
RUN_ALL = """
import importlib, json, sys

codes = []
for script, trials in json.loads(sys.argv[1]).items():
    sys.argv = [script, "--trials", str(trials)]
    codes.append(importlib.import_module(f"faults.{script}").main())
"""
KILL_OF_A_RUN = """
import random, signal, tempfile
from pathlib import Path
from faults.sigterm import NUM_STEPS, STEP_S, result_of, stop_and_resume
from faults.toy_loop import train

with tempfile.TemporaryDirectory() as folder:
    train(Path(folder) / "whole", NUM_STEPS, STEP_S)
    expected = result_of(Path(folder) / "whole")
    killed = Path(folder) / "killed"
    assert stop_and_resume(killed, random.Random(0), expected, signal.SIGKILL)[0]
"""
FORGETFUL = """
import random, tempfile, time
from pathlib import Path
from faults.benchmark_runs import run_whole
from faults.kill_in_benchmark import kill_and_end

def forgetful(out, show, _):
    out.mkdir(exist_ok=True)
    for _ in range(40):  # writes all rows again each time
        with (out / "items.jsonl").open("a") as rows:
            rows.write("{}\\n")
        show()
        time.sleep(0.001)

with tempfile.TemporaryDirectory() as folder:
    whole = run_whole(forgetful, Path(folder) / "forgetful")
    kills = kill_and_end(forgetful, Path(folder) / "killed", whole, 2, random.Random(0))
    assert kills.seconds and not kills.num_survived, kills
"""


def outcome_of(script, trials, monkeypatch, capsys):
    """Run a script in this process; return its exit code and what it printed."""
    monkeypatch.setattr(sys, "argv", ["trial", "--trials", str(trials)])
    code = script.main()
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("script", "trials"), [(mutated_files, 100), (hostile_files, 1), (planted_calls, len(PLANTED))]
)
def test_damage_is_found(script, trials, monkeypatch, capsys):
    code, outcome = outcome_of(script, trials, monkeypatch, capsys)
    assert code == 0
    assert outcome["detected"] == outcome["trials"] >= trials


@pytest.mark.parametrize(
    ("script", "trials"),
    [
        pytest.param(same_seed, 1, marks=pytest.mark.slow),
        pytest.param(every_stop, 2, marks=pytest.mark.slow),
        (log_probs, 2),
        (bad_reward, 30),
        (bad_gradient, 1),
        (no_spread, 2),
    ],
)
def test_training_is_not_led_astray(script, trials, monkeypatch, capsys):
    for module in (same_seed, bad_gradient):
        monkeypatch.setattr(module, "NUM_STEPS", 2)
    code, outcome = outcome_of(script, trials, monkeypatch, capsys)
    assert code == 0
    assert outcome["detected"] == outcome["trials"] >= trials


def test_kills_and_bad_folders_are_survived():
    all_are_survived(FORKING, KILL_OF_A_RUN)


@pytest.mark.slow
def test_killed_benchmarks_and_judges_are_survived():
    all_are_survived(KILLED_BENCHMARKS, FORGETFUL)


def all_are_survived(scripts: dict[str, int], more: str) -> None:
    # in one process without threads, which these fork from
    done = subprocess.run(
        [sys.executable, "-c", f"{RUN_ALL}{more}sys.exit(max(codes))", json.dumps(scripts)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{outcomes}\n{done.stderr[-3000:]}"
    assert len(outcomes) == len(scripts)
    assert all(outcome["detected"] == outcome["trials"] for outcome in outcomes)
