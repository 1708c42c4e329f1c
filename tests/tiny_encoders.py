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
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
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
QWEN3_TEMPLATE = """
{%- for message in messages %}
    {%- if message.role in ("system", "user", "assistant") %}
        {{- '<|im_start|>' + message.role + '\\n' }}
        {%- if message.content is string %}
            {{- message.content }}
        {%- else %}
            {%- for part in message.content %}
                {%- if part.type == 'image' %}
                    {{- '<|vision_start|><|image_pad|><|vision_end|>' }}
                {%- else %}
                    {{- part.text }}
                {%- endif %}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
"""Like Qwen3-VL's: it writes no other role."""


def _ids(tokenizer: Any) -> dict[str, int]:
    names = {"image": "image_pad", "video": "video_pad"}
    names |= {"vision_start": "vision_start", "vision_end": "vision_end"}
    return {
        f"{key}_token_id": tokenizer.convert_tokens_to_ids(f"<|{name}|>")
        for key, name in names.items()
    }


def _qwen2_5_vl(tokenizer: Any) -> Any:
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    config = Qwen2_5_VLConfig(
        text_config={**_TEXT, "vocab_size": len(tokenizer) + 8, "rope_parameters": rope},
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
    return Qwen2_5_VLForConditionalGeneration(config)


def _qwen3_vl(tokenizer: Any) -> Any:
    tokenizer.chat_template = QWEN3_TEMPLATE
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
    text = {**_TEXT, "head_dim": 8, "vocab_size": len(tokenizer) + 8, "rope_parameters": rope}
    config = Qwen3VLConfig(
        text_config=text,
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
    return Qwen3VLForConditionalGeneration(config)


ENCODERS: Mapping[str, Callable[[Any], Any]] = {
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
}


def write_encoder(name: str, folder: Path, seed: int = 0) -> Path:
    """Write a model with tokenizer and image processor."""
    tokenizer = AutoTokenizer.from_pretrained(resolve("uae-tiny/encoder"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ENCODERS[name](tokenizer)
        for weight in model.parameters():  # random biases and norms too, so that all matter
            torch.nn.init.normal_(weight, std=0.2)
    model.generation_config.eos_token_id = [tokenizer.convert_tokens_to_ids("<|im_end|>"), 0]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"shortest_edge": 256, "longest_edge": 4096}
    images = AutoImageProcessor.from_pretrained(resolve("uae-tiny/encoder"), size=size)
    images.save_pretrained(folder)
    return folder
