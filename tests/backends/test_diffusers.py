"""Pipelines of diffusers as generators: captions longer than they read."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from tests.tiny_pipelines import make_pipeline
from uae.backends.diffusers import Diffusers
from uae.backends.reference import Given, Spec

PICTURE = Image.new("RGB", (1, 1))
LONG = "one small red circle " * 600


@pytest.mark.parametrize(
    ("name", "limit"),
    [("ZImagePipeline", 512), ("SanaPipeline", 300), ("StableDiffusion3Pipeline", 256)],
)
def test_a_pipeline_counts_by_its_own_tokenizer(name, limit, tmp_path):
    make_pipeline(name).save_pretrained(tmp_path / name)
    given = Given("", 0, "cpu", torch.float32, Path(), size=(64, 64))
    pipeline = Diffusers.open(Spec("--generator", "diffusers", str(tmp_path / name)), given)()
    pipeline._pipeline = lambda **_: SimpleNamespace(images=[PICTURE])
    assert pipeline.reader is not None
    assert pipeline.reader.max_tokens == limit
    assert pipeline.reader.num_tokens("a red circle") < limit < pipeline.reader.num_tokens(LONG)
