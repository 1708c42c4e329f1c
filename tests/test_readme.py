"""What README and docs tell people to type: the Python runs, and every command line is one."""

import os
import re
import shlex
from pathlib import Path

import pytest

from uae.cli import build_app
from uae.commands.train import read_layers
from uae.recipe import Recipe
from uae.recipe_file import build

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def texts() -> dict[str, str]:
    return {page.name: page.read_text(encoding="utf-8") for page in PAGES}


def command_lines() -> list[str]:
    """Lines of indented blocks, continued after a backslash, and cells of the table of verbs."""
    pattern = re.compile(r"^(?:    |\| `)(uae [^`\n]*)", re.MULTILINE)
    return [
        line.replace(r"\|", "_OR_").strip()
        for text in texts().values()
        for line in pattern.findall(re.sub(r"\\\n *", "", text))
    ]


def blocks(language: str) -> list[str]:
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [block for text in texts().values() for block in pattern.findall(text)]


def test_there_is_something_to_check():
    assert len(command_lines()) > 10
    assert len(blocks("python")) == 1


@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_examples_run(code, capsys):
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    assert re.search(r"\S \(1, 3, 64, 64\)\n$", capsys.readouterr().out)


@pytest.mark.parametrize("line", command_lines())
def test_every_command_line_is_one(line: str, monkeypatch):
    tokens = shlex.split(line, comments=True)[1:]
    _, bound, _ = build_app().parse_args(tokens, exit_on_error=False, print_error=False)
    given = bound.arguments
    if tokens[0] != "train" or given["recipe"][0].isupper():  # a placeholder
        return
    for variable in [name for name in os.environ if name.startswith("UAE_")]:
        monkeypatch.delenv(variable)
    layers = read_layers(given["recipe"], None, False, given.get("settings", ()), [])
    assert build(Recipe, *layers) != Recipe()


def test_every_command_in_a_sentence_has_a_verb():
    app = build_app()
    named = {verb for text in texts().values() for verb in re.findall(r"`uae ([a-z]+)", text)}
    assert len(named) > 5
    assert all(app[verb] for verb in named)
