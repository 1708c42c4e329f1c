"""Evaluation points on disk: pictures, order, and means over backbones."""

import numpy as np
import pytest
import torch
from einops import rearrange
from PIL import Image

from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.recipe import EvaluationConfig
from uae.report.statistics import weighted
from uae.rewards.loading import load_similarity
from uae.scenes.evaluator import SceneEvaluator
from uae.train.evaluator import Point
from uae.train.observe import COLUMNS, load, load_pictures, save_pictures
from uae.train.points import EVALUATIONS, evaluate_point, headlines, point_folders, point_name
from uae.train.run_report import before_rl


@pytest.mark.parametrize("num_images", [1, COLUMNS - 1, COLUMNS, COLUMNS + 1, 3 * COLUMNS])
def test_pictures_come_back_in_order(tmp_path, num_images):
    generator = torch.Generator().manual_seed(num_images)
    pixels = torch.rand(num_images, 3, 8, 8, generator=generator)
    save_pictures(list(pixels), tmp_path / "captions.png")
    images = load_pictures(tmp_path / "captions.png")
    expected = rearrange((pixels * 255).round().byte(), "n c h w -> n h w c").numpy()
    np.testing.assert_array_equal(images, expected)


def test_8_bit_pictures_survive_exactly(tmp_path):
    levels = torch.arange(256).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    save_pictures(list(levels / 255), tmp_path / "x.png")
    np.testing.assert_array_equal(load_pictures(tmp_path / "x.png")[0][:, :, 0], levels[0, 0])


def test_pictures_of_several_shapes_come_back_in_their_own(tmp_path):
    pictures = [torch.rand(3, 8, 16), torch.rand(3, 16, 8), torch.rand(3, 12, 12)]
    save_pictures(pictures, tmp_path / "x.png")
    for picture, loaded in zip(pictures, load_pictures(tmp_path / "x.png"), strict=True):
        expected = rearrange((picture * 255).round().byte(), "c h w -> h w c").numpy()
        np.testing.assert_array_equal(loaded, expected)


def test_a_sheet_of_many_large_pictures_is_read_back(tmp_path, monkeypatch):
    """Pillow's own limit for files of strangers is below 256 pictures of 1024 px."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    save_pictures([torch.zeros(3, 8, 8)], tmp_path / "x.png")
    assert load_pictures(tmp_path / "x.png")[0].shape == (8, 8, 3)


def test_weighted_is_the_mean_by_weight():
    values = {"clip": [1.0, 0.0], "dinov2": [0.0, 0.5], "other": [9.0, 9.0]}
    np.testing.assert_allclose(weighted(values, {"clip": 3.0, "dinov2": 1.0}), [0.75, 0.125])
    np.testing.assert_allclose(weighted(values, {"dinov2": 0.2}), [0.0, 0.5])


def test_weighted_without_weights_is_unknown():
    result = weighted({"clip": [1.0, 0.0, 0.5]}, {})
    assert result.shape == (3,)
    assert np.isnan(result).all()


def test_weighted_keeps_nan_to_its_own_row():
    result = weighted({"clip": [float("nan"), 0.5]}, {"clip": 1.0})
    np.testing.assert_array_equal(result, [np.nan, 0.5])


def test_points_are_in_order_beyond_nine(tmp_path):
    names = [f"{i}-point-{i}" for i in range(12)]
    for name in sorted(names, reverse=True):
        (tmp_path / EVALUATIONS / name).mkdir(parents=True)
    (tmp_path / EVALUATIONS / ".12-draft").mkdir()
    (tmp_path / EVALUATIONS / "3-notes.txt").write_text("no point")
    folders = point_folders(tmp_path)
    assert [folder.name for folder in folders] == names
    assert [point_name(folder) for folder in folders] == [f"point-{i}" for i in range(12)]


def test_a_run_without_evaluations_has_no_points(tmp_path):
    assert point_folders(tmp_path) == []


def point(name: str) -> Point:
    """A point of which nothing but its name is known."""
    made = object.__new__(Point)
    object.__setattr__(made, "name", name)
    return made


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["start"], "start"),
        (["start", "rl"], "start"),
        (["start", "pretrain"], "pretrain"),
        (["start", "pretrain", "encoder-rl", "rl"], "pretrain"),
        (["start", "pretrain", "cold_start", "encoder-rl", "rl"], "cold_start"),
    ],
)
def test_audits_compare_with_the_last_point_before_rl(names, expected):
    assert before_rl([point(name) for name in names]).name == expected


SMALL = EvaluationConfig(num_scenes=3, num_questions=1, prompts_per_category=1, micro_batch=2)
EVALUATOR = SceneEvaluator(SMALL, {"clip": 1.0}, 128)
PICTURES = ("captions", "generation_raw", "generation_long", "truths")


@pytest.fixture(scope="module")
def observed(random_model_folder, tmp_path_factory):
    """A point observed without a second decoder, and all that its progress was told."""
    model = UnifiedAutoEncoder.from_pretrained(random_model_folder)
    clip = load_similarity(model.settings.similarity["clip"])
    told = []
    folder = evaluate_point(
        "start",
        tmp_path_factory.mktemp("run"),
        EVALUATOR,
        model,
        None,
        {"clip": clip},
        lambda *counts: told.append(counts),
    )
    return folder, told


def test_every_batch_is_shown_from_nothing_to_all(observed):
    _, told = observed
    assert [counts for counts in told if counts[0] == "captioning"] == [
        ("captioning", 0, 3),
        ("captioning", 2, 3),
        ("captioning", 3, 3),
    ]
    kinds = list(dict.fromkeys(what for what, _, _ in told))
    assert kinds == ["captioning", *(f"drawing {n}" for n in PICTURES), "answering"]
    for kind in kinds:
        counts = [done for what, done, _ in told if what == kind]
        assert counts[0] == 0
        assert counts == sorted(set(counts))
        assert (kind, counts[-1], counts[-1]) in told


def test_without_a_second_decoder_the_swap_test_is_not_measured(observed):
    folder, _ = observed
    seen, pictures = load(folder)
    assert seen.swap_similarities == {}
    assert set(pictures) == set(PICTURES)
    point = EVALUATOR.score(folder, "start")
    assert point.audit.swap_similarity is None
    means = headlines(point.metrics, EVALUATOR.headlines)
    assert means["reconstruction/reward"] == pytest.approx(np.mean(seen.similarities["clip"]))
    assert means["caption/num_tokens"] == np.mean(seen.num_tokens)
    assert "reconstruction/swap" not in means, "not measured"
    assert "reconstruction/held_out" not in means, "the only backbone is the reward"
