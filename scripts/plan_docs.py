"""The tables of memory in README.md and docs/gpu.md, and the peaks of `uae.planning.shipped`.

    python scripts/plan_docs.py       # after a recipe, a model class or a count has changed

It plans each packaged recipe for the pair of its head, by the configs of released models in
`bench/real_models.py`. A test compares.
"""

import re
import sys
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.real_models import write_configs
from uae.cli.join import pair_of
from uae.cli.plan import arguments_of_join, plan_values
from uae.models.join import write_pair
from uae.models.weightless import weightless
from uae.planning.needs import needs_of
from uae.planning.shipped import join_line
from uae.recipe.keys import recipe_keys
from uae.recipe.loading import build, find_recipe, read_file
from uae.recipe.recipe import Recipe

ROOT = Path(__file__).parents[1]
GPUS = {
    "photos-24gb": "rtx-4090",
    "captioner-only": "a100-40gb",
    "paper": "a100-80gb",
    "photos-80gb": "h100",
    "qwen-image": "h200",
}
"""The GPU of each recipe that has a pair in its head."""
BEGIN, END = "<!-- written by scripts/plan_docs.py -->\n", "<!-- until here -->\n"


@cache
def planned(name: str) -> dict[str, Any]:
    """Return the plan of a packaged recipe for its GPU."""
    file = find_recipe(name)
    recipe = build(Recipe, read_file(file, recipe_keys()))
    with tempfile.TemporaryDirectory() as folder, weightless():
        if joined := join_line(file):
            pair = pair_of(**arguments_of_join(joined))
            models = (pair.encoder, pair.decoder, *pair.similarity.values())
            places = {model: str(Path(folder) / model) for model in models}
            for model, place in places.items():
                write_configs(model, Path(place))
            pair = replace(
                pair,
                encoder=places[pair.encoder],
                decoder=places[pair.decoder],
                similarity={key: places[model] for key, model in pair.similarity.items()},
            )
            made = Path(folder) / "pair"
            made.mkdir()
            write_pair(pair, made)
            recipe = replace(recipe, model=str(made))
        return plan_values(name, needs_of(recipe), GPUS.get(name, "rtx-4090"))


def short_table() -> str:
    """Return the most memory of each recipe, and where it is taken."""
    lines = ["| recipe | most memory | where | fits |", "|---|---|---|---|"]
    for name in GPUS:
        plan = planned(name)
        loop, phase = worst(plan)
        card = f"{plan['gpu']}" if plan["fits"] else "no"
        lines.append(f"| `{name}` | {plan['peak_gib']:.1f} GiB | {loop}, {phase} | {card} |")
    return "\n".join(lines) + "\n"


def long_table() -> str:
    """Return each loop of each recipe: operations and memory."""
    head = (
        "| recipe | loop | TFLOP a step | weights | optimizer | beside them | most | a checkpoint |"
    )
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    for name in GPUS:
        for loop in planned(name)["loops"]:
            phase = max(loop["phases"], key=lambda phase: phase["peak_gib"])
            rest = phase["beside_weights_gib"] - loop["optimizer_gib"]
            gib = (phase["weights_gib"], loop["optimizer_gib"], rest, phase["peak_gib"])
            tflop = sum(phase["tflop"] for phase in loop["phases"])
            cells = [f"`{name}`", f"`{loop['name']}`", f"{tflop:,.0f}", *(f"{x:.1f}" for x in gib)]
            lines.append(f"| {' | '.join(cells)} | {loop['checkpoint_gb']:.1f} GB |")
    return "\n".join(lines) + "\n"


def worst(plan: dict[str, Any]) -> tuple[str, str]:
    """Name the loop and the phase that take most."""
    phases = [
        (x["peak_gib"], loop["name"], x["name"]) for loop in plan["loops"] for x in loop["phases"]
    ]
    _, loop, phase = max(phases)
    return loop, phase


def with_table(text: str, table: str) -> str:
    """Return a page with its generated table made anew."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"the page lacks {BEGIN}"
    assert end, f"the page lacks {END}"
    return f"{before}{begin}\n{table}\n{end}{after}"


PAGES = {"README.md": short_table, "docs/gpu.md": long_table}


def texts() -> dict[Path, str]:
    """Return each file with what is written into it."""
    made = dict[Path, str]()
    for name, table in PAGES.items():
        page = ROOT / name
        made[page] = with_table(page.read_text(encoding="utf-8"), table())
    peaks = {name: round(planned(name)["peak_gib"], 1) for name in ("demo", *GPUS)}
    module = ROOT / "src/uae/planning/shipped.py"
    entries = "".join(f'    "{name}": {peak},\n' for name, peak in peaks.items())
    text = module.read_text(encoding="utf-8")
    text = re.sub(r"(PEAKS_GIB = \{\n).*?\}", rf"\g<1>{entries}}}", text, flags=re.DOTALL)
    return made | {module: text}


def main() -> None:
    """Write all files; with --check compare them instead, and fail where one differs."""
    made = texts()
    if "--check" in sys.argv:
        sys.exit(any(path.read_text(encoding="utf-8") != text for path, text in made.items()))
    for path, text in made.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
