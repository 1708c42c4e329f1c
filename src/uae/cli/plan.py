"""`uae plan`: what a recipe needs, before anything but configs is downloaded."""

import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from uae.cli.join import join, pair_of
from uae.cli.output import PLAINLY, Talk
from uae.cli.startup import quick_start
from uae.core.errors import EXIT_DONE, EnvironmentFault
from uae.models.settings import find_settings, pinned
from uae.planning.gpus import GPUS, RESERVED_GIB, Gpu, gpu_of
from uae.planning.shipped import join_line, nearest
from uae.recipe.keys import recipe_keys
from uae.recipe.loading import build, find_recipe, read_environment, read_file, read_flags
from uae.recipe.plan import plan_of
from uae.recipe.recipe import Recipe

if TYPE_CHECKING:
    from uae.planning.needs import LoopNeeds

OWN_FLAGS = ("--gpu", "--json")
_GIB = 2**30
_WIDTH = 100


def plan(
    recipe: str,
    *settings: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    gpu: str | None = None,
    talk: Talk = PLAINLY,
) -> int:
    """Count what a recipe takes: parameters, memory, operations, disk; nothing is trained.

    Try:
        uae plan paper --gpu h100
        uae plan photos-24gb --model pair --decoder-rl.micro-redraws 1 --json

    Only configs are downloaded. A packaged recipe is planned for the pair that its head joins,
    another one for its model. Any key of the recipe is a flag, as of `uae train`. Captions are
    taken as long as they may be; evaluations are not counted.

    Args:
        recipe: A packaged recipe by name, or a YAML file.
        settings: Recipe keys as flags.
        gpu: A GPU by name: seconds are estimated for it, and exit code 3 says that it is too small.
        talk: Format and verbosity.
    """
    talk.begin()
    if gpu:
        gpu_of(gpu)  # refused at once
    file, keys = find_recipe(recipe), recipe_keys()
    layers = [
        read_file(file, keys),
        read_environment(os.environ, keys),
        read_flags(settings, keys, OWN_FLAGS),
    ]
    chosen = build(Recipe, *layers)
    plan_of(chosen)
    named = {setting.key for layer in layers for setting in layer}
    with quick_start():
        from uae.planning.needs import needs_of
    with _planned(chosen, [] if "model" in named else join_line(file)) as planned:
        needs = needs_of(planned)
    values = plan_values(file.stem, needs, gpu)
    talk.result(_text(values), values)
    if gpu and not values["fits"]:
        raise EnvironmentFault(_too_small(values, gpu_of(gpu)))
    return EXIT_DONE


@contextmanager
def _planned(recipe: Recipe, joined: Sequence[str]) -> Iterator[Recipe]:
    """Within this context, the recipe with its model, or with a pair that is joined for it."""
    from uae.models.weightless import weightless

    with weightless(), tempfile.TemporaryDirectory() as folder:
        if joined:
            from uae.models.join import write_pair

            write_pair(pair_of(**arguments_of_join(joined)), Path(folder))
            yield replace(recipe, model=folder)
        else:
            name = pinned("model", recipe.model)
            find_settings(name)
            yield replace(recipe, model=name)


def arguments_of_join(tokens: Sequence[str]) -> dict[str, Any]:
    """Return the arguments of a command line of `uae join`, as `pair_of` takes them."""
    app = App(name="uae join")
    app.default(join)
    _, bound, _ = app.parse_args(list(tokens), exit_on_error=False)
    return {key: value for key, value in bound.arguments.items() if key not in ("out", "talk")}


def plan_values(name: str, needs: Sequence["LoopNeeds"], gpu_name: str | None) -> dict[str, Any]:
    """Return a plan as plain values; memory in GiB, operations in TFLOP."""
    gpu = gpu_of(gpu_name) if gpu_name else None
    peak = max(loop.peak(loop.worst) for loop in needs) / _GIB
    room = {card.name: card.memory_gib - RESERVED_GIB for card in GPUS.values()}
    return {
        "recipe": name,
        "gpu": gpu.name if gpu else None,
        "peak_gib": peak,
        "fits": peak <= room[gpu.name] if gpu else None,
        "fitting_gpus": [card for card, gib in room.items() if peak <= gib],
        "loops": [_loop(loop, gpu) for loop in needs],
    }


