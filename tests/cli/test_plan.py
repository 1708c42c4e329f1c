"""`uae plan` as it is typed: tables, JSON, and one line for each thing that is wrong."""

import json
from pathlib import Path

import pytest

from bench.real_models import write_configs
from uae.cli.app import run
from uae.cli.plan import arguments_of_join
from uae.planning.shipped import PEAKS_GIB, join_line, nearest
from uae.recipe.loading import RECIPES

SMALL = """
model: {model}
schedule: decoder
decoder_rl: {{num_steps: 5, num_images: 2, micro_images: 1, num_redraws: 2, num_sampling_steps: 2,
  objective: {{window: 1, window_starts: 1}}, captioning: {{num_captions: 1, max_new_tokens: 8}}}}
"""


@pytest.fixture
def recipe(tmp_path, random_model_folder) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(SMALL.format(model=random_model_folder))
    return path


def test_a_plan_is_a_table_and_json(recipe, capsys):
    assert run(["plan", str(recipe), "--gpu", "h100"]) == 0
    text = capsys.readouterr().out
    assert "decoder_rl, 5 steps" in text
    assert "estimated" in text
    assert "measured" in text
    assert run(["plan", str(recipe), "--decoder-rl.num-redraws", "4", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["fits"] is None
    [loop] = values["loops"]
    assert [phase["name"] for phase in loop["phases"]] == [
        "caption",
        "read",
        "draw",
        "decode",
        "score",
        "update decoder",
    ]
    assert loop["parts"]["decoder"]["trained"] > 0
    assert loop["parts"]["vae"]["trained"] == 0
    most = max(phase["peak_gib"] for phase in loop["phases"])
    assert values["peak_gib"] == most


def test_a_gpu_that_is_not_known(recipe, capsys):
    assert run(["plan", str(recipe), "--gpu", "voodoo2"]) == 2
    error = capsys.readouterr().err
    assert "'voodoo2' is not known: expected one of rtx-3090, " in error
    assert error.count("\n") == 1


def test_a_gpu_that_is_too_small(recipe, capsys, monkeypatch):
    from uae.planning import gpus

    tiny = gpus.Gpu("tiny", 1.02, 1, 1.0, 1)
    monkeypatch.setitem(gpus.GPUS, "tiny", tiny)
    assert run(["plan", str(recipe), "--gpu", "tiny", "--json"]) == 3
    out, error = capsys.readouterr()
    assert json.loads(out)["fits"] is False
    assert "mine takes 0." in error
    assert "tiny has 0.0: no packaged recipe fits" in error
    assert error.count("error:") == 1


def test_a_recipe_that_does_not_load(tmp_path, capsys):
    path = tmp_path / "wrong.yaml"
    path.write_text("decoder_rl: {num_step: 3}")
    assert run(["plan", str(path)]) == 2
    assert "decoder_rl.num_step" in capsys.readouterr().err


def test_a_model_that_is_not_there(recipe, capsys):
    assert run(["plan", str(recipe), "--model", "nowhere"]) == 2
    assert "model 'nowhere'" in capsys.readouterr().err


def test_no_network_for_configs(capsys):
    assert run(["plan", "paper"]) == 3
    error = capsys.readouterr().err
    assert "Qwen/Qwen2.5-VL-3B-Instruct" in error
    assert "the hub cannot be reached" in error


def test_a_family_that_is_not_known(tmp_path, recipe, capsys):
    folder = tmp_path / "clip"
    write_configs("openai/clip-vit-large-patch14", folder)
    path = tmp_path / "head.yaml"
    path.write_text(
        f"# uae join --encoder {folder} --decoder {folder} --out pair\n"
        + recipe.read_text().replace("model:", "# model:")
    )
    assert run(["plan", str(path)]) == 2
    assert "'clip' model, which describes no images" in capsys.readouterr().err


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_head_of_a_recipe_joins_its_pair(file):
    tokens = join_line(file)
    assert bool(tokens) == (file.stem not in ("demo", "every-stage", "naive"))
    if tokens:
        arguments = arguments_of_join(tokens)
        assert {"encoder", "decoder", "drawing"} <= arguments.keys()
        assert file.stem in PEAKS_GIB


def test_the_nearest_recipe_is_the_one_that_takes_most_of_what_there_is():
    assert nearest(1000.0) == max(PEAKS_GIB, key=lambda name: PEAKS_GIB[name])
    assert nearest(23.0) == "photos-24gb"
    assert nearest(0.1) == ""
