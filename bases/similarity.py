"""The two image-similarity backbones of uae-tiny, trained apart from each other.

CLIP learns from images and captions (contrastive, with near misses in the batch; and the scene
graph, read off both towers' embeddings) and is the reward.
DINOv2 learns from the scene graph, cell by cell, never sees language, and is never a reward.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    BatchEncoding,
    BitImageProcessorPil,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    Qwen2Tokenizer,
)

from bases.fit import cosine, fit
from bases.layout import (
    Layout,
    LayoutHead,
    LayoutProbe,
    MentionHead,
    layout_loss,
    layout_of,
    layout_told,
)
from uae.flow.noise import stream
from uae.runs.run import Run
from uae.scenes.graph import BACKGROUNDS, COLORS, SHAPES, SIZES, Scene, scene_at
from uae.scenes.language import long_caption, terse_caption
from uae.scenes.reading import read_caption
from uae.scenes.render import render

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
HIDDEN, DEPTH, HEADS, PATCH_PX, SIZE_PX = 160, 4, 5, 8, 64
_PREPROCESSING = {
    "size": {"shortest_edge": SIZE_PX},
    "crop_size": {"height": SIZE_PX, "width": SIZE_PX},
    "image_mean": MEAN,
    "image_std": STD,
}


@dataclass(frozen=True, kw_only=True)
class Dinov2BaseConfig:
    """How DINOv2 is trained."""

    num_steps: int = 2200
    batch_size: int = 64
    lr: float = 2e-3
    seed: int = 41


@dataclass(frozen=True, kw_only=True)
class ClipBaseConfig:
    """How CLIP is trained."""

    num_steps_seeing: int = 1700
    """Steps of the image tower alone."""
    num_steps_reading: int = 800
    """Steps of the text tower alone, held to the image tower's readout."""
    num_steps: int = 350
    """Steps of both towers."""
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
        CLIPConfig(text_config=text_config, vision_config=vision_config, projection_dim=HIDDEN)
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


def build_dinov2(run: Run, folder: Path, config: Dinov2BaseConfig) -> None:
    """Train DINOv2's class token to hold the scene graph, read out linearly; save the backbone."""
    torch.manual_seed(config.seed)
    model = new_dinov2()
    head = LayoutHead(HIDDEN)
    both = nn.ModuleDict({"backbone": model, "head": head})

    def loss_at(step: int) -> tuple[Tensor, dict[str, float]]:
        first = step * config.batch_size
        scenes = [scene_at(first + i, "train", config.seed) for i in range(config.batch_size)]
        pixels = inputs_of(scenes, stream(config.seed, "dinov2", step))
        states = model(pixels).pooler_output
        loss, right = layout_loss(head(states), layout_of(scenes))
        return loss, right | {"loss": loss.item()}

    fit(run, "dinov2", both, loss_at, config.num_steps, cosine(config.lr, config.num_steps))
    save_dinov2(model, folder)


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


