"""The packaged recipes: how their pairs are joined, and the memory that each takes.

A recipe's head has the `uae join` that makes its pair.
"""

import re
import shlex
from pathlib import Path

PEAKS_GIB = {
    "demo": 0.7,
    "photos-24gb": 19.3,
    "captioner-only": 34.8,
    "paper": 34.1,
    "photos-80gb": 55.5,
    "qwen-image": 93.6,
}
"""Most GiB on the device in any phase, by `python scripts/plan_docs.py`; a test compares."""


def join_line(file: Path) -> list[str]:
    """Return the arguments of the `uae join` in a recipe's head; none where there is none."""
    head = re.sub(r"^# ?", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    line = re.search(r"^ *uae join (.*)$", re.sub(r"\\\n *", "", head), re.MULTILINE)
    return shlex.split(line[1]) if line else []


def nearest(memory_gib: float) -> str:
    """Name the packaged recipe that makes most of a memory; "" where none fits."""
    fitting = {name: peak for name, peak in PEAKS_GIB.items() if peak <= memory_gib}
    return max(fitting, key=lambda name: fitting[name], default="")
