"""The two image-similarity backbones of uae-tiny, trained apart from each other.

CLIP learns from images and captions (contrastive, with near misses in the batch) and is the reward.
DINOv2 learns from the scene graph, cell by cell, never sees language, and is never a reward.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    BitImageProcessorPil,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    Qwen2Tokenizer,
)

from uae.bases.fit import cosine, fit
from uae.data.scenes.graph import BACKGROUNDS, CELLS, COLORS, SHAPES, SIZES, Scene, scene_at
from uae.data.scenes.language import long_caption
from uae.data.scenes.render import render

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
HIDDEN, DEPTH, HEADS, PATCH_PX, SIZE_PX = 160, 4, 5, 8, 64
_PREPROCESSING = {
    "size": {"shortest_edge": SIZE_PX},
    "crop_size": {"height": SIZE_PX, "width": SIZE_PX},
    "image_mean": MEAN,
    "image_std": STD,
}


@dataclass(frozen=True, kw_only=True)
class SimilarityBaseConfig:
    """How one backbone is trained."""

    num_steps: int = 4000
    batch_size: int = 64
    lr: float = 2e-3
    seed: int = 31


def inputs_of(scenes: list[Scene], generator: torch.Generator) -> Tensor:
    """Render, blur and add noise at random, so that imperfect redraws stay in distribution.

    Returns:
        Normalised pixels (b, 3, 64, 64).
    """
    images = np.stack([render(s, SIZE_PX) for s in scenes])
    pixels = rearrange(torch.from_numpy(images), "b h w c -> b c h w").float() / 255
    shares = torch.rand(3, len(scenes), 1, 1, 1, generator=generator)
    blurred = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, 1)
    pixels = torch.lerp(pixels, blurred, shares[0] * (shares[1] < 0.5))
    pixels = pixels + 0.06 * shares[2] * torch.randn(pixels.shape, generator=generator)
    return (pixels.clamp(0, 1) - MEAN[0]) / STD[0]


def cell_targets(scenes: list[Scene]) -> Tensor:
    """Class of each cell's shape, colour and size, 0 for an empty cell: (b, 9, 3)."""
    targets = torch.zeros(len(scenes), len(CELLS), 3, dtype=torch.long)
    for i, scene in enumerate(scenes):
        for o in scene.objects:
            targets[i, CELLS.index(o.cell)] = 1 + torch.tensor(
                [SHAPES.index(o.shape), list(COLORS).index(o.color), list(SIZES).index(o.size)]
            )
    return targets


def _weights(num_classes: int) -> Tensor:
    """Weigh empty cells (class 0) down: two cells in three are empty."""
    return torch.tensor([0.2] + [1.0] * (num_classes - 1))


def new_dinov2() -> Dinov2Model:
    """Build the untrained backbone."""
    return Dinov2Model(
        Dinov2Config(
            hidden_size=HIDDEN,
            num_hidden_layers=DEPTH,
            num_attention_heads=HEADS,
            mlp_ratio=2,
            image_size=SIZE_PX,
            patch_size=PATCH_PX,
        )
    )


def new_clip(tokenizer: Qwen2Tokenizer) -> CLIPModel:
    """Build the untrained model; its text tower reads whole long captions."""
    shared = {
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_attention_heads": HEADS,
    }
    text_config = {
        **shared,
        "num_hidden_layers": 3,
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        "bos_token_id": tokenizer.pad_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 160,
    }
    vision_config = {
        **shared,
        "num_hidden_layers": DEPTH,
        "image_size": SIZE_PX,
        "patch_size": PATCH_PX,
    }
    return CLIPModel(
        CLIPConfig(text_config=text_config, vision_config=vision_config, projection_dim=128)
    )


def save_dinov2(model: Dinov2Model, folder: Path) -> None:
    """Write the backbone and its image processor."""
    model.save_pretrained(folder)
    BitImageProcessorPil(**_PREPROCESSING).save_pretrained(folder)


