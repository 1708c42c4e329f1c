"""Fixtures of the command line: a process-like surrounding, the user's images, and a way to run."""

import copy
import functools
import gc
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    UNet2DConditionModel,
)
from transformers import (
    AutoTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    Qwen2_5_VLForConditionalGeneration,
)
from transformers.utils.logging import disable_progress_bar, enable_progress_bar

from uae.cli import app as cli
from uae.models.settings import resolve
from uae.models.unified import UnifiedAutoEncoder
from uae.rewards import loading
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image

Run = Callable[..., tuple[int, str, str]]
LOAD_MODEL = functools.cache(UnifiedAutoEncoder.from_pretrained)
LOAD_REWARD = functools.cache(loading.load_reward)


@pytest.fixture(autouse=True, scope="module")
def _known_models_are_loaded_once(random_model_folder):
    """Copy models of folders that no test changes: `tests/models` has how a folder is loaded."""
    models = {str(resolve(name)) for name in ("uae-tiny", random_model_folder)}
    rewards = {str(random_model_folder.with_name(name)) for name in ("clip", "dinov2")}
    load_model, load_reward = UnifiedAutoEncoder.from_pretrained, loading.load_reward

    def model(name, *placing, **named):
        folder = str(resolve(name))
        if folder not in models:
            return load_model(name, *placing, **named)
        return copy.deepcopy(LOAD_MODEL(folder, *placing, **named))

    def reward(place, device="cpu"):
        return (LOAD_REWARD if place in rewards else load_reward)(place, device)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UnifiedAutoEncoder, "from_pretrained", model)
        patch.setattr(loading, "load_reward", reward)
        yield


@pytest.fixture(autouse=True)
def _as_in_a_process_of_its_own(tmp_path, monkeypatch):
    """Work in an empty folder; put back what a command sets for its process."""
    monkeypatch.chdir(tmp_path)
    for variable in [v for v in os.environ if v.startswith("UAE_")]:
        monkeypatch.delenv(variable)
    # a command sets these by variables, which are read when the libraries are imported
    for variable in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY", "HF_HUB_VERBOSITY"):
        monkeypatch.setenv(variable, "error")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    disable_progress_bar()
    yield
    enable_progress_bar()
    gc.unfreeze()


@pytest.fixture
def photos(tmp_path) -> Path:
    """Three images, one of them in a subfolder, beside what else lies in folders."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for i, name in enumerate(("a.png", "b.jpg", "sub/c.webp")):
        render_image(scene_at(i, "test"), 96).save(folder / name)
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture(scope="session")
def answering_folder(random_model_folder, tmp_path_factory):
    """The random model, but its replies begin as "Yes", "No", "2" or "3", by what it sees."""
    folder = tmp_path_factory.mktemp("judge") / "answering"
    shutil.copytree(random_model_folder, folder)
    encoder = folder / "encoder"
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(encoder)
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    direction = torch.randn(model.lm_head.in_features, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.lm_head.weight.zero_()
        for answer, sign in (("Yes", 1), ("No", -1), ("2", 1), ("3", -1)):
            model.lm_head.weight[tokenizer(answer)["input_ids"][0]] = sign * 20 * direction
    model.save_pretrained(encoder)
    return folder


@pytest.fixture(scope="session")
def pipeline_folder(random_model_folder, tmp_path_factory):
    """A text-to-image pipeline of diffusers with random weights: 16 px, four steps."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(random_model_folder / "encoder")
    tokenizer.model_max_length = 16
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=16,
            intermediate_size=16,
            num_attention_heads=2,
            num_hidden_layers=1,
            vocab_size=len(tokenizer),
            max_position_embeddings=16,
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8,),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        cross_attention_dim=16,
        attention_head_dim=4,
        time_cond_proj_dim=8,
    )
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    pipeline = LatentConsistencyModelPipeline(
        vae,
        text_encoder,
        tokenizer,
        unet,
        LCMScheduler(),
        None,
        None,
        requires_safety_checker=False,
    )
    folder = tmp_path_factory.mktemp("pipeline") / "tiny"
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def run(capsys) -> Run:
    """Run a command in this process; return exit code, stdout and stderr."""

    def command(*tokens: object) -> tuple[int, str, str]:
        code = cli.run([str(token) for token in tokens])
        out, err = capsys.readouterr()
        return code, out, err

    return command
