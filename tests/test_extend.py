"""The examples of `docs/extend.md`: each is run as the user's own file."""

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path
from unittest import mock

import pytest
import yaml
from PIL import ExifTags, Image

from uae.backends import load as backends
from uae.benchmarks.table import BENCHMARKS
from uae.cli import app
from uae.models.dit.table import FAMILIES
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe import decoder_rl
from uae.rewards import places
from uae.rewards.table import REWARDS
from uae.rl.decoder import table
from uae.runs.metrics import read_metrics

PAGE = Path(__file__).parents[1] / "docs" / "extend.md"
MAX_LINES = 60
SMALL = {
    "schedule": "decoder",
    "gate": "off",
    "data": {"num_scenes": 8},
    "decoder_rl": {
        "num_steps": 1,
        "num_images": 2,
        "micro_images": 1,
        "captioning": {"num_captions": 1, "max_new_tokens": 8},
        "num_redraws": 3,
        "num_sampling_steps": 2,
    },
    "evaluation": {
        "num_scenes": 2,
        "num_questions": 1,
        "prompts_per_category": 1,
        "num_shown": 2,
    },
}


def example(section: str, number: int) -> str:
    """The Python of a section."""
    text = PAGE.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2]
    code = re.findall(r"^```python\n(.*?)^```", text.partition("\n## ")[0], re.M | re.S)[number]
    assert len(code.splitlines()) < MAX_LINES
    return code


def load(section: str, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int = 0) -> None:
    """Import a section's example from a file, as running it would."""
    path = folder / "mine.py"
    path.write_text(example(section, number))
    spec = importlib.util.spec_from_file_location("mine", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mine", module)
    spec.loader.exec_module(module)


@pytest.fixture
def recipe(tmp_path, random_model_folder, monkeypatch) -> str:
    """A recipe of one short step, in the folder where commands run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(
        yaml.safe_dump(SMALL | {"model": str(random_model_folder)})
    )
    return "small.yaml"


def test_a_decoder_objective(recipe, tmp_path, monkeypatch, capsys):
    with mock.patch.dict(decoder_rl.OBJECTIVES), mock.patch.dict(table.OBJECTIVES):
        load("A decoder objective", tmp_path, monkeypatch)
        chosen = ["--decoder-rl.objective.name", "regression"]
        command = ["train", "--recipe", recipe, "--out", "run", *chosen]
        assert app.run([*command, "--decoder-rl.objective.window", "2"]) == 2
        assert "expected one of name, temperature" in capsys.readouterr().err
        assert app.run([*command, "--decoder-rl.objective.temperature", "0.5"]) == 0
        assert app.run(["train", "--help"]) == 0
        assert "--decoder-rl.objective.temperature float [1.0]" in capsys.readouterr().out
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["decoder_rl"]["objective"] == {"name": "regression", "temperature": 0.5}
    [line] = [x for x in read_metrics(tmp_path / "run/metrics.jsonl") if x["stage"] == "decoder_rl"]
    assert line["loss/regression"] > 0
    assert line["optim/grad_norm"] > 0
    assert not [name for name in line if name.startswith(("policy/", "kl/"))]
    assert (tmp_path / "run" / "report.html").exists()


def test_a_reward(recipe, tmp_path, monkeypatch, capsys):
    command = ["train", "--recipe", recipe, "--out", "run", "--reward.clip", "0.5"]
    command += ["--reward.brightness", "0.5", "--decoder-rl.objective.name", "awm"]
    assert app.run(command) == 2
    assert "reward.brightness: the model has no such similarity backbone" in capsys.readouterr().err
    with mock.patch.dict(places.KNOWN), mock.patch.dict(REWARDS):
        load("A reward", tmp_path, monkeypatch)
        assert app.run(command) == 0
    [line] = [x for x in read_metrics(tmp_path / "run/metrics.jsonl") if x["stage"] == "decoder_rl"]
    [seen] = [json.loads(x.read_text()) for x in tmp_path.glob("run/evaluations/0-*/obs*.json")]
    similarities = seen["similarities"]
    assert {"clip", "brightness"} <= similarities.keys()
    assert all(0 < value <= 1 for value in similarities["brightness"])
    assert -1 <= line["reward/mean"] <= 1


def test_a_decoder_family(recipe, tmp_path, random_model_folder, monkeypatch, capsys):
    folder = tmp_path / "mine"
    shutil.copytree(random_model_folder, folder)
    shutil.rmtree(folder / "decoder")
    (folder / "decoder").mkdir()
    (folder / "decoder/model_index.json").write_text(json.dumps({"_class_name": "TinyPipeline"}))
    projector = json.loads((folder / "projector/config.json").read_text())
    command = ["train", "--recipe", recipe, "--out", "run", "--model", str(folder)]
    command += ["--pretrain.num-steps", "1", "--pretrain.batch-size", "2"]
    command += ["--decoder-rl.objective.name", "awm"]
    assert app.run(command) == 2
    refusal = "is a TinyPipeline: with condition projector a decoder is one of "
    assert refusal in capsys.readouterr().err
    with mock.patch.dict(FAMILIES):
        load("A decoder family", tmp_path, monkeypatch)
        net = sys.modules["mine"].TinyNet(64, projector["condition_size"])
        net.save_pretrained(folder / "decoder/transformer")
        assert app.run(command) == 0
        trained = UnifiedAutoEncoder.from_pretrained(tmp_path / "run/model")
    lines = {line["stage"]: line for line in read_metrics(tmp_path / "run/metrics.jsonl")}
    assert lines["pretrain"]["loss/flow_matching"] > 0
    assert lines["decoder_rl"]["optim/grad_norm"] > 0
    assert (tmp_path / "run/model/decoder_lora/adapter_model.safetensors").exists()
    assert trained.draw(["a red circle"]).shape == (1, 3, 64, 64)


def test_a_backend(tmp_path, random_model_folder, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name, text in (("a.jpg", "A red circle."), ("b.jpg", "A blue bar."), ("c.jpg", "")):
        exif = Image.Exif()
        exif[ExifTags.Base.ImageDescription] = text
        Image.new("RGB", (64, 64), "red").save(tmp_path / "photos" / name, exif=exif)
    command = ["eval", "unified-bench", "photos", "--model", str(random_model_folder)]
    backbone = f"clip={random_model_folder.with_name('clip')}"
    command += ["--backbone", backbone, "--out", "run", "--captioner"]
    with mock.patch.dict(backends.BACKENDS):
        load("A backend", tmp_path, monkeypatch)
        assert app.run([*command, "exit:ImageDescription"]) == 2
        assert "folder:" not in (err := capsys.readouterr().err)
        assert "file:..., exif:..." in " ".join(err.split())
        assert app.run([*command, "exif:Nothing"]) == 2
        assert "expected a field such as ImageDescription" in capsys.readouterr().err
        assert app.run([*command, "exif:ImageDescription"]) == 4
    lines = (tmp_path / "run/captions/plain.jsonl").read_text().splitlines()
    captions = {row["image"]: row["caption"] for row in map(json.loads, lines)}
    assert captions == {"a.jpg": "A red circle.", "b.jpg": "A blue bar."}
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert [x["reason"] for x in result["excluded"]] == ["captioner: no description"]
    assert "exif" in result["settings"]["model"]["backend"]


PROGRAM = """#!/bin/sh
case "$*" in
  "") read prompt; [ "$prompt" = "a cup" ] && { echo "no cups" >&2; exit 1; }; cat red.png ;;
  *"three cats"*) cmp -s - red.png && echo '{"correct": 1, "reason": "three"}' ;;
  *) echo "blind" >&2; exit 1 ;;
