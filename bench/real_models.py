# diffusers types pipelines' parts as their own classes alone
# pyright: reportArgumentType=false
"""Configs of the released models that the packaged recipes name, for plans without a network.

    write_configs("Qwen/Qwen2.5-VL-3B-Instruct", folder)

Shapes are those of the published configs. The tokenizer knows a word as a token, so prompts are
about as long as with a model's own.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLQwenImage,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    LongCatImagePipeline,
    LongCatImageTransformer2DModel,
    ModelMixin,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import (
    AutoImageProcessor,
    CLIPConfig,
    CLIPImageProcessorPil,
    Dinov2Config,
    Gemma2Config,
    Gemma2Model,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from uae.models.settings import resolve
from uae.planning.work import WORDS

SPECIAL = (
    "<unk>",
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_DYNAMIC = {
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 0.9,
    "shift_terminal": 0.02,
    "time_shift_type": "exponential",
}


def with_chat(knowing: Tokenizer) -> PreTrainedTokenizerFast:
    """Return a tokenizer with Qwen's control tokens and chat template."""
    made = PreTrainedTokenizerFast(
        tokenizer_object=knowing,
        unk_token="<unk>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL[2:]),
    )
    template = Path(str(resolve("uae-tiny/encoder"))) / "chat_template.jinja"
    made.chat_template = template.read_text()
    return made


def word_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer of whole words, about as many tokens as a real one makes of English."""
    split = re.compile(r" ?\w+|[^\w ]| ")
    names = dict.fromkeys([*SPECIAL, *split.findall(WORDS + WORDS)])
    words = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, "<unk>"))
    words.pre_tokenizer = Split(Regex(split.pattern), "isolated")
    words.decoder = Fuse()
    return with_chat(words)


# -- encoders and text encoders ----------------------------------------------------------------


def qwen2_5_vl(**text: Any) -> Qwen2_5_VLConfig:
    """Qwen2.5-VL (arXiv 2502.13923) of 3 B parameters, or of the size of `text`."""
    tokens = word_tokenizer()
    names = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start"}
    ids = {
        f"{key}_token_id": tokens.convert_tokens_to_ids(f"<|{name}|>")
        for key, name in (names | {"vision_end": "vision_end"}).items()
    }
    text = {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
        "tie_word_embeddings": True,
    } | text
    text |= {
        "max_position_embeddings": 128_000,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [16, 24, 24],
        },
        "bos_token_id": None,
        "eos_token_id": tokens.eos_token_id,
        "pad_token_id": tokens.pad_token_id,
    }
    vision = {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": text["hidden_size"],
        "fullatt_block_indexes": [7, 15, 23, 31],
    }
    tied = text["tie_word_embeddings"]
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=tied, **ids)


SEVEN = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152_064,
    "tie_word_embeddings": False,
}
"""Qwen2.5-VL of 7 B parameters."""


def save_image_processor(folder: Path) -> None:
    """Write the image processor of Qwen2.5-VL, with the paper's number of pixels."""
    budget = {"shortest_edge": 3136, "longest_edge": 65_536}
    AutoImageProcessor.from_pretrained(
        resolve("uae-tiny/encoder"), patch_size=14, size=budget
    ).save_pretrained(folder)


def write_encoder(folder: Path, text: Mapping[str, Any]) -> None:
    """Write an encoder's folder without weights."""
    config = qwen2_5_vl(**text)
    config.architectures = [Qwen2_5_VLForConditionalGeneration.__name__]
    config.dtype = torch.bfloat16
    config.save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    save_image_processor(folder)


def _qwen3_4b() -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=151_936,
            hidden_size=2560,
            intermediate_size=9728,
            num_hidden_layers=36,
            num_attention_heads=32,
            num_key_value_heads=8,
            head_dim=128,
            tie_word_embeddings=True,
        )
    )


def _gemma2_2b() -> Gemma2Model:
    return Gemma2Model(
        Gemma2Config(
            vocab_size=256_000,
            hidden_size=2304,
            intermediate_size=9216,
            num_hidden_layers=26,
            num_attention_heads=8,
            num_key_value_heads=4,
            head_dim=256,
        )
    )


# -- decoders ----------------------------------------------------------------------------------


def kl_vae(**options: Any) -> AutoencoderKL:
    """Return the vae of SD3, LongCat-Image and Z-Image, which differ in two numbers."""
    given = {"scaling_factor": 1.5305, "shift_factor": 0.0609} | options
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=16,
        use_quant_conv=False,
        use_post_quant_conv=False,
        **given,
    )


