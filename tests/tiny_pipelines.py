"""Tiny random diffusers pipelines of the real classes, as their families' checkpoints are laid out.

`make_pipeline(name, seed)` returns one; its tokenizer is that of uae-tiny.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    LongCatImagePipeline,
    LongCatImageTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import (
    AutoTokenizer,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
)

from uae.models.settings import resolve

_DYNAMIC = {
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 0.9,
    "shift_terminal": 0.02,
    "time_shift_type": "exponential",
}
_TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
}


def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(resolve("uae-tiny/encoder"))


def _short(tokenizer: Any) -> Any:
    tokenizer.model_max_length = 77  # CLIP's
    return tokenizer


def _qwen3(num_layers: int) -> Qwen3ForCausalLM:
    vocabulary = len(tokenizer())
    return Qwen3ForCausalLM(
        Qwen3Config(vocab_size=vocabulary, num_hidden_layers=num_layers, **_TEXT)
    )


def _qwen2_5_vl() -> Qwen2_5_VLForConditionalGeneration:
    text = {key: value for key, value in _TEXT.items() if key != "head_dim"}
    config = Qwen2_5_VLConfig(
        text_config={
            **text,
            "vocab_size": len(tokenizer()),
            "num_hidden_layers": 2,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]},
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
        },
    )
    return Qwen2_5_VLForConditionalGeneration(config)


def _flux_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=16,
        norm_num_groups=4,
        scaling_factor=0.36,
        shift_factor=0.11,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def _qwen_image() -> QwenImagePipeline:
    return QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**_DYNAMIC),
        vae=AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 1],
            num_res_blocks=1,
            temperal_downsample=[False],
            latents_mean=[0.1, -0.2, 0.3, 0.0],
            latents_std=[1.5, 0.5, 2.0, 1.0],
        ),
        text_encoder=_qwen2_5_vl(),
        tokenizer=tokenizer(),
        transformer=QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(4, 6, 6),
        ),
    )


def _longcat() -> LongCatImagePipeline:
    return LongCatImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**_DYNAMIC),
        vae=_flux_vae(),
        text_encoder=_qwen2_5_vl(),
        tokenizer=tokenizer(),
        text_processor=None,
        transformer=LongCatImageTransformer2DModel(
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=[4, 6, 6],
        ),
    )


def _klein() -> Flux2KleinPipeline:
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**_DYNAMIC),
        vae=AutoencoderKLFlux2(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            norm_num_groups=4,
            mid_block_add_attention=False,
        ),
        text_encoder=_qwen3(28),
        tokenizer=tokenizer(),
        transformer=Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=48,
            timestep_guidance_channels=16,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=False,
        ),
        is_distilled=True,
    )


def _z_image() -> ZImagePipeline:
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_flux_vae(),
        text_encoder=_qwen3(2),
        tokenizer=tokenizer(),
        transformer=ZImageTransformer2DModel(
            dim=32,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=16,
            axes_dims=[4, 6, 6],
            axes_lens=[1024, 64, 64],
        ),
    )


def _sana() -> SanaPipeline:
    vocabulary = len(tokenizer())
    text = Gemma2Config(vocab_size=vocabulary, num_hidden_layers=2, **_TEXT)
    return SanaPipeline(
        tokenizer=tokenizer(),
        text_encoder=Gemma2Model(text),
        vae=AutoencoderDC(
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
            scaling_factor=0.41,
        ),
        transformer=SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=8,
            num_cross_attention_heads=2,
            cross_attention_head_dim=8,
            cross_attention_dim=16,
            num_layers=2,
            caption_channels=16,
            sample_size=32,
            patch_size=1,
        ),
        scheduler=DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    )


def _sd3() -> StableDiffusion3Pipeline:
    clip = CLIPTextConfig(
        vocab_size=len(tokenizer()),
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=8,
        eos_token_id=tokenizer().eos_token_id,
    )
    t5 = T5Config(
        vocab_size=len(tokenizer()), d_model=24, d_kv=8, d_ff=16, num_layers=1, num_heads=2
    )
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=32,
            in_channels=16,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=24,
            caption_projection_dim=32,
            pooled_projection_dim=16,
            out_channels=16,
            pos_embed_max_size=64,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_flux_vae(),
        text_encoder=CLIPTextModelWithProjection(clip),
        tokenizer=_short(tokenizer()),
        text_encoder_2=CLIPTextModelWithProjection(clip),
        tokenizer_2=_short(tokenizer()),
        text_encoder_3=T5EncoderModel(t5),
        tokenizer_3=tokenizer(),
    )


PIPELINES: Mapping[str, Callable[[], Any]] = {
    "QwenImagePipeline": _qwen_image,
    "LongCatImagePipeline": _longcat,
    "Flux2KleinPipeline": _klein,
    "ZImagePipeline": _z_image,
    "SanaPipeline": _sana,
    "StableDiffusion3Pipeline": _sd3,
}


def make_pipeline(name: str, seed: int = 0) -> Any:
    """Build a pipeline with random weights of which all matter: none is left at zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = PIPELINES[name]()
        for part in pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                part.eval().requires_grad_(False)
        for weight in pipeline.transformer.parameters():
            if not weight.abs().sum():
                torch.nn.init.normal_(weight, std=0.05)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
