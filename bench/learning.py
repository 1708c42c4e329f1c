"""Does each stage of RL help? One recipe over several seeds, and what changed in every stage.

    python bench/learning.py --recipe demo --seeds 0 1 2 --out runs/learning [RECIPE FLAGS]

Each seed is an ordinary run in OUT/seed-N (taken up again where it stopped). Prints a Markdown
table: per seed the paired change of each headline figure over the held-out scenes, and its mean
over seeds with a t interval where there are three or more.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uae.commands.train import read_layers
from uae.eval.figures import change_interval_text, change_text
from uae.eval.report_data import Row
from uae.eval.run_report import score_run
from uae.eval.scenes import scene_rows
from uae.eval.statistics import estimate
from uae.recipe import Recipe
from uae.recipe_file import Setting, build
from uae.stages import train_recipe

MIN_SEEDS = 3  # fewer give no interval
SHOWN = (
    "held-out backbone",
    "reward backbone",
    "swap test",
    "small objects mentioned",
    "objects mentioned",
    "true claims",
    "shape precision",
    "color precision",
    "size precision",
    "cell precision",
    "shape right where told",
    "color right where told",
    "size right where told",
    "cell right where told",
    "small objects told without an error",
    "medium objects told without an error",
    "large objects told without an error",
    "length in tokens",
)


def rows_of(folder: Path) -> tuple[list[str], dict[str, Row]]:
    """Return the names of a run's evaluation points, and its rows by name."""
    _, points = score_run(folder)
    rows = scene_rows([point.evaluation for point in points])
    groups = ("Reconstruction similarity", "Understanding: captions")
    kept = {row.name: row for row in rows if row.group in groups}
    kept |= {f"{r.group}, {r.name}": r for r in rows if r.name == "overall"}
    return [point.name for point in points], kept


def table(runs: Sequence[Path]) -> str:
    """Return one table per pair of neighbouring points."""
    found = [rows_of(folder) for folder in runs]
    points, first = found[0]
    names = [n for n in (*SHOWN, *(n for n in first if n.endswith("overall"))) if n in first]
    header = ["figure", *(folder.name for folder in runs), "mean over seeds"]
    blocks = []
    for i in range(1, len(points)):
        lines = [f"### {points[i - 1]} to {points[i]}", ""]
        lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
        for name in names:
            rows = [rows[name] for _, rows in found]
            changes = [row.changes[i] for row in rows]
            cells = [
                ""
                if c is None
                else f"{change_text(c, row.kind)} ({change_interval_text(c, row.kind)})"
                for c, row in zip(changes, rows, strict=True)
            ]
            mean = estimate(np.array([c.value for c in changes if c is not None]))
            over_seeds = change_text(mean, rows[0].kind)
            if mean.n >= MIN_SEEDS and any(c is not None and c.value for c in changes):
                over_seeds += f" ({change_interval_text(mean, rows[0].kind)})"
            cells.append(over_seeds)
            lines.append("| " + " | ".join([name, *cells]) + " |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def main() -> None:
    """Run the seeds one after the other, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, required=True)
    arguments, flags = parser.parse_known_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    runs = []
    for seed in arguments.seeds:
        folder = arguments.out / f"seed-{seed}"
        layers = read_layers(
            arguments.recipe, folder, False, flags, [Setting("seed", str(seed), "--seeds")]
        )
        train_recipe(build(Recipe, *layers), folder)
        runs.append(folder)
    sys.stdout.write(table(runs) + "\n")


if __name__ == "__main__":
    main()
