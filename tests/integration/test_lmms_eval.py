"""The script beside this file, where `lmms_eval` is installed."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lmms_eval")


def test_a_task_of_lmms_eval_ends_with_our_accuracy():
    script = Path(__file__).with_name("lmms_eval_run.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all passed" in done.stdout
