"""The script beside this file, where `openai` is installed."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openai")


def test_the_real_client_is_served():
    script = Path(__file__).with_name("openai_client.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all passed" in done.stdout