def sd3(num_layers: int, num_heads: int, **options: Any) -> StableDiffusion3Pipeline:
    """Return SD3.5 without text encoders."""
    transformer = SD3Transformer2DModel(
        sample_size=128,
        patch_size=2,
        in_channels=16,
        num_layers=num_layers,
        attention_head_dim=64,
        num_attention_heads=num_heads,
        joint_attention_dim=4096,
        caption_projection_dim=64 * num_heads,
        pooled_projection_dim=2048,
        out_channels=16,
        qk_norm="rms_norm",
        **options,
    )
    nothing = dict.fromkeys(
        [f"{part}{end}" for part in ("text_encoder", "tokenizer") for end in ("", "_2", "_3")]
    )
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return StableDiffusion3Pipeline(
        transformer=transformer, vae=kl_vae(), scheduler=scheduler, **nothing
    )


sd3_medium = partial(sd3, 24, 24, pos_embed_max_size=384, dual_attention_layers=tuple(range(13)))
sd3_large = partial(sd3, 38, 38, pos_embed_max_size=192)


def sana() -> SanaPipeline:
    """Return Sana 1.6B of 512 px."""
    blocks = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
    with torch.device("cpu"):  # it reads its own noise levels
        scheduler = DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        )
    return SanaPipeline(
        tokenizer=word_tokenizer(),
        text_encoder=_gemma2_2b(),
        vae=AutoencoderDC(
            encoder_block_types=blocks,
            decoder_block_types=blocks,
            upsample_block_type="interpolate",
            downsample_block_type="conv",
            scaling_factor=0.41407,
        ),
        transformer=SanaTransformer2DModel(sample_size=16),
        scheduler=scheduler,
    )


def z_image() -> ZImagePipeline:
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=kl_vae(scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=_qwen3_4b(),
        tokenizer=word_tokenizer(),
        transformer=ZImageTransformer2DModel(),
    )


def longcat() -> LongCatImagePipeline:
    return LongCatImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**_DYNAMIC),
        vae=kl_vae(scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=Qwen2_5_VLForConditionalGeneration(qwen2_5_vl(**SEVEN)),
        tokenizer=word_tokenizer(),
        text_processor=None,
        transformer=LongCatImageTransformer2DModel(num_layers=10, num_single_layers=20),
    )


def qwen_image() -> QwenImagePipeline:
    return QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**_DYNAMIC),
        vae=AutoencoderKLQwenImage(),
        text_encoder=Qwen2_5_VLForConditionalGeneration(qwen2_5_vl(**SEVEN)),
        tokenizer=word_tokenizer(),
        transformer=QwenImageTransformer2DModel(),
    )


def write_pipeline(folder: Path, make: Callable[[], Any]) -> None:
    """Write a pipeline's folder without weights."""
    with torch.device("meta"):
        pipeline = make()
    pipeline.save_config(folder)
    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module):
            owner: Any = part if isinstance(part, ModelMixin) else part.config
            save = owner.save_config if isinstance(part, ModelMixin) else owner.save_pretrained
            save(folder / name)
        elif part is not None:
            part.save_pretrained(folder / name)


# -- rewards -----------------------------------------------------------------------------------

VIT_L = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14}


def clip() -> CLIPConfig:
    """CLIP ViT-L/14 (arXiv 2103.00020)."""
    vision = VIT_L | {"intermediate_size": 4096, "projection_dim": 768}
    text = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "projection_dim": 768,
    }
    return CLIPConfig(vision_config=vision, text_config=text, projection_dim=768)


def write_reward(folder: Path, config: Any) -> None:
    config.save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)


WRITERS: dict[str, Callable[[Path], None]] = {
    "Qwen/Qwen2.5-VL-3B-Instruct": partial(write_encoder, text={}),
    "Qwen/Qwen2.5-VL-7B-Instruct": partial(write_encoder, text=SEVEN),
    "stabilityai/stable-diffusion-3.5-medium": partial(write_pipeline, make=sd3_medium),
    "stabilityai/stable-diffusion-3.5-large": partial(write_pipeline, make=sd3_large),
    "Efficient-Large-Model/Sana_1600M_512px_diffusers": partial(write_pipeline, make=sana),
    "Tongyi-MAI/Z-Image": partial(write_pipeline, make=z_image),
    "meituan-longcat/LongCat-Image": partial(write_pipeline, make=longcat),
    "Qwen/Qwen-Image": partial(write_pipeline, make=qwen_image),
    "openai/clip-vit-large-patch14": lambda folder: write_reward(folder, clip()),
    "facebook/dinov2-large": lambda folder: write_reward(
        folder, Dinov2Config(image_size=518, **VIT_L)
    ),
}
"""What writes the folder of a model by its id on the hub."""


def write_configs(model_id: str, folder: Path) -> None:
    """Write the folder of a released model without its weights."""
    WRITERS[model_id](folder)
