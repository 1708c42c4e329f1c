"""A whole run through `train_recipe`, on a tiny model with random weights."""

import importlib.util
import logging
import math
import resource
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from stub_dreamsim import install

from uae.core.errors import DamagedCheckpoint, EnvironmentFault, RunFailed, Stopped, UsageError
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.optimizer import FineTuneConfig
from uae.recipe.plan import point_after, stages_of
from uae.recipe.recipe import Recipe
from uae.runs import run, tracking
from uae.runs.cut_captions import Reader, count_cut, read_cut
from uae.runs.metrics import Metrics, read_metrics
from uae.runs.progress import Progress
from uae.runs.tracking import Tracker
from uae.scenes.evaluator import HEADLINES
from uae.scenes.run_images import run_images
from uae.train import checks as preflight
from uae.train.points import (
    EVALUATIONS,
    check_gate,
    point_folders,
    point_name,
    record_point,
)
from uae.train.run import Trained, train_recipe
from uae.train.run_report import notes_of, read_recipe, score_run, write_run_report
from uae.train.stage_folder import SUMS, save_stage

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
            "objective": {"window": 1, "window_starts": 1},
        },
        "evaluation": {
            "num_scenes": NUM_SCENES,
            "num_questions": 1,
            "prompts_per_category": 1,
            "num_shown": 2,
        },
    }
    return Recipe(**{**values, **changes})


def trained(recipe: Recipe, out: Path) -> Trained:
    return train_recipe(recipe, out, run_images(recipe))


class FakeTracker(Tracker):
    """Stands for trackio, which is an extra."""

    def __init__(self, *_):
        self.tables = {}
        self.lines = []

    def log(self, step, stage, values):
        self.lines.append((stage, step))

    def table(self, step, stage, rows):
        self.tables[stage, step] = rows

    def finish(self):
        pass


TRACKER = FakeTracker()


@pytest.mark.parametrize(
    ("stage", "changes", "name"),
    [
        ("pretrain", {}, "pretrain"),
        ("rl", {}, "decoder-rl"),
        ("rl", {"schedule": "encoder"}, "encoder-rl"),
        ("rl", {"schedule": "joint"}, "joint-rl"),
        ("rl", {"alternate_every": 1}, "decoder-rl"),
    ],
)
def test_an_evaluation_point_has_the_name_of_what_came_before(stage, changes, name):
    assert point_after(stage, small_recipe("uae-tiny", **changes)) == name


def test_sides_that_take_many_turns_share_a_point():
    recipe = small_recipe("uae-tiny", alternate_every=1)
    longer = replace(recipe, encoder_rl=replace(recipe.encoder_rl, num_steps=2))
    assert point_after("rl", longer) == "rl"


@pytest.fixture(scope="module")
def finished(random_model_folder, tmp_path_factory):
    """A recipe and the folder of its finished run."""
    recipe = small_recipe(random_model_folder, track=True)
    out = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "Tracker", lambda *_: TRACKER)
        patch.setattr(preflight, "check_installed", lambda: None)
        assert trained(recipe, out).model == out / "model"
        yield recipe, out


