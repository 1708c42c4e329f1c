"""Backbones by name and folder: one in LongCLIP's layout, and ones that are damaged."""

import json
import os
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, CLIPConfig, CLIPModel

from uae.data.opening import open_image
from uae.runs.rows import ITEMS, read_rows

POSITIONS = 248
"""Of LongCLIP's text side; CLIP has 77."""


@pytest.fixture
def longclip_folder(random_model_folder, tmp_path):
    """A tiny CLIP with random weights and LongCLIP's text positions, as transformers writes it."""
    clip = random_model_folder.with_name("clip")
    config = CLIPConfig.from_pretrained(clip)
    config.text_config.max_position_embeddings = POSITIONS
    torch.manual_seed(1)
    folder = tmp_path / "longclip"
    CLIPModel(config).save_pretrained(folder)
    AutoImageProcessor.from_pretrained(clip).save_pretrained(folder)
    return folder


@pytest.fixture
def bench(photos, random_model_folder):
    return ("eval", "unified-bench", photos, "--model", random_model_folder, "--out", "run")


def test_longclip_is_named_by_folder_and_scores_by_its_image_tower(
    run, bench, longclip_folder, photos, tmp_path
):
    code, out, _ = run(*bench, "--backbone", f"longclip={longclip_folder}", "--json")
    assert code == 0
    scores = {score["name"]: score for score in json.loads(out)["scores"]}
    assert scores["longclip"]["n"] == 3
    model = CLIPModel.from_pretrained(longclip_folder).eval()
    assert model.text_model.embeddings.position_embedding.weight.shape[0] == POSITIONS
    processor = AutoImageProcessor.from_pretrained(longclip_folder)
    [row] = [row for row in read_rows(tmp_path / "run" / ITEMS) if row.item == "a.png"]
    images = [open_image(photos / "a.png"), open_image(tmp_path / "run/images/plain/a.png")]
    with torch.no_grad():
        features = model(
            input_ids=torch.arange(POSITIONS)[None] % 5,
            pixel_values=processor(images=images, return_tensors="pt")["pixel_values"],
        ).image_embeds
    # the folder's own processor rounds to 8 bits
    assert row.samples["longclip"] == pytest.approx(float(features[0] @ features[1]), abs=5e-3)


def test_a_text_side_that_does_not_fit_its_config_is_refused(run, bench, longclip_folder):
    path = longclip_folder / "config.json"
    config = json.loads(path.read_text())
    config["text_config"]["max_position_embeddings"] = 77
    path.write_text(json.dumps(config))
    code, out, err = run(*bench, "--backbone", f"longclip={longclip_folder}")
    assert (code, out) == (2, "")
    assert f"--backbone longclip={longclip_folder}: " in err
    assert f"have the shape ({POSITIONS}, " in err


def test_a_backbone_that_is_cut_short_is_named_with_its_file(run, bench, longclip_folder):
    os.truncate(longclip_folder / "model.safetensors", 1000)
    code, out, err = run(*bench, "--backbone", f"longclip={longclip_folder}")
    assert (code, out) == (2, "")
    assert f"--backbone longclip={longclip_folder}: " in err
    assert "longclip/model.safetensors is damaged or incomplete" in err


def test_a_judge_that_is_cut_short_is_refused(run, random_model_folder, tmp_path):
    shutil.copytree(random_model_folder, "cut")
    os.truncate("cut/encoder/model.safetensors", 1000)
    (tmp_path / "images").mkdir()
    prompt = {"tag": "counting", "include": [{"class": "cat", "count": 1}], "prompt": "a cat"}
    (tmp_path / "pp.jsonl").write_text(json.dumps(prompt))
    Image.new("RGB", (8, 8)).save("images/1.jpg")
    asked = ("eval", "geneval-pp", "images", "--prompts", "pp.jsonl")
    code, out, err = run(*asked, "--judge", "local:cut", "--out", "run")
    assert (code, out) == (2, "")
    assert "--judge local:cut: cut/encoder/model.safetensors is damaged or incomplete" in err


def test_a_backbone_without_a_weight_is_refused(run, bench, longclip_folder):
    path = longclip_folder / "model.safetensors"
    weights = load_file(path)
    del weights["visual_projection.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    code, _, err = run(*bench, "--backbone", f"longclip={longclip_folder}")
    assert code == 2
    assert "lacks 1 weight (visual_projection.weight) of CLIPModel" in err
