"""Dependencies point one way: flow <- rl <- models, rewards, data <- train | eval <- stages."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "uae"

PURE = {"torch", "jaxtyping", "einops"} | sys.stdlib_module_names
"""All that the mathematics may import from outside."""

TOP = {"uae.cli.app", "uae.serve", "uae.train.run", "uae.recipe.recipe"}
LOOPS = {"uae.train", "uae.caption", "uae.eval"}
FORBIDDEN = {
    "models": TOP | LOOPS,
    "rewards": TOP | LOOPS,
    "data": TOP | LOOPS,
    "train": TOP | {"uae.eval"},
    "caption": TOP | {"uae.train", "uae.eval"},
    "eval": TOP | {"uae.train"},
}
OWN_ALLOWED = {"flow": {"uae.flow"}, "rl": {"uae.rl", "uae.flow"}}


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
            # "from uae import cli" imports uae.cli.app
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


def within(name: str, layers: set[str]) -> bool:
    return any(name == layer or name.startswith(layer + ".") for layer in layers)


def modules(layer: str) -> list[tuple[Path, str]]:
    """Files of a layer, each with the package that its relative imports start from."""
    return [
        (path, ".".join(["uae", *path.parent.relative_to(PACKAGE).parts]))
        for path in sorted((PACKAGE / layer).rglob("*.py"))
    ]


def upward(layer: str, source: str, package: str) -> set[str]:
    return {name for name in imports(source, package) if within(name, FORBIDDEN[layer])}


def impure(layer: str, source: str, package: str) -> set[str]:
    names = imports(source, package)
    own = {name for name in names if within(name, {"uae"})}
    foreign = {name for name in names - own if name.split(".")[0] not in PURE}
    return foreign | {name for name in own - {"uae"} if not within(name, OWN_ALLOWED[layer])}


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_nothing_imports_what_stands_above_it(layer: str):
    found = {
        path.name: names for path, package in modules(layer)
        if (names := upward(layer, path.read_text(), package))
    }  # fmt: skip
    assert not found


@pytest.mark.parametrize("layer", OWN_ALLOWED)
def test_mathematics_imports_torch_alone(layer: str):
    assert modules(layer)
    found = {
        path.name: names for path, package in modules(layer)
        if (names := impure(layer, path.read_text(), package))
    }  # fmt: skip
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "import uae.scenes.evaluation",
        "from uae.cli.app import main",
        "from uae import eval",
        "from uae.eval import report as r",
        "from ..eval import report",
        "def f():\n    from uae import cli",
    ],
)
def test_an_upward_import_is_seen(source: str):
    assert upward("train", source, "uae.train")


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np",
        "from transformers import AutoModel",
        "from uae.models.encoder import Encoder",
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
