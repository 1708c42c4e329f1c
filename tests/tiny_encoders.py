"""Tiny random vision-language models of the real classes, as their checkpoints are laid out.

`write_encoder(name, folder)` writes one; tokenizer and chat template are like the hub's in form.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    CLIPImageProcessor,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Gemma4ImageProcessorPil,
    GotOcr2ImageProcessorPil,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from uae.models.settings import resolve

_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
}
_TOWER = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
_CHATML = """
{%- for message in messages %}
    {%- if ROLES %}
        {{- '<|im_start|>' + message.role + '\\n' }}
        {%- if message.content is string %}
            {{- message.content }}
        {%- else %}
            {%- for part in message.content %}
                {%- if part.type == 'image' %}
                    {{- IMAGE }}
                {%- else %}
                    {{- part.text }}
                {%- endif %}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- raise_exception('Unexpected message role.') if STRICT }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if THINKS %}
        {{- '<think>\\n\\n</think>\\n\\n' if enable_thinking is false else '<think>\\n' }}
    {%- endif %}
{%- endif %}
"""
_GEMMA = """
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role not in ('system', 'user', 'assistant') %}
        {{- raise_exception('Conversation roles must alternate') }}
    {%- endif %}
    {{- BEGIN + ('model' if message.role == 'assistant' else message.role) + '\\n' }}
    {%- if message.content is string %}
        {{- message.content | trim }}
    {%- else %}
        {%- for part in message.content %}
            {{- IMAGE if part.type == 'image' else part.text | trim }}
        {%- endfor %}
    {%- endif %}
    {{- END + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- BEGIN + 'model\\n' }}
    {%- if THINKS and not enable_thinking | default(false) %}
        {{- '<|channel>thought\\n<channel|>' }}
    {%- endif %}
{%- endif %}
"""


def _template(form: str, **words: str) -> str:
    for name, word in words.items():
        form = form.replace(name, word)
    return form


_VISION = "'<|vision_start|><|image_pad|><|vision_end|>'"
_USUAL = 'message.role in ("system", "user", "assistant")'
QWEN3_TEMPLATE = _template(_CHATML, ROLES=_USUAL, IMAGE=_VISION, STRICT="false", THINKS="false")
"""Like Qwen3-VL's: it writes no other role."""


ROPE = {"rope_type": "default", "rope_theta": 1e4}
QWEN_IMAGES = {"shortest_edge": 256, "longest_edge": 4096}


def _tokenizer(template: str = "", **tokens: str) -> Any:
    """Return uae-tiny's with more special tokens, by the names that processors know them by."""
    more = {"extra_special_tokens": tokens} if tokens else {}
    bos = {"bos_token": "<bos>"} if "bos_token" in template else {}
    tokenizer = AutoTokenizer.from_pretrained(resolve("uae-tiny/encoder"), **more, **bos)
    tokenizer.chat_template = template or tokenizer.chat_template
    return tokenizer


def _ids(tokenizer: Any) -> dict[str, int]:
    names = {"image": "image_pad", "video": "video_pad"}
    names |= {"vision_start": "vision_start", "vision_end": "vision_end"}
    return {
        f"{key}_token_id": tokenizer.convert_tokens_to_ids(f"<|{name}|>")
        for key, name in names.items()
    }


def _qwen_images() -> Any:
    return AutoImageProcessor.from_pretrained(resolve("uae-tiny/encoder"), size=QWEN_IMAGES)


def _qwen2_5_vl() -> tuple[Any, Any, Any]:
    tokenizer = _tokenizer()
    config = Qwen2_5_VLConfig(
        text_config={
            **_TEXT,
            "vocab_size": len(tokenizer) + 8,
            "rope_parameters": ROPE | {"mrope_section": [1, 1, 2]},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 8,
            "window_size": 32,
            "fullatt_block_indexes": [1],
        },
        tie_word_embeddings=False,
        **_ids(tokenizer),
    )
    return Qwen2_5_VLForConditionalGeneration(config), tokenizer, _qwen_images()


def _qwen3_vl() -> tuple[Any, Any, Any]:
    tokenizer = _tokenizer(QWEN3_TEMPLATE)
    config = Qwen3VLConfig(
        text_config={
            **_TEXT,
            "head_dim": 8,
            "vocab_size": len(tokenizer) + 8,
            "rope_parameters": ROPE | {"mrope_section": [2, 1, 1]},
        },
        vision_config={
            "depth": 3,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 8,
            "deepstack_visual_indexes": [0, 1],
            "num_position_embeddings": 64,
        },
        tie_word_embeddings=False,
        **_ids(tokenizer),
    )
    return Qwen3VLForConditionalGeneration(config), tokenizer, _qwen_images()


def _qwen3_5() -> tuple[Any, Any, Any]:
    """Like the hub's: three linear layers before one of attention, and a template that thinks."""
    template = _template(_CHATML, ROLES=_USUAL, IMAGE=_VISION, STRICT="true", THINKS="true")
    tokenizer = _tokenizer(template)
    tokenizer.add_tokens(["<think>", "</think>"])
    rope = {"mrope_section": [2, 1, 1], "mrope_interleaved": True, "partial_rotary_factor": 0.5}
    config = Qwen3_5Config(
        text_config={
            **_TEXT,
            "num_hidden_layers": 4,
            "head_dim": 16,
            "vocab_size": len(tokenizer) + 8,
            "rope_parameters": ROPE | rope,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 8,
            "num_position_embeddings": 64,
        },
        **_ids(tokenizer),
    )
    return Qwen3_5ForConditionalGeneration(config), tokenizer, _qwen_images()


