"""Vision-language models of others: loaded whole or not at all."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny_encoders import write_encoder
from uae.backends.reference import Given, Spec
from uae.backends.transformers import Transformers
from uae.core.errors import UsageError


# the processors of InternVL and Gemma 4 want torchvision
@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "qwen3_5", "gemma3", "llava"])
def test_a_missing_weight_is_not_drawn_at_random(name, tmp_path):
    folder = write_encoder(name, tmp_path / "model")
    given = Given("Describe it.", 0, "cpu", torch.float32, Path())
    load = Transformers.open(Spec("--captioner", "vlm", str(folder)), given)
    assert load()
    path = folder / "model.safetensors"
    weights = load_file(path)
    lost = next(key for key in sorted(weights) if key.endswith("q_proj.weight"))
    save_file({key: value for key, value in weights.items() if key != lost}, path, {"format": "pt"})
    with pytest.raises(UsageError, match=r"--captioner vlm:.*lacks 1 weight \(.*q_proj\.weight\)"):
        load()
