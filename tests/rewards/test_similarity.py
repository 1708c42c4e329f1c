"""Image similarity against transformers' own preprocessing and embeddings."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from transformers import AutoImageProcessor, CLIPModel, Dinov2Model, ViTConfig

from uae.data.scenes.graph import scene_at
from uae.data.scenes.render import render_image
from uae.data.sources import to_pixels
from uae.errors import UsageError
from uae.rewards.similarity import Similarity, cosine

BACKBONES = ("clip", "dinov2")


@pytest.fixture(params=BACKBONES)
def folder(request, random_model_folder):
    return random_model_folder.with_name(request.param)


@pytest.fixture
def similarity(folder):
    return Similarity.from_pretrained(folder)


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
    features = Similarity.from_pretrained(folder).features(to_pixels(images))
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
    features = Similarity.from_pretrained(folder).features(to_pixels([image]))
    torch.testing.assert_close(features, hidden / hidden.norm(), atol=1e-5, rtol=0)


def test_another_kind_of_model_is_refused(folder, tmp_path):
    ViTConfig().save_pretrained(tmp_path)
    AutoImageProcessor.from_pretrained(folder).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"is a 'vit' model: expected clip or dinov2"):
        Similarity.from_pretrained(tmp_path)
