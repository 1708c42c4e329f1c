"""The decoder families there are, by the pipeline class of a folder's `model_index.json`.

LoRA targets are the linear layers of attention, as in diffusers' own training scripts.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from uae.core.errors import UsageError
from uae.models.dit.family import LoadFamily
from uae.models.dit.loading import read_index
from uae.models.dit.pipeline import PipelineDit, PipelineSpec
from uae.models.dit.sd3 import Sd3

_JOINT = r"(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)"

PIPELINES: Mapping[str, PipelineSpec] = {
    "QwenImagePipeline": PipelineSpec(
        lora=rf"transformer_blocks\.\d+\.attn\.{_JOINT}",
        max_tokens=1024,
        unguided={"true_cfg_scale": 1.0},
        mask="prompt_embeds_mask",
        layout="patches",
    ),
    "LongCatImagePipeline": PipelineSpec(
        lora=rf"(single_)?transformer_blocks\.\d+\.attn\.{_JOINT}",
        max_tokens=512,
        unguided={"guidance_scale": 1.0, "enable_prompt_rewrite": False},
        layout="patches",
        unused=("text_processor",),
    ),
    "Flux2KleinPipeline": PipelineSpec(
        lora=rf"(single_)?transformer_blocks\.\d+\.attn\.({_JOINT}|to_qkv_mlp_proj|to_out)",
        max_tokens=512,
        unguided={"guidance_scale": 1.0},
        layout="tokens",
    ),
    "ZImagePipeline": PipelineSpec(
        lora=r"layers\.\d+\.attention\.(to_q|to_k|to_v|to_out\.0)",
        max_tokens=512,
        unguided={"guidance_scale": 0.0},
        embeds_in_list=True,
    ),
    "SanaPipeline": PipelineSpec(
        lora=r"transformer_blocks\.\d+\.attn[12]\.(to_q|to_k|to_v|to_out\.0)",
        max_tokens=300,
        unguided={"guidance_scale": 1.0, "use_resolution_binning": False},
        mask="prompt_attention_mask",
        patch=1,
    ),
}
"""Pipelines that draw by their own code."""

FAMILIES: dict[str, LoadFamily] = {
    "StableDiffusion3Pipeline": Sd3.from_pretrained,
    **{
        name: partial(PipelineDit.from_pretrained, spec=spec) for name, spec in PIPELINES.items()
    },
}


def dit_loader(folder: str | Path) -> LoadFamily:
    """Return what loads a pipeline folder, refusing other families before weights load.

    Raises:
        UsageError: It is of none; names those there are.
    """
    name = read_index(folder)["_class_name"]
    if name not in FAMILIES:
        raise UsageError(f"{folder} is a {name}: a decoder is one of {', '.join(FAMILIES)}")
    return FAMILIES[name]
