"""`python -m bases`, its recipes, and what `uae` says of the verbs that it had."""

import shlex
from pathlib import Path

import pytest

from bases import __main__ as command
from bases.build import DECODER_PARTS, DECODER_RECIPES
from uae.cli.app import run
from uae.recipe.keys import recipe_keys
from uae.recipe.loading import build, find_recipe, read_file
from uae.recipe.recipe import Recipe


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("verb", ["build", "untrained"])
def test_the_help_names_the_next_command(verb, capsys):
    assert run([verb, "--help"], command.build_app()) == 0
    out, _ = capsys.readouterr()
    assert out.startswith(f"Usage: python -m bases {verb}")
    assert "Next: uae " in out


@pytest.mark.parametrize("tokens", [["build"], ["build", "--out", "run", "more"], ["train"]])
def test_what_is_no_command_is_refused(tokens):
    assert run(tokens, command.build_app()) == 2
    assert run([*tokens, "--halp"], command.build_app()) == 2


def test_no_folder_is_written_over(tmp_path, capsys):
    (tmp_path / "there").touch()
    for verb, said in (("build", "there is a file"), ("untrained", "there exists")):
        assert run([verb, "--out", "there"], command.build_app()) == 2
        assert said in capsys.readouterr().err


def test_several_processes_are_refused(tmp_path, monkeypatch, capsys):
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert run(["build", "--out", "run"], command.build_app()) == 2
    message = capsys.readouterr().err
    assert message.startswith("rank 1: error: python -m bases build runs in one process")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("tail", ["", " build --out 'a b'", " untrained --out x", " --help"])
def test_the_verb_that_left_uae_names_the_new_command(tail, capsys):
    assert run(["bases", *shlex.split(tail)]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert f"type `python -m bases{tail}` in a checkout" in err


@pytest.mark.parametrize("path", sorted(DECODER_RECIPES.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_part_is_a_recipe_of_stage_1_alone(path: Path):
    recipe = build(Recipe, read_file(find_recipe(str(path)), recipe_keys()))
    assert recipe.pretrain != Recipe().pretrain
    assert recipe.encoder_rl.num_steps == recipe.decoder_rl.num_steps == 0


def test_the_parts_are_numbered_and_say_which_they_are():
    files = sorted(DECODER_RECIPES.glob("*.yaml"))
    assert {*DECODER_PARTS} < {file.stem for file in files}
    assert [*DECODER_PARTS] == sorted(DECODER_PARTS)
    for number, file in enumerate(files, start=1):
        assert file.name.startswith(f"{number}-")
        assert file.read_text().startswith(f"# Part {number} of {len(files)} of ")


def test_the_recipe_that_the_help_names_is_there():
    root = Path(command.__file__).parents[1]
    assert (root / command.FIRST_PART) == DECODER_RECIPES / f"{DECODER_PARTS[0]}.yaml"
