"""Does each stage of RL help? One recipe over several seeds, and what changed in every stage.

    python bench/learning.py --recipe demo --seeds 0 1 2 --out runs/learning [RECIPE FLAGS]

Each seed is an ordinary run in OUT/seed-N (taken up again where it stopped). Prints a Markdown
table: the first seed's figures before the stage, per seed the paired change of each over the
held-out scenes, and its mean over seeds with a t interval where there are three or more.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uae.cli.train import read_layers
from uae.recipe.loading import Setting, build
from uae.recipe.recipe import Recipe
from uae.report.format import Kind, change_interval_text, change_text, value_text
from uae.report.statistics import Estimate, paired_difference
from uae.report.tables import Row, metric_rows
from uae.scenes.run_images import run_images
from uae.train.run import train_recipe
from uae.train.run_report import read_recipe, score_run

MIN_SEEDS = 3  # fewer give no interval
SHOWN = (
    "held-out backbone",
    "reward backbone",
    "swap test",
    "small objects mentioned",
    "objects mentioned",
    "true claims",
    "mentions of nothing",
    "background right",
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
    points = score_run(folder, run_images(read_recipe(folder)).evaluator)
    rows = metric_rows([point.metrics for point in points])
    groups = ("Reconstruction similarity", "Understanding: captions")
    kept = {row.name: row for row in rows if row.group in groups}
    kept |= {f"drawability, {r.name}": r for r in rows if r.group.startswith("Drawability")}
    kept |= {f"{r.group}, {r.name}": r for r in rows if r.name == "overall"}
    return [point.name for point in points], kept


def table(runs: Sequence[Path]) -> str:
    """Return one table per pair of neighbouring points."""
    found = [rows_of(folder) for folder in runs]
    points, first = found[0]
    others = (n for n in first if n.startswith("drawability") or n.endswith("overall"))
    names = [n for n in (*SHOWN, *others) if n in first]
    names_of_runs = [folder.name for folder in runs]
    header = ["figure", f"before, {names_of_runs[0]}", *names_of_runs, "mean over seeds"]
    blocks = []
    for i in range(1, len(points)):
        lines = [f"### {points[i - 1]} to {points[i]}", ""]
        lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
        lines += [line(name, [rows[name] for _, rows in found], i) for name in names]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def line(name: str, rows: Sequence[Row], i: int) -> str:
    """Return a figure's line: its value before point `i`, and how it changed at `i` by seed."""
    before, kind = rows[0].estimates[i - 1], rows[0].kind
    changes = [row.changes[i] for row in rows]
    cells = [
        "" if c is None else f"{change_text(c, kind)} ({change_interval_text(c, kind)})"
        for c in changes
    ]
    first = "" if before is None else value_text(before.value, kind)
    return "| " + " | ".join([name, first, *cells, over_seeds(changes, kind)]) + " |"


def over_seeds(changes: Sequence[Estimate | None], kind: Kind) -> str:
    """Write the mean of the seeds' changes, with its interval if there are enough and one moved."""
    values = np.array([c.value for c in changes if c is not None])
    mean = paired_difference(np.zeros(len(values)), values, is_share=kind == "share")
    text = change_text(mean, kind)
    if mean.n >= MIN_SEEDS and values.any():
        text += f" ({change_interval_text(mean, kind)})"
    return text


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
        recipe = build(Recipe, *layers)
        train_recipe(recipe, folder, run_images(recipe))
        runs.append(folder)
    sys.stdout.write(table(runs) + "\n")


if __name__ == "__main__":
    main()
