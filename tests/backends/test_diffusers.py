"""Pipelines of diffusers as generators: captions longer than they read."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from tests.tiny_pipelines import make_pipeline
from uae.backends.diffusers import Diffusers
from uae.backends.reference import Given, Spec
from uae.backends.roles import Caption

PICTURE = Image.new("RGB", (1, 1))
LONG = "one small red circle " * 600


@pytest.mark.parametrize(
    ("name", "limit"),
    [("ZImagePipeline", 512), ("SanaPipeline", 300), ("StableDiffusion3Pipeline", 256)],
)
def test_what_a_pipeline_cuts_off_is_said_once(name, limit, tmp_path, caplog):
    make_pipeline(name).save_pretrained(tmp_path / name)
    given = Given("", 0, "cpu", torch.float32, Path(), size=(64, 64))
    pipeline = Diffusers.open(Spec("--generator", "diffusers", str(tmp_path / name)), given)()
    pipeline._pipeline = lambda **_: SimpleNamespace(images=[PICTURE])
    with caplog.at_level(logging.WARNING):
        pipeline.draw([Caption("a", "a red circle")])
        assert "of a caption" not in caplog.text
        pipeline.draw([Caption("b", LONG), Caption("c", LONG)])
    assert caplog.text.count(f"the pipeline reads {limit} tokens of a caption") == 1
