# transformers' models are untyped
# pyright: reportCallIssue=false
"""A tiny Mask2Former and a tiny CLIP with random weights, as folders."""

import pytest
import torch

from uae.eval.geneval.colors import TEMPLATES
from uae.eval.geneval.prompts import CLASS_NAMES, COLORS

NUM_LABELS = 80


def tiny_config(num_labels: int = NUM_LABELS):
    from transformers import Mask2FormerConfig, SwinConfig

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
        num_labels=num_labels,
    )


@pytest.fixture(scope="session")
def mask2former_folder(tmp_path_factory):
    from transformers import Mask2FormerForUniversalSegmentation

    torch.manual_seed(0)
    model = Mask2FormerForUniversalSegmentation(tiny_config())
    with torch.no_grad():  # sure of some classes, so that there are detections
        model.class_predictor.bias[:] = 2 * torch.randn(NUM_LABELS + 1)
        model.class_predictor.bias[-1] = -9
    folder = tmp_path_factory.mktemp("mask2former")
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        CLIPConfig,
        CLIPImageProcessorPil,
        CLIPModel,
        PreTrainedTokenizerFast,
    )

    texts = " ".join([*TEMPLATES, *CLASS_NAMES, *COLORS]).replace("-", " - ")
    words = ["<unk>", "<pad>", "<s>", "</s>", *dict.fromkeys(texts.split())]
    ids = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", ids["<s>"]), ("</s>", ids["</s>"])]
    )
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
    shared = {**sizes, "num_hidden_layers": 1}
    ends = {"bos_token_id": ids["<s>"], "eos_token_id": ids["</s>"], "pad_token_id": ids["<pad>"]}
    torch.manual_seed(1)
    config = CLIPConfig(
        text_config={**shared, **ends, "vocab_size": len(words), "max_position_embeddings": 24},
        vision_config={**shared, "image_size": 16, "patch_size": 4},
        projection_dim=24,
    )
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
    ).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
    ).save_pretrained(folder)
    return folder
