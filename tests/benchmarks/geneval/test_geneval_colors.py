# transformers' models are untyped
# pyright: reportArgumentType=false
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, BitImageProcessorPil, CLIPModel, Dinov2Config, Dinov2Model
from transformers.modeling_outputs import BaseModelOutputWithPooling

from uae.benchmarks.geneval.colors import ColorClassifier, cut_out, embedding_of
from uae.benchmarks.geneval.decisions import DetectedObject
from uae.benchmarks.geneval.prompts import COLORS
from uae.core.errors import NonFinite, UsageError


@pytest.fixture
def classifier(clip_folder):
    return ColorClassifier.from_pretrained(clip_folder)


def noise(width: int = 40, height: int = 30) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def in_box(left: int, top: int, right: int, bottom: int) -> DetectedObject:
    """An object that fills the upper left triangle of its box."""
    mask = np.zeros((30, 40), dtype=bool)
    rows, columns = np.mgrid[: bottom - top, : right - left]
    mask[top:bottom, left:right] = rows + columns < max(bottom - top, right - left)
    return DetectedObject(0.9, (float(left), float(top), float(right), float(bottom)), mask)


def test_outside_is_grey_and_cropped():
    image, o = noise(), in_box(5, 3, 15, 13)
    got = np.asarray(cut_out(image, o.mask, o.box))
    assert got.shape == (10, 10, 3)
    blank = Image.new("RGB", image.size, "#999")
    expected = Image.composite(image, blank, Image.fromarray(o.mask)).crop((5, 3, 15, 13))
    assert (got == np.asarray(expected)).all()
    assert (got[-1, -1] == 153).all()


def test_an_object_without_pixels_is_a_fault_of_the_caller():
    with pytest.raises(AssertionError, match="without pixels"):
        cut_out(noise(), np.zeros((30, 40), dtype=bool), (0.0, 0.0, 0.0, 0.0))


def test_text_is_the_normalised_mean_of_the_templates(classifier, clip_folder):
    clip = CLIPModel.from_pretrained(clip_folder)
    tokenizer = AutoTokenizer.from_pretrained(clip_folder)
    got = classifier.text_features("fire hydrant")
    for i, color in enumerate(COLORS):
        rows = []
        for text in (
            f"a photo of a {color} fire hydrant",
            f"a photo of a {color}-colored fire hydrant",
            f"a photo of a {color} object",
        ):
            row = embedding_of(clip.get_text_features(**tokenizer(text, return_tensors="pt")))[0]
            rows.append(row / row.norm())
        mean = torch.stack(rows).mean(0)
        torch.testing.assert_close(got[i], mean / mean.norm(), atol=1e-6, rtol=1e-5)
    # so that the comparison above means something
    assert (got[0] - got[1]).abs().max() > 1e-3


def test_each_class_is_read_once(classifier, monkeypatch):
    first = classifier.text_features("bus")
    monkeypatch.setattr(classifier, "_tokenizer", None)
    assert classifier.text_features("bus") is first


def test_logits_are_those_of_clip(classifier, clip_folder):
    """A square crop at CLIP's own size needs no resize: the comparison is exact."""
    clip = CLIPModel.from_pretrained(clip_folder)
    image, o = noise(), in_box(4, 2, 20, 18)
    crop = np.asarray(cut_out(image, o.mask, o.box)) / 255
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    pixels = torch.tensor((crop - mean) / std).permute(2, 0, 1)[None].float()
    features = embedding_of(clip.get_image_features(pixel_values=pixels))[0]
    expected = 100 * classifier.text_features("bus") @ (features / features.norm())
    (got,) = classifier.logits(image, "bus", [o])
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-5)
    assert classifier.classify(image, "bus", [o]) == [COLORS[int(expected.argmax())]]


def test_a_thin_object_loses_its_ends(classifier):
    o = DetectedObject(0.9, (0.0, 10.0, 40.0, 14.0), np.ones((30, 40), dtype=bool))
    image = noise()
    ends = np.array(image)
    ends[:, :14], ends[:, 26:] = 0, 0  # the centre crop is 4 px wide, and a resize reads 4 px more
    (whole,), (centre,) = (
        classifier.logits(picture, "bus", [o]) for picture in (image, Image.fromarray(ends))
    )
    torch.testing.assert_close(whole, centre, atol=1e-4, rtol=0)


def test_one_answer_for_each_object(classifier):
    objects = [in_box(0, 0, 40, 30), in_box(1, 1, 3, 29), in_box(7, 7, 8, 8)]
    answers = classifier.classify(noise(), "bus", objects)
    assert len(answers) == 3
    assert set(answers) <= set(COLORS)
    assert classifier.classify(noise(), "bus", []) == []


def test_features_of_either_transformers():
    features = torch.randn(2, 3)
    assert embedding_of(features) is features
    assert embedding_of(BaseModelOutputWithPooling(pooler_output=features)) is features
    with pytest.raises(AssertionError, match="CLIP returned NoneType"):
        embedding_of(BaseModelOutputWithPooling())


def test_output_that_is_not_finite(classifier):
    classifier._similarity.model.visual_projection.weight.data[0] = float("nan")
    with pytest.raises(NonFinite, match="colour classifier's output for 'bus'"):
        classifier.classify(noise(), "bus", [in_box(0, 0, 9, 9)])


def test_a_backbone_that_reads_no_text_is_refused(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    Dinov2Model(Dinov2Config(**sizes, image_size=16, patch_size=8)).save_pretrained(tmp_path)
    BitImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
    ).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="is a Dinov2Model: expected CLIP"):
        ColorClassifier.from_pretrained(tmp_path)