def _internvl() -> tuple[Any, Any, Any]:
    template = _template(
        _CHATML, ROLES="true", IMAGE="'<IMG_CONTEXT>\\n'", STRICT="false", THINKS="false"
    )
    tokenizer = _tokenizer(
        template,
        context_image_token="<IMG_CONTEXT>",
        start_image_token="<img>",
        end_image_token="</img>",
        video_token="<video>",
    )
    config = InternVLConfig(
        text_config={"model_type": "qwen2", **_TEXT, "vocab_size": len(tokenizer) + 8},
        vision_config={**_TOWER, "num_attention_heads": 2, "image_size": 16, "patch_size": 4},
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    images = GotOcr2ImageProcessorPil(size={"height": 16, "width": 16}, max_patches=6)
    return InternVLForConditionalGeneration(config), tokenizer, images


def _gemma3() -> tuple[Any, Any, Any]:
    """Two layers that look back over less than a prompt, and one that sees all."""
    words = {"BEGIN": "'<start_of_turn>'", "END": "'<end_of_turn>'", "THINKS": "false"}
    tokenizer = _tokenizer(
        _template(_GEMMA, IMAGE="'<start_of_image>'", **words),
        boi_token="<start_of_image>",
        image_token="<image_soft_token>",
        eoi_token="<end_of_image>",
        sot_token="<start_of_turn>",
        eot_token="<end_of_turn>",
    )
    config = Gemma3Config(
        text_config={
            **_TEXT,
            "head_dim": 8,
            "vocab_size": len(tokenizer) + 8,
            "sliding_window": 8,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        },
        vision_config={**_TOWER, "num_attention_heads": 2, "image_size": 16, "patch_size": 4},
        mm_tokens_per_image=4,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
        image_token_index=tokenizer.image_token_id,
        tie_word_embeddings=False,
    )
    images = Gemma3ImageProcessorPil(size={"height": 16, "width": 16})
    return Gemma3ForConditionalGeneration(config), tokenizer, images


def _gemma4() -> tuple[Any, Any, Any]:
    """With all that some of the hub's have: embeddings of layers, shared keys, images both ways."""
    words = {"BEGIN": "'<|turn>'", "END": "'<turn|>'", "THINKS": "true"}
    tokenizer = _tokenizer(
        _template(_GEMMA, IMAGE="'<|image|>'", **words),
        boi_token="<|image>",
        image_token="<|image|>",
        eoi_token="<image|>",
        audio_token="<|audio|>",
        boa_token="<|audio>",
        eoa_token="<audio|>",
        video_token="<|video|>",
        sot_token="<|turn>",
        eot_token="<turn|>",
        soc_token="<|channel>",
        eoc_token="<channel|>",
    )
    sliding, full = "sliding_attention", "full_attention"
    config = Gemma4Config(
        text_config={
            **_TEXT,
            "num_hidden_layers": 6,
            "head_dim": 8,
            "global_head_dim": 16,
            "vocab_size": len(tokenizer) + 8,
            "vocab_size_per_layer_input": len(tokenizer) + 8,
            "hidden_size_per_layer_input": 8,
            "num_kv_shared_layers": 2,
            "sliding_window": 8,
            "layer_types": [sliding, sliding, full] * 2,
            "final_logit_softcapping": 30.0,
            "use_bidirectional_attention": "vision",
        },
        vision_config={
            **_TOWER,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "patch_size": 4,
            "position_embedding_size": 256,
            "pooling_kernel_size": 2,
        },
        boi_token_id=tokenizer.boi_token_id,
        eoi_token_id=tokenizer.eoi_token_id,
        image_token_id=tokenizer.image_token_id,
        audio_token_id=tokenizer.audio_token_id,
        boa_token_id=tokenizer.boa_token_id,
        eoa_token_index=tokenizer.eoa_token_id,
        video_token_id=tokenizer.video_token_id,
        tie_word_embeddings=False,
    )
    images = Gemma4ImageProcessorPil(patch_size=4, max_soft_tokens=70, pooling_kernel_size=2)
    return Gemma4ForConditionalGeneration(config), tokenizer, images


ENCODERS: Mapping[str, Callable[[], tuple[Any, Any, Any]]] = {
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "qwen3_5": _qwen3_5,
    "internvl": _internvl,
    "gemma3": _gemma3,
    "gemma4": _gemma4,
}
ENDS = {"gemma3": "<end_of_turn>", "gemma4": "<turn|>"}


def _llava() -> tuple[Any, Any, Any]:
    """Any other vision-language model."""
    template = _template(
        _CHATML, ROLES="true", IMAGE="'<image>\\n'", STRICT="false", THINKS="false"
    )
    tokenizer = _tokenizer(template, image_token="<image>")
    config = LlavaConfig(
        text_config={"model_type": "qwen2", **_TEXT, "vocab_size": len(tokenizer) + 8},
        vision_config={
            "model_type": "clip_vision_model",
            **_TOWER,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 4,
        },
        image_token_index=tokenizer.image_token_id,
    )
    images = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    processor = LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    return LlavaForConditionalGeneration(config), tokenizer, processor


def write_encoder(name: str, folder: Path, seed: int = 0) -> Path:
    """Write a model with tokenizer and image processor; `llava` is of no family."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, tokenizer, images = (ENCODERS | {"llava": _llava})[name]()
        for weight in model.parameters():  # random biases and norms too, so that all matter
            torch.nn.init.normal_(weight, std=0.2)
    end = ENDS.get(name, "<|im_end|>")
    model.generation_config.eos_token_id = [tokenizer.convert_tokens_to_ids(end), 0]
    for part in (model, tokenizer, images):
        part.save_pretrained(folder)
    return folder
