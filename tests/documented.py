"""Reads the tables of `docs/metrics.md`."""

import itertools
import re
from pathlib import Path

METRICS = Path(__file__).parents[1] / "docs" / "metrics.md"


def documented(section: str) -> list[list[str]]:
    """The rows of a section's table, cells as text."""
    text = METRICS.read_text().partition(f"\n## {section}\n")[2]
    lines = text.partition("\n## ")[0].splitlines()
    rows = [line.strip("|").split(" | ") for line in lines if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in rows]


def expanded(name: str) -> set[str]:
    """All names that `a/{b,c}` stands for."""
    parts = re.split(r"\{(.*?)\}", name)
    choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
    return {"".join(choice) for choice in itertools.product(*choices)}
