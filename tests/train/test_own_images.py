"""A run on the user's own images is measured on those that are held out."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from uae.core.errors import UsageError
from uae.data.shapes import Shapes
from uae.data.survey import survey
from uae.models.settings import read_settings, write_settings
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.recipe import Recipe
from uae.rewards.loading import load_similarity
from uae.scenes.evaluator import SceneEvaluator
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image
from uae.scenes.run_images import run_images
from uae.train.observe import load
from uae.train.own_images import OwnImages, held_out_names
from uae.train.points import evaluate_point, headlines
from uae.train.run import train_recipe

NAMES = st.sets(st.text(min_size=1, max_size=8), min_size=4, max_size=60)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(12):
        render_image(scene_at(i, "train"), 48).save(folder / f"{i}.png")
        if i > 4:
            (folder / f"{i}.txt").write_text("A red circle in the center on a gray background.")
    return folder


def recipe_of(photos, model, **data) -> Recipe:
    return Recipe(
        model=str(model),
        data={"folder": str(photos), "held_out_share": 0.4, **data},
        schedule="encoder",
        checkpoint_every=1,
        tune_encoder={"rank": 2, "alpha": 4},
        encoder_rl={
            "num_steps": 1,
            "num_images": 1,
            "micro_images": 1,
            "captioning": {"num_captions": 2, "max_new_tokens": 8},
            "sampling": {"num_steps": 1},
        },
        evaluation={"num_images": 3, "num_shown": 2, "micro_batch": 2},
    )


@settings(max_examples=30, deadline=None)
@given(NAMES, st.floats(0, 1))
def test_a_share_is_held_out_by_name_whatever_the_order(names, share):
    held_out = held_out_names(sorted(names), share)
    assert held_out == held_out_names(sorted(names, reverse=True), share)
    assert set(held_out) <= names
    assert len(held_out) == max(2, round(share * len(names)))


@settings(max_examples=30, deadline=None)
@given(NAMES, st.floats(0, 1), st.text(min_size=1))
def test_another_image_moves_few_of_the_others(names, share, more):
    before, after = (set(held_out_names(sorted(n), share)) for n in (names, names | {more}))
    assert len((before ^ after) - {more}) <= 2


def test_held_out_images_are_never_trained_on(photos, random_model_folder):
    images = run_images(recipe_of(photos, random_model_folder))
    assert isinstance(images.evaluator, OwnImages)
    source = images.source(Shapes(48), survey(photos))
    trained_on = {source.sample(i, 0).name for i in range(len(source))}
    held_out = set(held_out_names(sorted(f"{i}.png" for i in range(12)), 0.4))
    assert trained_on.isdisjoint(held_out)
    assert len(trained_on | held_out) == 12
    assert set(images.evaluator.names()) < held_out, "3 of the 5 are looked at"


def test_captions_that_change_during_a_run_are_still_those_it_began_with(
    photos, random_model_folder
):
    images = run_images(recipe_of(photos, random_model_folder))
    images.source(Shapes(48), survey(photos))
    for path in photos.glob("*.txt"):
        path.write_bytes(b"\xff other words")
    model = UnifiedAutoEncoder.from_pretrained(random_model_folder)
    texts = images.evaluator.subjects(model, lambda *_: None).texts
    assert set(texts["given"]) == {"A red circle in the center on a gray background."}


def test_redraws_of_given_captions_are_compared(photos, random_model_folder, tmp_path):
    evaluator = run_images(recipe_of(photos, random_model_folder)).evaluator
    model = UnifiedAutoEncoder.from_pretrained(random_model_folder)
    backbones = {name: load_similarity(path) for name, path in model.settings.similarity.items()}
    folder = evaluate_point("start", tmp_path, evaluator, model, "same", backbones)
    seen = json.loads((folder / "observations.json").read_text())
    column = np.array(seen["more_similarities"]["given"]["dinov2"])
    has_caption = [int(name.removesuffix(".png")) > 4 for name in evaluator.names()]
    np.testing.assert_array_equal(np.isfinite(column), has_caption)
    point = evaluator.score(folder, "start")
    numbers = headlines(point.metrics, evaluator.headlines)
    assert numbers["reconstruction/given"] == pytest.approx(np.nanmean(column))
    assert numbers["reconstruction/swap"] == numbers["reconstruction/held_out"]
    assert numbers["caption/num_tokens"] > 0
    kept = seen["readings"]
    described = ["A red circle in the center on a gray background."] * sum(has_caption)
    assert kept["captions"] == described
    assert all(len(texts) == len(described) for texts in kept.values())
    assert point.gate is not None


def test_a_run_on_photos_reports_on_them(photos, random_model_folder, tmp_path):
    recipe = recipe_of(photos, random_model_folder)
    train_recipe(recipe, tmp_path / "run", run_images(recipe))
    page = (tmp_path / "run" / "report.html").read_text()
    assert "3 held-out images of photos (of 12)" in page
    assert "given captions, held-out backbone" in page
    assert "Words of captions that the encoder reads again" in page
    later = json.loads((tmp_path / "run/evaluations/1-encoder-rl/observations.json").read_text())
    assert not later["readings"], "RL has touched the encoder"


def test_photos_are_redrawn_in_their_own_shapes(photos, random_model_folder, tmp_path):
    for i in range(12):
        wide = Image.open(photos / f"{i}.png").resize((80, 48) if i % 2 else (48, 64))
        wide.save(photos / f"{i}.png")
    model = tmp_path / "model"
    shutil.copytree(random_model_folder, model)
    write_settings(model, replace(read_settings(model), shapes="own", size_px=32))
    recipe = recipe_of(photos, model)
    train_recipe(recipe, tmp_path / "run", run_images(recipe))
    _, pictures = load(tmp_path / "run/evaluations/0-start")
    names = run_images(recipe).evaluator.names()
    for name, redraw in zip(names, pictures["captions"], strict=True):
        height, width = redraw.shape[:2]
        assert (width > height) == bool(int(name.removesuffix(".png")) % 2)
        assert height * width == pytest.approx(32**2, rel=0.2)
    assert (tmp_path / "run/report.html").is_file()


def test_without_a_share_a_run_is_measured_on_scenes(photos, random_model_folder):
    images = run_images(recipe_of(photos, random_model_folder, held_out_share=0))
    assert isinstance(images.evaluator, SceneEvaluator)
    source = images.source(Shapes(48), survey(photos))
    assert [len(bucket.indices) for bucket in source.buckets(4)] == [12]


def test_too_few_images_are_refused(photos, random_model_folder):
    for i in range(3, 12):
        (photos / f"{i}.png").unlink()
    with pytest.raises(UsageError, match=r"has 3 images: expected 4 or more, .*held_out_share 0"):
        run_images(recipe_of(photos, random_model_folder))


def test_held_out_images_that_do_not_open_are_passed_over(photos, random_model_folder):
    held_out = held_out_names(sorted(f"{i}.png" for i in range(12)), 0.4)
    for name in held_out[:3]:
        (photos / name).write_bytes(b"no image")
    evaluator = run_images(recipe_of(photos, random_model_folder)).evaluator
    assert list(evaluator.names()) == held_out[3:]
    evaluator.check()
    (photos / held_out[3]).write_bytes(b"no image")
    with pytest.raises(UsageError, match="fewer than two of its 5 held-out images can be read"):
        run_images(recipe_of(photos, random_model_folder)).evaluator.check()
