"""`uae train`: a recipe with everything that overrides it, checked before a model loads."""

import itertools
import os
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Annotated

from cyclopts import Parameter
from pydantic import TypeAdapter

from uae.cli.output import PLAINLY, SWITCH, Talk
from uae.cli.startup import quick_start
from uae.core.errors import EXIT_DONE, EXIT_PARTIAL, UsageError
from uae.core.ranks import check_alone
from uae.core.unicode import check_text
from uae.core.yaml_text import to_yaml
from uae.data.folder import list_images
from uae.models.settings import find_settings, pinned
from uae.recipe.keys import RecipeKey, recipe_keys
from uae.recipe.loading import (
    RECIPES,
    Setting,
    build,
    find_recipe,
    read_environment,
    read_file,
    read_flags,
)
from uae.recipe.plan import plan_of
from uae.recipe.recipe import Recipe
from uae.rewards.places import rewarding
from uae.runs.claim import Resume, check_claim
from uae.runs.folder import TRAINING

CONFIG_NAME = "config.yaml"
OWN_FLAGS = ("--recipe", "--out", "--data", "--resume", "--overwrite", "--print-config", "--json")


def train(
    *settings: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    recipe: str | None = None,
    out: Path | None = None,
    data: Path | None = None,
    resume: Resume = "auto",
    overwrite: Annotated[bool, SWITCH] = False,
    print_config: Annotated[bool, SWITCH] = False,
    talk: Talk = PLAINLY,
) -> int:
    """Train a model by a recipe; stopped at any moment, the same command goes on.

    Try:
        uae train --recipe demo --out runs/demo
        uae train --recipe demo --out runs/kl --encoder-rl.kl-beta 0.1

    Any key of the recipe is a flag (listed below) and a variable, such as
    UAE_ENCODER_RL_KL_BETA. Flags go before variables, variables before the file.

    Args:
        settings: Recipe keys as flags.
        recipe: A packaged recipe by name, or a YAML file; by default that of the run in --out.
        out: The run's folder: made, or taken up again if it holds a run of the same recipe.
        data: Folder of images to train on, short for --data.folder.
        resume: must refuses a folder without a run, never one with a run.
        overwrite: Delete the run in --out and begin anew.
        print_config: Print the whole recipe as YAML and do nothing.
        talk: Format and verbosity.
    """
    talk.begin()
    check_alone("uae train")
    given = [Setting("data.folder", str(data), "--data")] if data else []
    layers = read_layers(recipe, out, overwrite, settings, given)
    if out is None and not print_config:
        raise UsageError("no folder for the run: give --out, e.g. --out runs/first")
    chosen = build(Recipe, *layers)
    if out is None or print_config:
        values = TypeAdapter(Recipe).dump_python(chosen, mode="json")
        talk.result(to_yaml(values).rstrip(), values)
        return EXIT_DONE
    chosen = replace(chosen, model=pinned("model", chosen.model))
    _check_places(chosen, out, resume, overwrite)
    with quick_start():
        from uae.scenes.run_images import run_images
        from uae.train.run import train_recipe

    trained = train_recipe(chosen, out, run_images(chosen), resume=resume, overwrite=overwrite)
    model, report = trained.model, out / "report.html"
    after = f"uae caption --model {quote(str(model))} IMAGE"
    lines = [f"run     {out}", f"report  {report}", f"next    {after}"]
    plain = str(model) if talk.chosen == "quiet" else "\n".join(lines)
    talk.result(plain, {"run": str(out), "model": str(model), "report": str(report)})
    return EXIT_PARTIAL if trained.num_left_out else EXIT_DONE


def _check_places(recipe: Recipe, out: Path, resume: Resume, overwrite: bool) -> None:
    """Look for what the recipe names, and whether `out` may be used, before torch is imported."""
    plan_of(recipe)
    check_text(str(out), "--out")  # what writes weights takes no other name
    folder = recipe.data.folder
    if folder and not Path(folder).is_dir():
        list_images(folder)  # says why
    rewarding(recipe.reward, find_settings(recipe.model).similarity, "reward.")
    check_claim(out, TRAINING, resume, overwrite)


def read_layers(
    recipe: str | None,
    out: Path | None,
    overwrite: bool,
    tokens: Sequence[str],
    given: Sequence[Setting],
) -> list[list[Setting]]:
    """Read file, environment and flags, in rising precedence."""
    keys = recipe_keys()
    flags = [*given, *read_flags(tokens, keys, OWN_FLAGS)]
    sources = [setting.source for setting in flags if setting.key == "data.folder"]
    if len(sources) > 1:
        raise UsageError(f"{' and '.join(sources)} say the same: keep one")
    if recipe is not None:
        file = find_recipe(recipe)
    elif out is not None and (out / CONFIG_NAME).is_file() and not overwrite:
        file = out / CONFIG_NAME
    else:
        names = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))
        raise UsageError(f"no recipe: give --recipe with a YAML file or one of {names}")
    return [read_file(file, keys), read_environment(os.environ, keys), flags]


def keys_help() -> str:
    """List all keys of a recipe with type, default and meaning, by section."""
    lines = ["Recipe keys"]
    for section, keys in itertools.groupby(recipe_keys().values(), _section):
        lines += ["", f"  {section or 'top'}"] if section else [""]
        lines += map(_line, keys)
    return "\n".join(lines)


def _section(key: RecipeKey) -> str:
    first, dot, _ = key.name.partition(".")
    return first if dot or not key.kind else ""


def _line(key: RecipeKey) -> str:
    if not key.kind:
        return f"    {key.help}" if "." not in key.name else f"    ({key.name}: {key.help})"
    only = f" Only with {' or '.join(key.only_with)}." if key.only_with else ""
    told = textwrap.indent(textwrap.fill(key.help + only, 70), " " * 8)
    return f"    --{key.name.replace('_', '-')} {key.kind} [{key.default or 'none'}]\n{told}"
