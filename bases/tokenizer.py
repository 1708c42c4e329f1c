# Qwen2Tokenizer takes merges as pairs, whatever its annotation says
# pyright: reportArgumentType=false
"""The tokenizer of uae-tiny: Qwen2's byte-level BPE, trained on the scenes' own text."""

import json
from collections.abc import Iterator

import numpy as np
from tokenizers import pre_tokenizers, trainers
from transformers import Qwen2Tokenizer

from uae.benchmarks.mmt_bench.prompt import compact_text
from uae.scenes.graph import scene_at
from uae.scenes.language import long_caption, prompt, short_caption
from uae.scenes.questions import questions_for

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
CHAT_TEMPLATE = r"""
{%- for message in messages -%}
{%- if loop.first and message['role'] != 'system' -%}
{{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' -}}
{%- endif -%}
{{- '<|im_start|>' + message['role'] + '\n' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part['type'] == 'text' -%}
{{- part['text'] -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\n' -}}
{%- endif -%}"""
"""Qwen2.5-VL's chat format (text and images), with the default system line."""

VOCAB_SIZE = 768


def _texts(num_scenes: int, seed: int) -> Iterator[str]:
    rng = np.random.default_rng(seed)
    template_words = "system\nYou are a helpful assistant.\nuser\nassistant\ngenerate\n"
    yield from [template_words] * (num_scenes // 10)
    for index in range(num_scenes):
        scene = scene_at(index, "train", seed)
        yield long_caption(scene, rng)
        yield short_caption(scene, rng)
        yield prompt(scene, rng)
        yield from (compact_text(q) for q in questions_for(scene, rng, 2))


def build_tokenizer(caption_prompt: str, num_scenes: int = 5000, seed: int = 7) -> Qwen2Tokenizer:
    """Train the tokenizer; the special tokens come first in the vocabulary.

    Args:
        caption_prompt: The user turn that asks for a caption, so that it is short in tokens.
        num_scenes: Number of training scenes whose text is read.
        seed: Seed of the scenes and of their wording.
    """
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    draft = Qwen2Tokenizer().backend_tokenizer
    texts = [caption_prompt] * (num_scenes // 10) + list(_texts(num_scenes, seed))
    draft.train_from_iterator(texts, trainer)
    trained = json.loads(draft.to_str())["model"]
    learned = sorted(trained["vocab"].items(), key=lambda item: item[1])
    vocab = {token: i for i, token in enumerate(SPECIAL_TOKENS)}
    for token, _ in learned:
        vocab.setdefault(token, len(vocab))
    merges = [tuple(m) if isinstance(m, list) else m for m in trained["merges"]]
    return Qwen2Tokenizer(
        vocab=vocab,
        merges=merges,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL_TOKENS),
        chat_template=CHAT_TEMPLATE,
    )
