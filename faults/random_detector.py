# transformers' models are untyped
# pyright: reportCallIssue=false
"""GenEval's judges, tiny and with random weights: a Mask2Former and a CLIP, as folders."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    PreTrainedTokenizerFast,
    SwinConfig,
)

from uae.benchmarks.geneval.colors import TEMPLATES
from uae.benchmarks.geneval.decisions import DecisionConfig
from uae.benchmarks.geneval.prompts import CLASS_NAMES, COLORS

NUM_LABELS = len(CLASS_NAMES)
SURE = DecisionConfig(threshold=0.01, counting_threshold=0.02, max_overlap=0.9)
"""Decisions by which objects are found: random weights are sure of none."""


@cache
def random_mask2former_folder() -> Path:
    """Build the detector once per process; return its folder, deleted when the process ends."""
    torch.manual_seed(0)
    model = Mask2FormerForUniversalSegmentation(_mask2former_config())
    with torch.no_grad():  # sure of some classes, so that there are detections
        model.class_predictor.bias[:] = 2 * torch.randn(NUM_LABELS + 1)
        model.class_predictor.bias[-1] = -9
    folder = _new_folder()
    model.save_pretrained(folder)
    return folder


@cache
def random_clip_folder() -> Path:
    """Build the colour classifier's CLIP once per process; return its folder, likewise deleted."""
    tokenizer = _word_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
    shared = {**sizes, "num_hidden_layers": 1}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {**shared, **ends, "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(1)
    config = CLIPConfig(
        text_config={**text, "vocab_size": len(tokenizer), "max_position_embeddings": 24},
        vision_config={**shared, "image_size": 16, "patch_size": 4},
        projection_dim=24,
    )
    folder = _new_folder()
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _new_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="uae-random-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _mask2former_config() -> Mask2FormerConfig:
    swin = SwinConfig(
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=3,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return Mask2FormerConfig(
        backbone_config=swin,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        dim_feedforward=32,
        encoder_layers=1,
        decoder_layers=3,
        num_attention_heads=2,
        num_queries=100,
        num_labels=NUM_LABELS,
    )


def _word_tokenizer() -> PreTrainedTokenizerFast:
    """Know each word of the colour texts."""
    texts = " ".join([*TEMPLATES, *CLASS_NAMES, *COLORS]).replace("-", " - ")
    words = ["<unk>", "<pad>", "<s>", "</s>", *dict.fromkeys(texts.split())]
    ids = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", ids["<s>"]), ("</s>", ids["</s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
    )
