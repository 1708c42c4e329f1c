"""A whole run through `train_recipe`, on a tiny model with random weights."""

import pytest

from uae.errors import UsageError
from uae.eval.points import EVALUATIONS, point_folders, point_name
from uae.models.finetune import FineTuneConfig
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe import Recipe
from uae.stages import stages_of, train_recipe

LORA = {"rank": 2, "alpha": 4}
SHORT = {"num_captions": 2, "max_new_tokens": 8}
NUM_SCENES = 2
"""The first held-out scene allows a question of each subtask; two make an interval."""


def small_recipe(model_folder, **changes) -> Recipe:
    """One step of each stage but the cold start."""
    values = {
        "model": str(model_folder),
        "data": {"num_scenes": 8},
        "checkpoint_every": 1,
        "tune_encoder": LORA,
        "tune_decoder": LORA,
        "pretrain": {"num_steps": 1, "batch_size": 2, "micro_batch": 2},
        "encoder_rl": {
            "num_steps": 1,
            "num_images": 1,
            "micro_images": 1,
            "captioning": SHORT,
            "sampling": {"num_steps": 1},
        },
        "decoder_rl": {
            "num_steps": 1,
            "num_images": 1,
            "micro_images": 1,
            "captioning": {**SHORT, "num_captions": 1},
            "num_redraws": 2,
            "num_sampling_steps": 3,
            "window": 1,
            "window_starts": 1,
        },
        "evaluation": {
            "num_scenes": NUM_SCENES,
            "num_questions": 1,
            "prompts_per_category": 1,
            "num_shown": 2,
        },
    }
    return Recipe(**{**values, **changes})


@pytest.fixture(scope="module")
def finished(random_model_folder, tmp_path_factory):
    """A recipe and the folder of its finished run."""
    recipe = small_recipe(random_model_folder)
    out = tmp_path_factory.mktemp("runs") / "run"
    assert train_recipe(recipe, out) == out / "model"
    return recipe, out


def times(folder) -> dict:
    """When each file under a folder was last written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_run_ends_in_a_model_and_a_report(finished):
    _, out = finished
    assert (out / "report.html").stat().st_size > 10_000
    assert UnifiedAutoEncoder.from_pretrained(out / "model").decoder.size_px == 64
    assert sorted(f.name for f in (out / "stages").iterdir()) == ["pretrain", "rl"]


def test_a_run_is_evaluated_before_and_after_each_stage(finished):
    _, out = finished
    points = [point_name(folder) for folder in point_folders(out)]
    assert points == ["start", "pretrain", "encoder-rl", "rl"]
    assert not list((out / EVALUATIONS).glob(".*"))


def test_the_report_names_each_point(finished):
    _, out = finished
    page = (out / "report.html").read_text()
    assert all(name in page for name in ("start", "pretrain", "encoder-rl"))


def test_a_finished_run_does_nothing_again(finished):
    recipe, out = finished
    kept = [out / name for name in ("stages", "checkpoints", EVALUATIONS, "model")]
    before = [times(folder) for folder in kept]
    assert all(before)
    metrics = (out / "metrics.jsonl").read_bytes()
    assert train_recipe(recipe, out) == out / "model"
    assert [times(folder) for folder in kept] == before
    assert (out / "metrics.jsonl").read_bytes() == metrics


def test_a_trained_model_can_be_trained_on(finished):
    """Its adapters are merged: nothing of them is left for new ones to meet."""
    _, out = finished
    model = UnifiedAutoEncoder.from_pretrained(out / "model")
    for tuning in (
        model.tune_encoder(FineTuneConfig(), 0),
        model.tune_decoder(FineTuneConfig(), 0),
    ):
        assert all("lora" in name for name in tuning.parameters())


def test_more_questions_than_scenes_are_refused(random_model_folder, tmp_path):
    evaluation = {"num_scenes": 1, "num_questions": 2, "prompts_per_category": 1}
    recipe = small_recipe(random_model_folder, evaluation=evaluation)
    with pytest.raises(ValueError, match="expected more scenes or fewer questions"):
        train_recipe(recipe, tmp_path / "run")


def test_a_recipe_without_steps_is_refused_before_anything_is_written(tmp_path):
    recipe = Recipe(model="no such folder")
    assert stages_of(recipe) == []
    with pytest.raises(UsageError, match="the recipe has no steps"):
        train_recipe(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unknown_reward_backbone_is_named(random_model_folder, tmp_path):
    recipe = small_recipe(random_model_folder, reward={"clip": 1.0, "siglip": 0.5})
    with pytest.raises(UsageError, match=r"reward\.siglip: .* expected one of clip, dinov2"):
        train_recipe(recipe, tmp_path / "run")


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ({"pretrain": 1}, ["pretrain"]),
        ({"decoder_rl": 1}, ["rl"]),
        ({"encoder_rl": 2, "cold_start": 1, "pretrain": 3}, ["pretrain", "cold_start", "rl"]),
    ],
)
def test_stages_keep_their_order(steps, expected):
    assert stages_of(Recipe(**{k: {"num_steps": n} for k, n in steps.items()})) == expected