def _loop(loop: "LoopNeeds", gpu: Gpu | None) -> dict[str, Any]:
    from uae.planning.needs import seconds_of

    phases = [
        {
            "name": phase.name,
            "tflop": phase.flop.total() / 1e12,
            "seconds_estimated": seconds_of(phase, gpu) if gpu else None,
            "weights_gib": loop.weights(phase) / _GIB,
            "beside_weights_gib": phase.peak / _GIB,
            "cache_gib": phase.cache / _GIB,
            "peak_gib": loop.peak(phase) / _GIB,
        }
        for phase in loop.phases
    ]
    parts = {
        name: {
            "parameters": part.parameters,
            "trained": part.trained,
            "weights_gib": part.num_bytes / _GIB,
        }
        for name, part in loop.parts.items()
    }
    return {
        "name": loop.name,
        "num_steps": loop.num_steps,
        "parts": parts,
        "gradients_gib": loop.gradients / _GIB,
        "optimizer_gib": loop.states / _GIB,
        "phases": phases,
        "checkpoint_gb": loop.checkpoint / 1e9,
        "checkpoints_kept": loop.checkpoints_kept,
    }


def _text(plan: dict[str, Any]) -> str:
    """Write a plan as tables."""
    out = io.StringIO()
    console = Console(file=out, width=_WIDTH, highlight=False, markup=False)
    for loop in plan["loops"]:
        parts = Table("weights", title=f"{loop['name']}, {loop['num_steps']} steps")
        for column in ("million parameters", "of them trained", "GiB"):
            parts.add_column(column, justify="right")
        for name, part in loop["parts"].items():
            numbers = (part["parameters"] / 1e6, part["trained"] / 1e6)
            parts.add_row(name, *(f"{x:,.1f}" for x in numbers), f"{part['weights_gib']:.2f}")
        parts.add_row("gradients", "", "", f"{loop['gradients_gib']:.2f}")
        parts.add_row("optimizer", "", "", f"{loop['optimizer_gib']:.2f}")
        console.print(parts)
        console.print(_phases(loop))
        kept, size = loop["checkpoints_kept"], loop["checkpoint_gb"]
        console.print(f"disk: {kept} checkpoints of {size:.2f} GB\n")
    console.print(f"most memory: {plan['peak_gib']:.1f} GiB, and {RESERVED_GIB:.0f} for the driver")
    console.print(f"GPUs that hold it: {', '.join(plan['fitting_gpus']) or 'none that is known'}")
    return out.getvalue().rstrip()


def _phases(loop: dict[str, Any]) -> Table:
    seconds = [phase["seconds_estimated"] for phase in loop["phases"]]
    table = Table("phase of a step")
    columns = ["TFLOP", "GiB in all", "beside weights"]
    for column in columns + ["seconds: estimated, not measured"] * (None not in seconds):
        table.add_column(column, justify="right")
    for phase in loop["phases"]:
        gib = f"{phase['beside_weights_gib']:.2f}"
        if phase["cache_gib"]:
            gib += f" (keys and values {phase['cache_gib']:.2f})"
        row = [f"{phase['tflop']:,.2f}", f"{phase['peak_gib']:.2f}", gib]
        table.add_row(phase["name"], *row, *_seconds(phase["seconds_estimated"]))
    total = sum(phase["tflop"] for phase in loop["phases"])
    sums = _seconds(sum(seconds)) if None not in seconds else []
    table.add_row("a step", f"{total:,.2f}", "", "", *sums)
    return table


def _seconds(seconds: float | None) -> list[str]:
    return [] if seconds is None else [f"{seconds:.2f}"]


def _too_small(plan: dict[str, Any], gpu: Gpu) -> str:
    loop = max(plan["loops"], key=lambda x: max(p["peak_gib"] for p in x["phases"]))
    phase = max(loop["phases"], key=lambda phase: phase["peak_gib"])
    room = gpu.memory_gib - RESERVED_GIB
    other = nearest(room)
    return (
        f"{plan['recipe']} takes {plan['peak_gib']:.1f} GiB ({loop['name']}, {phase['name']}) and "
        f"{gpu.name} has {room:.1f}: "
        + (f"the nearest recipe that fits is {other}" if other else "no packaged recipe fits")
        + ", or take smaller micro-batches"
    )
