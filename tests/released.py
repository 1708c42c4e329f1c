"""A tiny checkpoint in the layout that the paper's authors released, of the real classes.

Their classes are of transformers 4: the language model is `model`, the vision tower `visual`, and
the projector an attribute of the whole.
"""

import re
import shutil
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import Qwen2_5_VLForConditionalGeneration

from tests.tiny_encoders import write_encoder
from tests.tiny_pipelines import make_pipeline

RANK = 4
PROCESSOR = ("tokenizer*", "chat_template*", "preprocessor_config.json", "*processor*")


def write_released(folder: Path) -> Path:
    """Write llm, llm_lora, dit, dit_lora, llm_model_preprocessor, and the pipeline as sd3."""
    whole = write_encoder("qwen2_5_vl", folder / "whole")
    pipeline = make_pipeline("StableDiffusion3Pipeline")
    pipeline.save_pretrained(folder / "sd3")
    _write_llm(whole, folder, width=pipeline.transformer.config.joint_attention_dim)
    _write_dit(folder)
    shutil.rmtree(whole)
    return folder


def old_name(name: str) -> str:
    return re.sub(r"^model\.(language_model|visual)\.", _as_old, name)


def _as_old(match: re.Match[str]) -> str:
    return "visual." if match[1] == "visual" else "model."


def _write_llm(whole: Path, folder: Path, width: int) -> None:
    model: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(whole)
    torch.manual_seed(7)
    projector = nn.Sequential(nn.Linear(32, 96), nn.GELU(), nn.Linear(96, width))
    state = {old_name(name): value for name, value in model.state_dict().items()}
    _save(folder / "llm", state | _of_projector(projector))
    for path in whole.iterdir():
        if any(path.match(pattern) for pattern in PROCESSOR):
            (folder / "llm_model_preprocessor").mkdir(exist_ok=True)
            shutil.copy(path, folder / "llm_model_preprocessor")
        elif path.suffix == ".json":
            shutil.copy(path, folder / "llm")

    config = LoraConfig(
        r=RANK, lora_alpha=64, target_modules="all-linear", init_lora_weights="gaussian"
    )
    wrapped = get_peft_model(model.model.language_model, config)
    trained = nn.Sequential(nn.Linear(32, 96), nn.GELU(), nn.Linear(96, width))
    state = {f"model.{name}": _stirred(name, value) for name, value in wrapped.state_dict().items()}
    for name, value in model.state_dict().items():
        if not name.startswith("model.language_model."):
            state[old_name(name)] = value
    _save(folder / "llm_lora", state | _of_projector(trained))


def _write_dit(folder: Path) -> None:
    """Write another transformer than the pipeline's, as after pre-training."""
    transformer = make_pipeline("StableDiffusion3Pipeline", seed=1).transformer
    transformer.save_pretrained(folder / "dit")
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["attn.to_q", "attn.to_out.0"])
    wrapped = get_peft_model(transformer, config)
    wrapped.load_state_dict({k: _stirred(k, v) for k, v in wrapped.state_dict().items()})
    wrapped.save_pretrained(str(folder / "dit_lora"))


def _of_projector(projector: nn.Module) -> dict[str, torch.Tensor]:
    return {f"denoise_projector.{name}": value for name, value in projector.state_dict().items()}


def _stirred(name: str, value: torch.Tensor) -> torch.Tensor:
    return torch.randn_like(value) * 0.1 if "lora_" in name else value


def _save(folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Save in three shards or so."""
    folder.mkdir(exist_ok=True)
    size = sum(value.numel() * value.element_size() for value in state.values())
    save_torch_state_dict(state, folder, max_shard_size=size // 3 + 1)
