"""The decoder families there are, by the pipeline class of a folder's `model_index.json`.

LoRA targets are the linear layers of attention, as in diffusers' own training scripts.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Literal

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
        unguided={"true_cfg_scale": 1.0, "max_sequence_length": 1024},
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
        lora=rf"transformer_blocks\.\d+\.attn\.{_JOINT}"
        r"|single_transformer_blocks\.\d+\.attn\.(to_qkv_mlp_proj|to_out)",
        max_tokens=512,
        unguided={"guidance_scale": 1.0},
        layout="tokens",
    ),
    "ZImagePipeline": PipelineSpec(
        lora=r"layers\.\d+\.attention\.(to_q|to_k|to_v|to_out\.0)",
        max_tokens=512,
        width="cap_feat_dim",
        unguided={"guidance_scale": 0.0},
        embeds_in_list=True,
    ),
    "SanaPipeline": PipelineSpec(
        lora=r"transformer_blocks\.\d+\.attn[12]\.(to_q|to_k|to_v|to_out\.0)",
        max_tokens=300,
        width="caption_channels",
        unguided={"guidance_scale": 1.0, "use_resolution_binning": False},
        mask="prompt_attention_mask",
        patch=1,
    ),
    "StableDiffusion3Pipeline": PipelineSpec(
        lora=Sd3.targets.lora,
        max_tokens=256,
        unguided={"guidance_scale": 1.0},
        pooled="pooled_prompt_embeds",
        tokenizer="tokenizer_3",
    ),
}
"""Pipelines that read captions and draw by their own code."""

NATIVE: dict[str, LoadFamily] = {
    name: partial(PipelineDit.from_pretrained, spec=spec) for name, spec in PIPELINES.items()
}
"""Families for the native condition."""
FAMILIES: dict[str, LoadFamily] = {
    **{
        name: load
        for name, load in NATIVE.items()
        if PIPELINES[name].mask or PIPELINES[name].embeds_in_list
    },
    "StableDiffusion3Pipeline": Sd3.from_pretrained,
}
"""Families for a projector: the others would read the padding beside a short caption as words."""


def dit_loader(folder: str | Path, condition: Literal["projector", "native"]) -> LoadFamily:
    """Return what loads a pipeline folder, refusing other families before weights load.

    Raises:
        UsageError: It is of none for this condition; names those there are.
    """
    name = read_index(folder)["_class_name"]
    families = FAMILIES if condition == "projector" else FAMILIES | NATIVE
    if name not in families:
        raise UsageError(
            f"{folder} is a {name}: with condition {condition} a decoder is one of "
            f"{', '.join(families)}"
        )
    return families[name]
