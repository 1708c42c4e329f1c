"""`uae eval scenes`: the table of a model, what its folder keeps, and what is refused."""

import json

import pytest

from uae.models.unified import UnifiedAutoEncoder
from uae.scenes.evaluator import HEADLINES

SMALL = ("--num-scenes", 2, "--num-questions", 1, "--prompts-per-category", 1)


@pytest.fixture
def command(random_model_folder):
    return ("eval", "scenes", "--model", random_model_folder, *SMALL)


def test_rows_have_value_interval_and_n_and_are_not_made_twice(
    run, command, tmp_path, monkeypatch, random_model_folder
):
    code, out, err = run(*command, "--swap", random_model_folder, "--out", "scores", "--json")
    assert code == 0
    assert "evaluation: captioning 2/2" in err
    assert "evaluation: drawing swap 2/2" in err
    values = json.loads(out)
    assert (values["model"], values["num_scenes"], values["seed"]) == (
        str(random_model_folder),
        2,
        1234,
    )
    rows = {row["metric"]: row for row in values["rows"]}
    assert set(HEADLINES) <= set(rows)
    similarity = rows["reconstruction/reward"]
    assert similarity["n"] == 2
    assert similarity["low"] < similarity["value"] < similarity["high"]
    own, swap = rows["reconstruction/held_out"], rows["reconstruction/swap"]
    assert own["value"] == swap["value"], "the same decoder"
    assert not values["gate"]["passed"]
    assert json.loads((tmp_path / "scores/scores.json").read_text()) == values
    monkeypatch.setattr(UnifiedAutoEncoder, "draw", None)
    again = run(*command, "--swap", random_model_folder, "--out", "scores", "--json")
    assert again == (0, out, "")


def test_people_read_a_table_and_scripts_bare_values(run, command, tmp_path):
    code, out, _ = run(*command, "--format", "human", "--out", "scores")
    assert code == 0
    assert "2 held-out test scenes, seed 1234, reward clip; 95 % intervals" in out
    assert "\nReconstruction similarity\n  held-out backbone " in out
    assert " n = 2\n" in out
    assert "swap test" not in out
    assert "encoder RL will forget" in out
    code, out, err = run(*command, "-q", "--out", "scores")
    assert (code, err) == (0, "")
    assert all(len(line.split()) == 2 for line in out.splitlines())


def test_another_evaluation_is_not_mixed_in(run, command, tmp_path):
    assert run(*command, "--out", "scores", "-q")[0] == 0
    code, out, err = run(*command, "--seed", 7, "--out", "scores")
    assert (code, out) == (2, "")
    assert "holds the evaluation of seed 1234, not 7" in err


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["--num-scenes", "1", "--num-questions", "2"], "expected more scenes or fewer questions"),
        (["--num-scenes", "0"], "--num-scenes"),
        (["--reward", "siglip"], "--reward siglip: the model has no such similarity backbone"),
        (["--out", "."], "is not empty and holds no evaluation"),
        (["--out", "notes.txt"], "is a file: expected a folder"),
    ],
)
def test_what_cannot_work_is_refused_and_nothing_made(
    run, random_model_folder, tmp_path, tokens, said
):
    (tmp_path / "notes.txt").write_text("")
    chosen = tokens if "--out" in tokens else [*tokens, "--out", "scores"]
    code, out, err = run("eval", "scenes", "--model", random_model_folder, *chosen)
    assert (code, out) == (2, "")
    assert said in " ".join(err.replace("│", " ").split())
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