def save_clip(model: CLIPModel, tokenizer: Qwen2Tokenizer, folder: Path) -> None:
    """Write the model, its tokenizer and its image processor."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(**_PREPROCESSING).save_pretrained(folder)


def build_dinov2(folder: Path, config: SimilarityBaseConfig) -> None:
    """Train DINOv2's class token to hold the scene graph, read out linearly; save the backbone."""
    torch.manual_seed(config.seed)
    model = new_dinov2()
    sizes = [1 + len(SHAPES), 1 + len(COLORS), 1 + len(SIZES)]
    head = nn.Linear(HIDDEN, len(CELLS) * sum(sizes) + len(BACKGROUNDS))
    both = nn.ModuleDict({"backbone": model, "head": head})
    generator = torch.Generator().manual_seed(config.seed)

    def loss_at(step: int) -> tuple[Tensor, dict[str, float]]:
        first = step * config.batch_size
        scenes = [scene_at(first + i, "train", config.seed) for i in range(config.batch_size)]
        logits = head(model(inputs_of(scenes, generator)).pooler_output)
        targets = cell_targets(scenes)
        cells, background = logits.split([len(CELLS) * sum(sizes), len(BACKGROUNDS)], dim=1)
        parts = cells.unflatten(1, (len(CELLS), sum(sizes))).split(sizes, dim=2)
        losses = [
            F.cross_entropy(p.flatten(0, 1), targets[..., k].flatten(), _weights(sizes[k]))
            for k, p in enumerate(parts)
        ]
        names = torch.tensor([list(BACKGROUNDS).index(s.background) for s in scenes])
        loss = sum(losses) + 0.2 * F.cross_entropy(background, names)
        there = targets[..., 0] > 0
        right = [
            (p.argmax(-1) == targets[..., k])[there].float().mean().item()
            for k, p in enumerate(parts)
        ]
        return loss, dict(zip(("shape", "color", "size"), right, strict=True), loss=loss.item())

    fit(
        both,
        loss_at,
        config.num_steps,
        cosine(config.lr, config.num_steps),
        lambda: save_dinov2(model, folder),
    )


def near_miss(scene: Scene, rng: np.random.Generator) -> Scene:
    """Change one attribute of one object, or the background, or drop an object."""
    i = int(rng.integers(len(scene.objects)))
    o = scene.objects[i]
    kind = rng.integers(8)
    if kind == 0:
        return replace(scene, background=str(rng.choice([b for b in BACKGROUNDS if
                                                         b != scene.background])))  # fmt: skip
    if kind == 1 and len(scene.objects) > 1:
        return replace(scene, objects=scene.objects[:i] + scene.objects[i + 1 :])
    name, options = (("shape", SHAPES), ("color", tuple(COLORS)), ("size", tuple(SIZES)))[kind % 3]
    current = getattr(o, name)
    changed = replace(o, **{name: str(rng.choice([v for v in options if v != current]))})
    return replace(scene, objects=(*scene.objects[:i], changed, *scene.objects[i + 1 :]))


def build_clip(folder: Path, encoder_folder: Path, config: SimilarityBaseConfig) -> None:
    """Train CLIP on images and long captions; each batch holds near misses of half its scenes."""
    torch.manual_seed(config.seed)
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder)
    model = new_clip(tokenizer)
    generator = torch.Generator().manual_seed(config.seed)

    def loss_at(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([config.seed, step])
        half = config.batch_size // 2
        scenes = [scene_at(step * half + i, "train", config.seed) for i in range(half)]
        scenes += [near_miss(s, rng) for s in scenes]
        tokens = tokenizer(
            [long_caption(s, rng) + "<|im_end|>" for s in scenes],
            padding=True,
            padding_side="right",
            return_tensors="pt",
        )
        output = model(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            pixel_values=inputs_of(scenes, generator),
        )
        labels = torch.arange(len(scenes))
        by_image, by_text = output.logits_per_image, output.logits_per_text
        loss = (F.cross_entropy(by_image, labels) + F.cross_entropy(by_text, labels)) / 2
        right = (by_image.argmax(1) == labels).float().mean().item()
        return loss, {"loss": loss.item(), "retrieval": right}

    fit(
        model,
        loss_at,
        config.num_steps,
        cosine(config.lr, config.num_steps),
        lambda: save_clip(model, tokenizer, folder),
    )