class Readout(nn.Module):
    """What CLIP's towers are held to: the layout, read off embeddings and off tokens."""

    def __init__(self, hidden_size: int, projection_size: int) -> None:
        super().__init__()
        self.layout = LayoutHead(projection_size)
        """One for both towers: it brings them together before the contrastive loss can."""
        self.patches = LayoutProbe(hidden_size)
        self.mention = MentionHead(hidden_size)
        self.scale = projection_size**0.5  # unit embeddings, brought to unit variance

    def embedding(
        self, embeds: Float[Tensor, "b d"], layout: Layout
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """Return the loss of a linear readout of unit embeddings."""
        return layout_loss(self.layout(self.scale * embeds), layout)

    def text(
        self,
        embeds: Float[Tensor, "b d"],
        states: Float[Tensor, "b s h"],
        tokens: BatchEncoding,
        texts: list[str],
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """Return the loss of the text tower: its embedding, and each mention at its end."""
        layout = layout_told([read_caption(text) for text in texts])
        read, right = self.embedding(embeds, layout)
        ends = tokens["offset_mapping"][..., 1].tolist()
        mention = self.mention.in_texts(states, ends, texts)
        numbers = {f"read_{name}": value for name, value in right.items()}
        return read + 0.5 * mention, numbers | {"mention": mention.item()}


def build_clip(run: Run, folder: Path, encoder_folder: Path, config: ClipBaseConfig) -> None:
    """Train CLIP: its image tower on layouts first, then both on images and captions.

    Half of each batch of captioned images are near misses of the other half.
    """
    torch.manual_seed(config.seed)
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder)
    model = new_clip(tokenizer)
    readout = Readout(HIDDEN, model.visual_projection.out_features)

    def see(step: int) -> tuple[Tensor, dict[str, float]]:
        first = step * config.batch_size
        scenes = [scene_at(first + i, "train", 10 * config.seed) for i in range(config.batch_size)]
        pixels = inputs_of(scenes, stream(config.seed, "clip_seeing", step))
        seen = model.vision_model(pixel_values=pixels)
        embeds = F.normalize(model.visual_projection(seen.pooler_output), dim=-1)
        loss, right = readout.embedding(embeds, layout_of(scenes))
        patches, _ = layout_loss(readout.patches(seen.last_hidden_state[:, 1:]), layout_of(scenes))
        return loss + 0.5 * patches, right | {"patches": patches.item()}

    def read(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([config.seed, 1, step])
        first = step * config.batch_size
        scenes = [
            scene_at(first + i, "train", 10 * config.seed + 1) for i in range(config.batch_size)
        ]
        texts, tokens = captions_of(scenes, tokenizer, rng)
        states = model.text_model(tokens["input_ids"], attention_mask=tokens["attention_mask"])
        embeds = F.normalize(model.text_projection(states.pooler_output), dim=-1)
        return readout.text(embeds, states.last_hidden_state, tokens, texts)

    def contrast(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([config.seed, step])
        half = config.batch_size // 2
        scenes = [scene_at(step * half + i, "train", config.seed) for i in range(half)]
        scenes += [near_miss(s, rng) for s in scenes]
        pixels = inputs_of(scenes, stream(config.seed, "clip", step))
        return contrastive_loss(model, tokenizer, readout, scenes, pixels, rng)

    image_tower = [model.vision_model, model.visual_projection, readout]
    text_tower = [model.text_model, model.text_projection, readout.mention]
    for phase, parts, loss_at, num_steps in (
        ("clip_seeing", image_tower, see, config.num_steps_seeing),
        ("clip_reading", text_tower, read, config.num_steps_reading),
        ("clip", [model, readout], contrast, config.num_steps),
    ):
        optimizer = cosine(config.lr, num_steps)
        fit(run, phase, nn.ModuleList(parts), loss_at, num_steps, optimizer)
    save_clip(model, tokenizer, folder)


def captions_of(
    scenes: list[Scene], tokenizer: Qwen2Tokenizer, rng: np.random.Generator
) -> tuple[list[str], BatchEncoding]:
    """Caption scenes completely; return the texts and their tokens, each with its end token."""
    texts = [(long_caption if rng.random() < 0.7 else terse_caption)(s, rng) for s in scenes]
    tokens = tokenizer(
        [text + "<|im_end|>" for text in texts],
        padding=True,
        padding_side="right",
        return_tensors="pt",
        return_offsets_mapping=True,
    )
    return texts, tokens


def contrastive_loss(
    model: CLIPModel,
    tokenizer: Qwen2Tokenizer,
    readout: Readout,
    scenes: list[Scene],
    pixels: Float[Tensor, "b c h w"],
    rng: np.random.Generator,
) -> tuple[Tensor, dict[str, float]]:
    """Caption scenes, tell them and their images apart both ways, and read their layouts."""
    texts, tokens = captions_of(scenes, tokenizer, rng)
    output = model(
        input_ids=tokens["input_ids"],
        attention_mask=tokens["attention_mask"],
        pixel_values=pixels,
    )
    labels = torch.arange(len(scenes))
    by_image, by_text = output.logits_per_image, output.logits_per_text
    contrast = (F.cross_entropy(by_image, labels) + F.cross_entropy(by_text, labels)) / 2
    seen, right = readout.embedding(output.image_embeds, layout_of(scenes))
    states = output.text_model_output.last_hidden_state
    read, numbers = readout.text(output.text_embeds, states, tokens, texts)
    numbers |= right | {"contrast": contrast.item()}
    numbers["retrieval"] = (by_image.argmax(1) == labels).float().mean().item()
    return contrast + seen + read, numbers
