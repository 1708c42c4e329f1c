"""What README and docs tell people to type: the Python runs, and every command line is one."""

import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from bases import __main__ as bases
from uae.cli.app import build_app
from uae.cli.train import read_layers
from uae.models.dit.sd3 import Sd3
from uae.models.export import export
from uae.models.finetune import FineTuneConfig
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.loading import build
from uae.recipe.recipe import Recipe
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def texts() -> dict[str, str]:
    return {page.name: page.read_text(encoding="utf-8") for page in PAGES}


def command_lines() -> list[str]:
    """Lines of indented blocks, continued after a backslash, and cells of the table of verbs."""
    pattern = re.compile(r"^(?:    |\| `)((?:uae|python -m bases) [^`\n]*)", re.MULTILINE)
    return [
        line.replace(r"\|", "_OR_").strip()
        for text in texts().values()
        for line in pattern.findall(re.sub(r"\\\n *", "", text))
    ]


def blocks(language: str) -> list[str]:
    """Blocks of all pages but the one whose examples `test_extend.py` runs."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    pages = {name: text for name, text in texts().items() if name != "extend.md"}
    return [block for text in pages.values() for block in pattern.findall(text)]


def test_there_is_something_to_check():
    assert len(command_lines()) > 10
    assert len(blocks("python")) == 3


def run_python(code: str, **given: Any) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "readme", **given}
    exec(compile(code, "README.md", "exec"), names)
    return names


def test_the_example_of_the_package_runs(capsys):
    run_python(blocks("python")[0])
    assert re.search(r"\S \(3, 64, 64\)\n$", capsys.readouterr().out)


def test_the_example_of_diffusers_draws_as_our_own_model(
    random_model_folder, tmp_path, monkeypatch
):
    model = UnifiedAutoEncoder.from_pretrained(random_model_folder)
    tuning = model.tune_decoder(FineTuneConfig(rank=2, alpha=8), seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in tuning.parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    model.save_pretrained(tmp_path / "runs/demo/model")
    monkeypatch.chdir(tmp_path)
    pipe = run_python(blocks("python")[1])["pipe"]

    conditions = model.condition(["A red circle.", "A red circle."])  # of equal length: no padding
    noise = torch.randn(2, *model.decoder.latent_shape(), generator=generator)
    ours = UnifiedAutoEncoder.from_pretrained("runs/demo/model").decoder
    plain = UnifiedAutoEncoder.from_pretrained(random_model_folder).decoder
    sigma = torch.full((2,), 0.7)
    with torch.no_grad():
        expected, before = (d.velocity(noise, sigma, conditions) for d in (ours, plain))
        theirs = Sd3(pipe.transformer, pipe.vae, pipe.scheduler)
        drawn = theirs.velocity(noise, sigma, conditions)
    assert (expected - before).abs().max() > 0.01
    torch.testing.assert_close(drawn, expected, atol=1e-5, rtol=1e-5)  # merged weights round


def test_the_example_of_an_export_runs(random_model_folder, tmp_path, monkeypatch):
    export(str(random_model_folder), tmp_path / "exported")
    monkeypatch.chdir(tmp_path)
    code = blocks("python")[2].replace("cuda", "cpu")
    images = [render_image(scene_at(0, "test"))]
    assert run_python(code, images=images)["pixels"][0].shape == (3, 64, 64)


@pytest.mark.parametrize("line", command_lines())
def test_every_command_line_is_one(line: str, monkeypatch):
    words = shlex.split(line, comments=True)
    is_ours = words[0] == "uae"
    app, tokens = (build_app(), words[1:]) if is_ours else (bases.build_app(), words[3:])
    _, bound, _ = app.parse_args(tokens, exit_on_error=False, print_error=False)
    given = bound.arguments
    if tokens[0] != "train" or given["recipe"][0].isupper():  # a placeholder
        return
    for variable in [name for name in os.environ if name.startswith("UAE_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(ROOT)
    layers = read_layers(given["recipe"], None, False, given.get("settings", ()), [])
    assert build(Recipe, *layers) != Recipe()


def test_every_command_in_a_sentence_has_a_verb():
    app = build_app()
    named = {verb for text in texts().values() for verb in re.findall(r"`uae ([a-z]+)", text)}
    assert len(named) > 5
    assert all(app[verb] for verb in named)