def times(folder) -> dict:
    """When each file under a folder was last written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def weights(model) -> list[str]:
    """Digests of a model's weights; diffusers' configs name the folder they were read from."""
    return [x for x in (model / SUMS).read_text().splitlines() if x.endswith(".safetensors")]


def test_a_run_ends_in_a_model_and_a_report(finished):
    _, out = finished
    assert (out / "report.html").stat().st_size > 10_000
    assert UnifiedAutoEncoder.from_pretrained(out / "model").decoder.size_px == 64
    assert sorted(f.name for f in (out / "stages").iterdir()) == ["pretrain", "rl"]


def test_a_condition_that_saw_the_image_is_named(finished):
    _, out = finished
    recipe = read_recipe(out)
    points = score_run(out, run_images(recipe).evaluator)
    assert "condition: image" not in notes_of(recipe, points[0])
    cold_start = replace(recipe.cold_start, num_steps=3, condition="image")
    assert "condition: image" in notes_of(replace(recipe, cold_start=cold_start), points[0])


def test_a_run_is_evaluated_before_and_after_each_stage(finished):
    _, out = finished
    points = [point_name(folder) for folder in point_folders(out)]
    assert points == ["start", "pretrain", "encoder-rl", "decoder-rl"]
    assert not list((out / EVALUATIONS).glob(".*"))


def test_the_report_audits_what_was_excluded(finished):
    _, out = finished
    assert "<b>Excluded samples</b>" in (out / "report.html").read_text()


def test_the_report_names_each_point(finished):
    _, out = finished
    page = (out / "report.html").read_text()
    assert all(name in page for name in ("start", "pretrain", "encoder-rl"))


def test_the_report_says_where_no_backbone_is_held_out(finished, tmp_path):
    _, out = finished
    copy = tmp_path / "run"
    shutil.copytree(out, copy, ignore=shutil.ignore_patterns("checkpoints", "stages", "model"))
    config = yaml.safe_load((copy / "config.yaml").read_text())
    config["reward"] = {"clip": 1.0, "dinov2": 1.0}
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    recipe = read_recipe(copy)
    write_run_report(copy, recipe, run_images(recipe).evaluator)
    page = (copy / "report.html").read_text()
    said = "Held-out similarity was not measured: every backbone is in the reward. Audits: "
    assert said in page
    assert "Similarity by the backbone that is never a reward: not measured." in page
    assert "n/a before" not in page
    assert "was not measured: every backbone" not in (out / "report.html").read_text()


@pytest.mark.parametrize(("reward", "num_said"), [({"clip": 1}, 0), ({"clip": 1, "dinov2": 1}, 1)])
def test_a_reward_of_every_backbone_is_warned_of_once(
    random_model_folder, caplog, reward, num_said
):
    recipe = small_recipe(random_model_folder, reward=reward)
    preflight.check_inputs(recipe, run_images(recipe).evaluator)
    said = [m for m in caplog.messages if "all of the model's similarity backbones" in m]
    assert len(said) == num_said
    assert all("reward: clip, dinov2 are" in m for m in said)


def test_each_point_has_one_line_of_headlines(finished):
    _, out = finished
    lines = [x for x in read_metrics(out / "metrics.jsonl") if x["stage"] == "evaluation"]
    assert [line["step"] for line in lines] == [0, 1, 2, 3]
    for line in lines:
        names = {name for name in line if "/" in name}
        assert {"reconstruction/reward", "reconstruction/held_out", "caption/num_tokens"} <= names
        assert names <= set(HEADLINES)
        assert all(math.isfinite(line[name]) for name in names)


def test_each_point_sends_the_same_images_to_the_tracker(finished):
    assert list(TRACKER.tables) == [("evaluation", number) for number in range(4)]
    assert [place for place in TRACKER.lines if place[0] == "evaluation"] == list(TRACKER.tables)
    originals = {tuple(row.image.tobytes() for row in rows) for rows in TRACKER.tables.values()}
    assert len(originals) == 1
    for rows in TRACKER.tables.values():
        assert len(rows) == 2
        assert all(row.caption and row.redraw.size == row.image.size for row in rows)
        assert all(-1 <= row.reward <= 1 for row in rows)


def test_a_point_whose_line_was_lost_is_written_again_and_only_then(finished, tmp_path):
    recipe, out = finished
    metrics = Metrics(tmp_path)
    for folder in [*point_folders(out)[:2], *point_folders(out)]:
        record_point(folder, metrics, run_images(recipe).evaluator, recipe.evaluation.num_shown)
    metrics.close()
    written = read_metrics(tmp_path / "metrics.jsonl")
    lines = [x for x in read_metrics(out / "metrics.jsonl") if x["stage"] == "evaluation"]
    assert [x | {"wall_s": 0} for x in written] == [x | {"wall_s": 0} for x in lines]


def test_the_gate_warns_of_what_will_be_forgotten(finished, caplog):
    recipe, out = finished
    check_gate(recipe, out, "base", run_images(recipe).evaluator)
    [warning] = caplog.messages
    assert "does not pass the drawability gate" in warning
    assert "shape 0.0 % (at least 85.0 %)" in warning
    assert "encoder RL will forget the words for color, position, size, count, shape" in warning


@pytest.mark.parametrize(
    "changes", [{"gate": "off"}, {"schedule": "decoder"}], ids=["off", "no encoder"]
)
def test_the_gate_is_silent_where_nothing_will_be_forgotten(finished, caplog, changes):
    recipe, out = finished
    check_gate(replace(recipe, **changes), out, "base", run_images(recipe).evaluator)
    assert not caplog.messages


def test_the_gate_stops_a_run_before_encoder_rl_and_keeps_it(
    random_model_folder, tmp_path, monkeypatch
):
    recipe = small_recipe(random_model_folder, gate="stop", pretrain={"num_steps": 0})
    out = tmp_path / "run"
    with pytest.raises(RunFailed, match=r"shape .* \(at least 85\.0 %\)") as caught:
        trained(recipe, out)
    assert caught.value.exit_code == 1
    assert f"--out NEW --model {random_model_folder} --pretrain.num-steps MORE" in str(caught.value)
    assert not (out / "stages").exists()
    monkeypatch.setattr(UnifiedAutoEncoder, "draw", None)
    with pytest.raises(RunFailed, match="keeps all that is done"):
        trained(recipe, out)
    assert [point_name(folder) for folder in point_folders(out)] == ["start"]


def test_a_finished_run_does_nothing_again(finished):
    recipe, out = finished
    kept = [out / name for name in ("stages", "checkpoints", EVALUATIONS, "model")]
    before = [times(folder) for folder in kept]
    assert all(before)
    metrics = (out / "metrics.jsonl").read_bytes()
    assert trained(recipe, out).model == out / "model"
    assert [times(folder) for folder in kept] == before
    assert (out / "metrics.jsonl").read_bytes() == metrics


def test_a_damaged_line_of_metrics_ends_neither_report_nor_resume(finished, tmp_path, caplog):
    recipe, whole = finished
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    first, *others = (out / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (out / "metrics.jsonl").write_bytes(first[:20] + b"\n" + b"".join(others))
    write_run_report(out, recipe, run_images(recipe).evaluator)
    assert trained(recipe, out).model == out / "model"
    said = [text for text in caplog.messages if "metrics.jsonl, line 1 is damaged" in text]
    assert len(said) == 2


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "add"])
def test_a_damaged_stage_is_named_and_made_again(finished, tmp_path, damage):
    recipe, whole = finished
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    shutil.rmtree(out / "model")
    stage = out / "stages" / "rl"
    path = next((stage / "decoder").rglob("*.safetensors"))
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[:-100])
    elif damage == "remove":
        path.unlink()
    else:
        path = stage / "decoder" / "more.bin"
        path.write_bytes(b"")
    with pytest.raises(DamagedCheckpoint, match=rf"{path} is not as it was saved"):
        trained(recipe, out)
    assert not (out / "model").exists()
    shutil.rmtree(stage)
    assert weights(trained(recipe, out).model) == weights(whole / "model")


def test_a_stage_without_its_digests_is_damaged(finished, tmp_path):
    recipe, whole = finished
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    assert trained(recipe, out).model == out / "model"  # which is copied already
    shutil.rmtree(out / "model")
    (out / "stages" / "rl" / SUMS).unlink()
    with pytest.raises(DamagedCheckpoint, match=rf"{SUMS}: No such file"):
        trained(recipe, out)


def test_sha256sum_checks_a_result(finished):
    _, out = finished
    check = ["sha256sum", "--check", "--quiet", SUMS]
    assert subprocess.run(check, cwd=out / "model").returncode == 0


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
    with pytest.raises(UsageError, match=r"evaluation\.num_questions, .* or fewer questions"):
        trained(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_recipe_without_steps_is_refused_before_anything_is_written(
    random_model_folder, tmp_path
):
    recipe = Recipe(model=str(random_model_folder))
    assert stages_of(recipe) == []
    with pytest.raises(UsageError, match="the recipe has no steps"):
        trained(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unknown_reward_backbone_is_named(random_model_folder, tmp_path):
    recipe = small_recipe(random_model_folder, reward={"clip": 1.0, "siglip": 0.5})
    with pytest.raises(UsageError, match=r"reward\.siglip: .* expected one of clip, dinov2"):
        trained(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_dreamsim_rewards_a_model_that_does_not_name_it(random_model_folder, tmp_path, monkeypatch):
    install(monkeypatch, tmp_path)
    recipe = small_recipe(
        random_model_folder,
        reward={"dreamsim": 1.0, "clip": 0.0},
        schedule="decoder",
        pretrain={"num_steps": 0},
    )
    trained(recipe, tmp_path / "run")
    points = score_run(tmp_path / "run", run_images(recipe).evaluator)
    similarities = points[-1].observations.similarities
    assert set(similarities) == {"clip", "dinov2", "dreamsim"}
    assert points[-1].audit.reward_similarity == pytest.approx(similarities["dreamsim"])
    assert points[-1].audit.held_out_similarity == pytest.approx(similarities["dinov2"])
    [line] = [x for x in read_metrics(tmp_path / "run/metrics.jsonl") if x["stage"] == "decoder_rl"]
    assert math.isfinite(line["reward/mean"])


def test_a_reward_without_its_package_says_what_to_install_and_leaves_no_folder(
    random_model_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(UnifiedAutoEncoder, "from_pretrained", None)
    recipe = small_recipe(random_model_folder, reward={"dreamsim": 1.0})
    with pytest.raises(EnvironmentFault, match=r'dreamsim: pip install "uae\[dreamsim\]"'):
        trained(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_tracking_without_trackio_leaves_no_folder(random_model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "check_installed", tracking.check_installed)
    plain = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "trackio" else plain(name, *a)
    )
    with pytest.raises(EnvironmentFault, match="trackio is not installed"):
        trained(small_recipe(random_model_folder, track=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_signal_ends_an_evaluation_which_begins_again(random_model_folder, tmp_path, monkeypatch):
    """In the first point and in the last one, after which the run would have been over."""
    recipe = small_recipe(random_model_folder, schedule="decoder", pretrain={"num_steps": 0})
    out, plain = tmp_path / "run", Progress.show

    def show(self, title, done, *args, **kwargs):
        if title == stop_at and done:
            signal.raise_signal(signal.SIGTERM)
        plain(self, title, done, *args, **kwargs)

    monkeypatch.setattr(Progress, "show", show)
    for point, done in (("start", []), ("decoder-rl", ["start"])):
        stop_at = f"evaluation {point}: captioning"
        with pytest.raises(Stopped, match="stopped by SIGTERM"):
            trained(recipe, out)
        assert [point_name(folder) for folder in point_folders(out)] == done
    stop_at = ""
    assert trained(recipe, out).model == out / "model"


def test_a_model_that_finds_no_space_is_not_half_there(random_model_folder, tmp_path):
    model = UnifiedAutoEncoder.from_pretrained(random_model_folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(EnvironmentFault, match=r"rl: .*; free some space"):
            save_stage(model, tmp_path / "rl")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "rl").exists()
    save_stage(model, tmp_path / "rl")
    UnifiedAutoEncoder.from_pretrained(tmp_path / "rl")


def test_captions_beyond_the_decoder_are_said_once(random_model_folder, tmp_path, caplog):
    model = UnifiedAutoEncoder.from_pretrained(random_model_folder)
    limit = model.settings.max_caption_tokens
    captions = {"a.png": "A red circle.", "b.png": "A red circle. " * limit}
    with caplog.at_level(logging.WARNING):
        count_cut(tmp_path, "data", Reader(model.conditioner.num_tokens, limit), captions)
    said = f"1 of 2 captions (data) have more than the {limit} tokens that the generator reads"
    assert [f"{said} (first b.png)" in m for m in caplog.messages] == [True]
    [cut] = read_cut(tmp_path)
    assert str(cut) == said


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
