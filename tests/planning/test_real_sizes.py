"""Plans of real models agree with counts made by other ways, and with what was measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import full_size, real_models
from uae.models.conditions import Conditions
from uae.models.dit.sd3 import Sd3
from uae.models.finetune import FineTuning
from uae.models.join import Pair, write_pair
from uae.models.weightless import weightless
from uae.planning.gpus import RESERVED_GIB
from uae.planning.shipped import PEAKS_GIB
from uae.planning.tally import Tally
from uae.recipe.optimizer import FineTuneConfig

ROOT = Path(__file__).parents[2]
LARGE = "stabilityai/stable-diffusion-3.5-large"
MEASURED_GIB = 15.0  # docs/gpu.md, decoder RL of the full-size trial


@pytest.fixture(scope="module")
def sd3_large(tmp_path_factory) -> Sd3:
    folder = tmp_path_factory.mktemp("large")
    real_models.write_configs(LARGE, folder)
    with weightless():
        return Sd3.from_pretrained(folder, torch.bfloat16)


def inputs(num: int, size_px: int) -> tuple[torch.Tensor, torch.Tensor, Conditions]:
    """Return latents, noise levels and conditions of 330 tokens."""
    latents = torch.empty(num, 16, size_px // 8, size_px // 8, device="meta")
    mask = torch.ones(num, 330, dtype=torch.bool)
    embeds, pooled = (torch.empty(num, *x, device="meta") for x in ((330, 4096), (2048,)))
    return latents, torch.empty(num, device="meta"), Conditions(embeds, mask, pooled)


@pytest.mark.parametrize(("size_px", "tflop"), [(512, 7.96), (1024, 31.10)])
def test_operations_of_the_papers_decoder(sd3_large, size_px, tflop):
    with Tally().counting() as count, torch.no_grad():
        sd3_large.velocity(*inputs(1, size_px))
    assert count.total / 1e12 == pytest.approx(tflop, rel=0.02)


def test_its_weights_and_its_vae(sd3_large):
    assert sum(p.numel() for p in sd3_large.transformer.parameters()) == 8_056_627_520
    with Tally().counting() as count, torch.no_grad():
        sd3_large.to_pixels(torch.empty(1, 16, 128, 128, device="meta"))
    assert count.total / 1e12 == pytest.approx(10.47, rel=0.02)


def test_memory_of_a_backward_pass_of_eight_images(sd3_large):
    tuning = FineTuning(sd3_large.transformer, FineTuneConfig(), Sd3.targets, torch.Generator())
    sd3_large.transformer.enable_gradient_checkpointing()
    weights = sum(p.numel() * p.element_size() for p in sd3_large.transformer.parameters())
    tally = Tally(sd3_large.transformer.parameters())
    with tally.counting() as count:
        sd3_large.velocity(*inputs(8, 512)).square().mean().backward()
    assert tuning.parameters()
    # beside optimizer and gradients: fake tensors gave 18.7 GiB in all
    assert (weights + count.peak) / 2**30 == pytest.approx(18.7, rel=0.1)


@pytest.mark.slow
def test_the_peak_of_the_full_size_trial(tmp_path):
    config = real_models.clip()
    config.dtype = torch.bfloat16
    real_models.write_reward(tmp_path / "clip", config)
    real_models.write_configs("Qwen/Qwen2.5-VL-3B-Instruct", tmp_path / "encoder")
    real_models.write_configs("stabilityai/stable-diffusion-3.5-medium", tmp_path / "decoder")
    (tmp_path / "pair").mkdir()
    pair = Pair(
        encoder=str(tmp_path / "encoder"),
        decoder=str(tmp_path / "decoder"),
        condition="projector",
        size_px=256,
        max_new_tokens=64,
        similarity={"clip": str(tmp_path / "clip")},
    )
    with weightless():
        write_pair(pair, tmp_path / "pair")
    schedule, encoder, decoder, objective = full_size.RUNS["flow-grpo"]
    file = tmp_path / "flow-grpo.yaml"
    file.write_text(
        full_size.RECIPE.format(
            pair=tmp_path / "pair",
            photos=tmp_path,
            schedule=schedule,
            encoder_steps=encoder,
            decoder_steps=decoder,
            objective=objective,
        )
    )
    # in a process of its own: checks of types at run time keep tensors alive
    command = [sys.executable, "-m", "uae", "plan", file, "--json"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert json.loads(out)["peak_gib"] + RESERVED_GIB == pytest.approx(MEASURED_GIB, rel=0.1)


@pytest.mark.slow
def test_the_tables_are_current():
    command = [sys.executable, "scripts/plan_docs.py", "--check"]
    assert subprocess.run(command, cwd=ROOT).returncode == 0, "run `python scripts/plan_docs.py`"


def test_recipes_fit_what_they_are_for():
    assert PEAKS_GIB["paper"] < 40
    assert PEAKS_GIB["photos-24gb"] + RESERVED_GIB < 24e9 / 2**30
