"""The floors of the package: a module imports from its own package and from floors below alone."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "uae"

FLOORS = (
    {"core"},
    {"flow", "recipe"},
    {"rl", "data", "report"},
    {"models"},
    {"rewards", "runs"},
    {"backends"},
    {"train", "benchmarks"},
    {"scenes", "serve", "planning"},
    {"cli"},
)
"""From the bottom up; packages of one floor do not import each other."""
FLOOR_OF = {package: i for i, floor in enumerate(FLOORS) for package in sorted(floor)}
DATA_ONLY = {"presets"}
"""Folders without code."""

PURE = {"torch", "jaxtyping", "einops"} | sys.stdlib_module_names
"""All that the mathematics may import from outside."""
PURE_OWN = {"flow": {"uae.flow"}, "rl": {"uae.rl", "uae.flow", "uae.recipe", "uae.core.errors"}}
LIGHT = {"recipe"}
"""Packages that import neither torch nor anything that does: wrong keys are answered at once."""
HEAVY = {"torch", "transformers", "diffusers", "peft", "numpy", "PIL", "scipy"}


def imports(source: str, package: str) -> set[str]:
    """Dotted names of all modules that `source`, a module of `package`, imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join(
                (parents if node.level else []) + ([node.module] if node.module else [])
            )
            # "from uae import cli" imports uae.cli
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


def within(name: str, layers: set[str]) -> bool:
    return any(name == layer or name.startswith(layer + ".") for layer in layers)


def modules(package: str) -> list[tuple[Path, str]]:
    """Files of a package, each with the name that its relative imports start from."""
    return [
        (path, ".".join(["uae", *path.parent.relative_to(PACKAGE).parts]))
        for path in sorted((PACKAGE / package).rglob("*.py"))
    ]


def upward(package: str, source: str, start: str) -> set[str]:
    """Packages that a module imports though they do not stand below its own."""
    used = {name.split(".")[1] for name in imports(source, start) if name.startswith("uae.")}
    return {x for x in used - {package} if FLOOR_OF.get(x, len(FLOORS)) >= FLOOR_OF[package]}


def impure(package: str, source: str, start: str) -> set[str]:
    names = imports(source, start)
    own = {name for name in names if within(name, {"uae"})}
    foreign = {name for name in names - own if name.split(".")[0] not in PURE}
    return foreign | {name for name in own - {"uae"} if not within(name, PURE_OWN[package])}


def test_every_package_has_a_floor():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name[0] != "_"}
    assert folders == set(FLOOR_OF) | DATA_ONLY
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}
    assert not any(list((PACKAGE / name).rglob("*.py")) for name in DATA_ONLY)


@pytest.mark.parametrize("package", FLOOR_OF)
def test_nothing_imports_what_does_not_stand_below_it(package: str):
    assert modules(package)
    faults = {
        str(path.relative_to(PACKAGE)): names
        for path, start in modules(package)
        if (names := upward(package, path.read_text(), start))
    }
    assert not faults


@pytest.mark.parametrize("package", PURE_OWN)
def test_mathematics_imports_torch_alone(package: str):
    faults = {
        path.name: names
        for path, start in modules(package)
        if (names := impure(package, path.read_text(), start))
    }
    assert not faults


@pytest.mark.parametrize("package", LIGHT)
def test_configurations_import_nothing_heavy(package: str):
    faults = {
        path.name: heavy
        for path, start in modules(package)
        if (heavy := {name.split(".")[0] for name in imports(path.read_text(), start)} & HEAVY)
    }
    assert not faults


@pytest.mark.parametrize(
    "source",
    [
        "import uae.scenes.graph",
        "from uae.cli.app import main",
        "from uae import serve",
        "from uae.benchmarks import judged as j",
        "from ..scenes import render",
        "from uae.nowhere import thing",
        "def f():\n    from uae import cli",
    ],
)
def test_an_upward_import_is_seen(source: str):
    assert upward("train", source, "uae.train")


@pytest.mark.parametrize(
    "source", ["from uae.models.unified import X", "from .learner import Y", "import uae.core.lock"]
)
def test_a_downward_import_passes(source: str):
    assert not upward("train", source, "uae.train")


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np",
        "from transformers import AutoModel",
        "from uae.models.vlm.encoder import Encoder",
        "from uae import rl",
        "from ..rl import kl",
    ],
)
def test_an_impure_import_is_seen(source: str):
    assert impure("flow", source, "uae.flow")


@pytest.mark.parametrize(
    "source",
    [
        "import math\nimport torch.nn.functional as F\nfrom jaxtyping import Float",
        "from uae.flow.path import noised",
        "from uae.flow import path",
        "from .path import noised",
    ],
)
def test_a_pure_import_passes(source: str):
    assert not impure("flow", source, "uae.flow")
