"""Image similarity against transformers' own preprocessing and embeddings."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from transformers import (
    AutoImageProcessor,
    CLIPModel,
    Dinov2Model,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    ViTConfig,
)

from uae.core.errors import UsageError
from uae.data.sources import to_pixels
from uae.rewards.loading import load_similarity
from uae.rewards.similarity import Similarity, cosine
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image

BACKBONES = ("clip", "dinov2")


@pytest.fixture(params=BACKBONES)
def folder(request, random_model_folder):
    return random_model_folder.with_name(request.param)


@pytest.fixture
def similarity(folder):
    return load_similarity(folder)


def scenes(num_images: int, size_px: int = 64):
    return to_pixels([render_image(scene_at(i, "test"), size_px) for i in range(num_images)])


def muted_image(height: int, width: int) -> Image.Image:
    """Gradients and a disc, of middling levels: no overshoot of the resize is clipped."""
    y, x = np.mgrid[:height, :width] / 144
    disc = (x - 0.3) ** 2 + (y - 0.25) ** 2 < 0.03
    return Image.fromarray((60 + 120 * np.stack([x, y, disc], axis=-1)).astype(np.uint8))


def seen_by_backbone(similarity: Similarity, image: Image.Image) -> torch.Tensor:
    """The normalised pixels that reach the first layer."""
    seen = []
    first = next(m for m in similarity.model.modules() if isinstance(m, nn.Conv2d))
    handle = first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    similarity.features(to_pixels([image]))
    handle.remove()
    return seen[0]


def test_an_image_is_like_itself(similarity):
    features = similarity.features(scenes(3))
    torch.testing.assert_close(cosine(features, features), torch.ones(3), atol=1e-6, rtol=0)


def test_features_have_unit_length_at_any_size(similarity):
    for pixels in (scenes(2), scenes(2, 96), torch.rand(2, 3, 96, 128), torch.zeros(1, 3, 32, 40)):
        lengths = similarity.features(pixels).norm(dim=-1)
        torch.testing.assert_close(lengths, torch.ones(len(pixels)), atol=1e-6, rtol=0)


def test_cosine_by_hand():
    a = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    b = torch.tensor([[-1.0, 0.0], [0.8, 0.6]])
    torch.testing.assert_close(cosine(a, b), torch.tensor([-1.0, 0.96]))


def test_the_gradient_reaches_the_pixels_and_no_weight(similarity):
    pixels = scenes(2, 96).requires_grad_()
    others = similarity.features(scenes(2).flip(0)).detach()
    cosine(similarity.features(pixels), others).sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.isfinite().all()
    assert (pixels.grad.abs().amax(dim=(1, 2, 3)) > 0).all()
    assert all(p.grad is None for p in similarity.model.parameters())


# 48 x 80 and 96 x 131 do not scale to whole pixels: transformers rounds the long side down
@pytest.mark.parametrize("size", [(64, 64), (96, 128), (128, 96), (96, 131), (48, 80)])
def test_preprocessing_matches_the_folders_own(similarity, folder, size):
    image = muted_image(*size)
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    expected = processor(images=image, return_tensors="pt")["pixel_values"]
    # Pillow rounds to 8 bits after each of its two passes: at most 1.5 levels of 255 together,
    # over the standard deviation 0.25. Without a resize nothing is rounded.
    tolerance = 1e-5 if size == (64, 64) else 1.5 / 255 / 0.25
    torch.testing.assert_close(
        seen_by_backbone(similarity, image), expected, atol=tolerance, rtol=0
    )


@pytest.mark.parametrize("size_px", [96, 128])
def test_preprocessing_of_scenes_differs_at_saturated_edges_alone(similarity, folder, size_px):
    """Pillow clips the overshoot between its passes, the tensor resize after both."""
    image = render_image(scene_at(0, "test"), size_px)
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    expected = processor(images=image, return_tensors="pt")["pixel_values"]
    levels = (seen_by_backbone(similarity, image) - expected).abs() * 0.25 * 255
    assert (levels > 1.5).float().mean() < 0.02
    assert levels.max() < 20


def test_the_processors_are_pillows(folder):
    name = type(AutoImageProcessor.from_pretrained(folder, backend="pil")).__name__
    assert name in ("CLIPImageProcessorPil", "BitImageProcessorPil")


def test_clip_features_are_transformers_image_embeddings(random_model_folder):
    folder = random_model_folder.with_name("clip")
    model, processor = CLIPModel.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
    images = [render_image(scene_at(i, "test"), 64) for i in range(3)]
    with torch.no_grad():
        expected = model(
            input_ids=torch.tensor([[5, model.config.text_config.eos_token_id]]),
            pixel_values=processor(images=images, return_tensors="pt")["pixel_values"],
        ).image_embeds
    features = load_similarity(folder).features(to_pixels(images))
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=0)


def test_dinov2_features_are_the_class_token(random_model_folder):
    folder = random_model_folder.with_name("dinov2")
    model, processor = (
        Dinov2Model.from_pretrained(folder).eval(),
        AutoImageProcessor.from_pretrained(folder),
    )
    image = render_image(scene_at(0, "test"), 64)
    with torch.no_grad():
        hidden = model(**processor(images=image, return_tensors="pt")).last_hidden_state[:, 0]
    features = load_similarity(folder).features(to_pixels([image]))
    torch.testing.assert_close(features, hidden / hidden.norm(), atol=1e-5, rtol=0)


def test_another_kind_of_model_is_refused(folder, tmp_path):
    ViTConfig().save_pretrained(tmp_path)
    AutoImageProcessor.from_pretrained(folder).save_pretrained(tmp_path)
    with pytest.raises(
        UsageError, match=r"is a 'vit' model: expected clip, siglip, dinov2 or dinov3_vit"
    ):
        load_similarity(tmp_path)


def test_a_siglip_2_without_a_fixed_size_is_refused(tmp_path):
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    tower |= {"num_attention_heads": 2}
    config = Siglip2Config(
        text_config={**tower, "vocab_size": 64, "projection_size": 32},
        vision_config={**tower, "num_patches": 16, "patch_size": 8},
    )
    Siglip2Model(config).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="is a NaFlex SigLIP 2, which takes images of any shape"):
        load_similarity(tmp_path)


@pytest.fixture
def dinov3_folder(tmp_path):
    """Random weights in the layout of the published ones; DINOv3 has no processor without
    torchvision, only its file."""
    torch.manual_seed(0)
    config = DINOv3ViTConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=48,
        patch_size=8,
        num_register_tokens=4,
    )
    DINOv3ViTModel(config).save_pretrained(tmp_path)
    preparation = {
        "image_processor_type": "DINOv3ViTImageProcessorFast",
        "do_resize": True,
        "size": {"height": 48, "width": 48},
        "do_center_crop": None,
        "crop_size": None,
        "resample": 2,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preparation))
    return tmp_path


@pytest.fixture
def siglip_folder(tmp_path):
    torch.manual_seed(0)
    tower = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = SiglipConfig(
        text_config={**tower, "vocab_size": 64, "projection_size": 32},
        vision_config={**tower, "image_size": 48, "patch_size": 8},
    )
    SiglipModel(config).save_pretrained(tmp_path)
    processor = SiglipImageProcessorPil(size={"height": 48, "width": 48}, resample=2)
    processor.save_pretrained(tmp_path)
    return tmp_path


def test_dinov3_sees_the_whole_image_squashed_and_its_class_token_is_the_feature(dinov3_folder):
    image = muted_image(40, 64)
    pixels = F.interpolate(
        to_pixels([image]), (48, 48), mode="bilinear", antialias=True, align_corners=False
    )
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (pixels - mean[:, None, None]) / std[:, None, None]
    model = DINOv3ViTModel.from_pretrained(dinov3_folder).eval()
    with torch.no_grad():
        hidden = model(pixel_values=normalised).last_hidden_state[:, 0]
    features = load_similarity(dinov3_folder).features(to_pixels([image]))
    torch.testing.assert_close(features, hidden / hidden.norm(), atol=1e-5, rtol=0)


def test_siglip_features_are_transformers_image_embeddings(siglip_folder):
    image = muted_image(40, 64)
    model = SiglipModel.from_pretrained(siglip_folder).eval()
    processor = AutoImageProcessor.from_pretrained(siglip_folder, backend="pil")
    with torch.no_grad():
        seen = processor(images=image, return_tensors="pt")["pixel_values"]
        pooled = model.vision_model(pixel_values=seen).pooler_output
    similarity = load_similarity(siglip_folder)
    # Pillow rounds to 8 bits after each of its two passes
    torch.testing.assert_close(
        seen_by_backbone(similarity, image), seen, atol=1.5 / 255 / 0.5, rtol=0
    )
    features = similarity.features(to_pixels([image]))
    torch.testing.assert_close(features, pooled / pooled.norm(), atol=0.01, rtol=0)
