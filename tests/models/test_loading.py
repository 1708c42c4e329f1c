"""Models are loaded whole or not at all: damaged, missing and misshapen weights are named."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from uae.core.errors import UsageError
from uae.models.loading import load_whole, read_config

KEY = "vision_model.embeddings.class_embedding"


@pytest.fixture
def folder(random_model_folder, tmp_path):
    return shutil.copytree(random_model_folder.with_name("clip"), tmp_path / "clip")


def edited(folder, change) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def test_a_whole_folder_loads_with_its_own_weights(folder):
    weights = load_file(folder / "model.safetensors")
    assert torch.equal(load_whole(CLIPModel, folder).state_dict()[KEY], weights[KEY])


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_file_that_is_cut_short_is_named(folder, share):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UsageError, match=r"clip/model\.safetensors is damaged or incomplete"):
        load_whole(CLIPModel, folder)


def test_a_missing_weight_is_not_drawn_at_random(folder):
    edited(folder, lambda weights: weights.pop(KEY))
    with pytest.raises(UsageError, match=rf"lacks 1 weight \({KEY}\) of CLIPModel"):
        load_whole(CLIPModel, folder)
    assert load_whole(CLIPModel, folder, unused=("class_embedding",))


def test_a_weight_of_another_shape_is_named_with_both(folder):
    edited(folder, lambda weights: weights.update({KEY: torch.ones(7)}))
    with pytest.raises(UsageError, match=rf"'{KEY}' have the shape \(7,\): expected \(\d+,\)"):
        load_whole(CLIPModel, folder)


@pytest.mark.parametrize("text", ["{}", "[]", '{"model_type": "mine"}'])
def test_a_config_of_no_model_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(UsageError, match="clip is no model of transformers"):
        read_config(folder)