esac
"""


def test_a_backend_that_draws_and_judges(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    program, prompts = tmp_path / "mine.sh", tmp_path / "prompts.jsonl"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    Image.new("RGB", (8, 8), "red").save("red.png")
    lines = [
        {"tag": "counting", "include": [{"class": "cat", "count": 3}], "prompt": "three cats"},
        {"tag": "counting", "include": [{"class": "cup", "count": 1}], "prompt": "a cup"},
    ]
    prompts.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    given = ["--prompts", str(prompts), "--json", "--out"]
    draw = ["eval", "geneval-pp-images", *given, "drawn", "--model"]
    judge = ["eval", "geneval-pp", "drawn", *given, "judged", "--judge"]
    assert app.run([*judge, "program:./mine.sh"]) == 2, "it is no judge of the package"
    assert "expected local:FOLDER" in capsys.readouterr().err
    with mock.patch.dict(backends.BACKENDS):
        load("A backend", tmp_path, monkeypatch, 1)
        assert app.run([*draw, "program:./none.sh"]) == 2
        assert "none.sh cannot be read: No such file" in capsys.readouterr().err
        assert app.run([*draw, "folder:drawn"]) == 2
        assert "folder:drawn is no model folder" in capsys.readouterr().err, "it draws no prompts"
        assert app.run([*draw, "program:./mine.sh"]) == 4
        shown = json.loads(capsys.readouterr().out)
        assert shown["left_out"] == {"generator: the program failed": 1}
        assert (shown["num_drawn"], len(shown["model_sha256"])) == (1, 64)
        Image.new("RGB", (8, 8), "blue").save("drawn/2.jpg")
        shutil.copy("red.png", "drawn/1.jpg")  # by its bytes: no last digits of a JPEG
        assert app.run([*judge, "program:"]) == 2
        assert "expected a name after the colon" in capsys.readouterr().err
        assert app.run([*judge, "program:./mine.sh"]) == 4
        result = json.loads(capsys.readouterr().out)
    assert "program" in str(result["settings"]["options"]["judge"])
    assert [x["reason"] for x in result["excluded"]] == ["judge: the program failed"]


def test_a_benchmark(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for grey in (0, 51, 255):
        Image.new("RGB", (8, 8), (grey,) * 3).save(tmp_path / f"photos/{grey}.png")
    command = ["eval", "mine", "photos", "--out", "run", "--json"]
    assert app.run(command) == 2, "it is no benchmark of the package"
    with mock.patch.dict(BENCHMARKS):
        load("A benchmark", tmp_path, monkeypatch)
        assert app.run(["eval", "mine", "--help"]) == 0
        shown = capsys.readouterr().out
        assert "Measure how bright the images of a folder are." in shown
        assert "--darkest FLOAT" in shown
        assert "--judge" not in shown
        assert app.run(command) == 0
        out, err = capsys.readouterr()
        assert "mine 3/3" in err
        found = {score["name"]: score["value"] for score in json.loads(out)["scores"]}
        assert found == {"mean": pytest.approx(0.4), "dark": pytest.approx(1 / 3)}
        assert app.run([*command, "--darkest", "0.5"]) == 2, "another setting is another run"
        assert "darkest: 0.1 in the run, 0.5 now" in capsys.readouterr().err
        (tmp_path / "photos/0.png").write_bytes(b"torn")
        command[4] = "other"
        assert app.run([*command[:-1], "--format", "human"]) == 4
        assert "mine (1)\n" in capsys.readouterr().out
    assert (tmp_path / "run/report.html").exists()
