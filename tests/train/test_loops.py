"""The training loops, through their real classes on a tiny model with random weights."""

import copy
import functools
import math
import signal

import pytest
import torch

from tests.compiling import compile_in_python, quiet
from uae.core.errors import NonFinite, Stopped
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.placement import PlacementConfig
from uae.recipe.recipe import Recipe
from uae.rewards.loading import load_backbones
from uae.runs.metrics import METRICS, read_metrics
from uae.runs.progress import Progress
from uae.runs.run import Run
from uae.scenes.run_images import run_images
from uae.scenes.source import SceneSource
from uae.train import cold_start, decoder_rl, encoder_rl, pretrain
from uae.train.learner import Learner
from uae.train.run import (
    Context,
    load_model,
    run_cold_start,
    run_pretrain,
    run_rl,
    take_turns,
)
from uae.train.session import Session

RECIPE = {
    "tune_encoder": {"rank": 4, "alpha": 8},
    "tune_decoder": {"rank": 4, "alpha": 8},
    "checkpoint_every": 2,
    "pretrain": {"num_steps": 3, "batch_size": 4, "micro_batch": 4},
    "cold_start": {
        "num_steps": 2,
        "batch_size": 2,
        "micro_batch": 2,
        "captioning": {"num_captions": 1, "max_new_tokens": 16},
        "sampling": {"num_steps": 2},
    },
    "encoder_rl": {
        "num_steps": 3,
        "num_images": 2,
        "micro_images": 2,
        "captioning": {"num_captions": 4, "max_new_tokens": 16},
        "sampling": {"num_steps": 2},
        "kl_beta": 0.1,
        "optimizer": {"lr": 1e-3},
    },
    "decoder_rl": {
        "num_steps": 3,
        "num_images": 2,
        "micro_images": 2,
        "captioning": {"num_captions": 1, "max_new_tokens": 16},
        "num_redraws": 4,
        "num_sampling_steps": 4,
        "objective": {"window_starts": 2},
    },
}
ONE_STEP = {"num_steps": 1}
AWM = {"objective": {"name": "awm"}, "kl_beta": 0.5}
RUNNERS = {"pretrain": run_pretrain, "cold_start": run_cold_start, "rl": run_rl}


def recipe_with(**changes) -> Recipe:
    """The small recipe with whole sections, or keys within them, replaced."""
    merged = {
        key: {**RECIPE.get(key, {}), **value} if isinstance(value, dict) else value
        for key, value in changes.items()
    }
    return Recipe(**{**RECIPE, **merged})


@functools.cache
def loaded(model_folder):
    """The model before training, to be copied, and its backbones, which nothing changes."""
    model = UnifiedAutoEncoder.from_pretrained(model_folder)
    return model, load_backbones(model.settings.similarity)


def trained(folder, model_folder, stage, recipe=None, stop_at=None):
    """Run one stage and return all weights, or the error that stopped it."""
    recipe = recipe or recipe_with()
    if recipe.placement == PlacementConfig():
        model, backbones = loaded(model_folder)
        model = copy.deepcopy(model)
    else:
        model = load_model(model_folder, recipe, takes_turns=True)
        backbones = load_backbones(model.settings.similarity)
    source = SceneSource("train", 50, model.decoder.size_px, recipe.seed)
    with Run.open(folder, {"stage": stage}) as run:
        evaluator = run_images(recipe).evaluator
        if recipe.placement.offload:
            take_turns(backbones, model, recipe)
            forbid_work_elsewhere(model, backbones)
        context = Context(recipe, run, model, source, backbones, evaluator)
        if stop_at is not None:
            stop_in_step(run, stop_at)
        RUNNERS[stage](context)
    parts = {
        "encoder": model.encoder.model,
        "projector": model.projector,
        "decoder": model.decoder.transformer,
    }
    return {f"{n}.{k}": v for n, part in parts.items() for k, v in part.state_dict().items()}


def forbid_work_elsewhere(model, backbones) -> None:
    """Let no module run while its part waits in CPU memory, as on a GPU none could."""
    modules = {
        "encoder": [model.encoder.model],
        "decoder": [model.decoder.transformer, model.decoder.family.vae],
        "rewards": [backbone.model for backbone in backbones.values()],
    }
    for name, parts in modules.items():

        def check(*_, name=name):
            assert name in model.offload.here, f"{name} works and is not there"

        for module in parts:
            for inner in module.modules():
                inner.register_forward_pre_hook(check)


def stop_in_step(run: Run, step: int) -> None:
    """Send SIGTERM to this process when the metrics of `step` are written."""
    plain = run.metrics.write

    def write(values):
        plain(values)
        if run.metrics._place[0] == step:
            signal.raise_signal(signal.SIGTERM)

    run.metrics.write = write


def largest_gap(one, other):
    assert one.keys() == other.keys()
    return max((one[k].double() - other[k].double()).abs().max().item() for k in one)


@pytest.fixture(autouse=True)
def no_evaluation(monkeypatch):
    monkeypatch.setattr(Context, "evaluate", lambda self, point: None)


@pytest.fixture(scope="module")
def whole(random_model_folder, tmp_path_factory):
    """Return a stage's folder and weights where nothing stopped it; it runs once."""

    @functools.cache
    def run(stage):
        folder = tmp_path_factory.mktemp("whole")
        return folder, trained(folder, random_model_folder, stage)

    return run


@pytest.mark.parametrize("stage", list(RUNNERS))
def test_a_seed_fixes_every_weight(stage, tmp_path, random_model_folder, whole):
    _, one = whole(stage)
    other = trained(tmp_path / "other", random_model_folder, stage)
    start = UnifiedAutoEncoder.from_pretrained(random_model_folder)
    assert largest_gap(one, other) == 0.0
    if stage != "rl":
        key = "decoder.proj_out.weight"
        assert not torch.equal(one[key], start.decoder.transformer.state_dict()["proj_out.weight"])


@pytest.mark.parametrize(
    ("stage", "stop_at"), [("pretrain", 0), ("cold_start", 0), ("rl", 0), ("rl", 2), ("rl", 4)]
)
def test_resumed_equals_uninterrupted(stage, stop_at, tmp_path, random_model_folder, whole):
    """Bit for bit: weights and metrics, with turns of either side before and after the stop."""
    folder, uninterrupted = whole(stage)
    with pytest.raises(Stopped) as stopped:
        trained(tmp_path / "parts", random_model_folder, stage, stop_at=stop_at)
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    resumed = trained(tmp_path / "parts", random_model_folder, stage)
    assert largest_gap(uninterrupted, resumed) == 0.0
    logs = [
        [
            {k: v for k, v in line.items() if not k.startswith(("time/", "wall_s"))}
            for line in read_metrics(run / "metrics.jsonl")
        ]
        for run in (folder, tmp_path / "parts")
    ]
    assert logs[0] == logs[1]


@pytest.mark.parametrize(
    ("stage", "section", "key", "changes"),
    [
        ("pretrain", "pretrain", "micro_batch", {}),
        ("rl", "encoder_rl", "micro_images", {"schedule": "encoder"}),
        ("rl", "decoder_rl", "micro_images", {"schedule": "decoder"}),
        ("rl", "decoder_rl", "micro_images", {"schedule": "decoder", "decoder_rl": AWM}),
        ("rl", "decoder_rl", "micro_redraws", {"schedule": "decoder"}),
        ("rl", "decoder_rl", "micro_redraws", {"schedule": "decoder", "decoder_rl": AWM}),
    ],
)
def test_micro_batches_change_nothing_but_rounding(
    stage, section, key, changes, tmp_path, random_model_folder
):
    """n x 1 == 1 x n: the gradient of a step has the same norm, up to float32 sums."""
    norms = []
    for size in (1, 4 if section == "pretrain" else 2):
        sized = {section: {**changes.get(section, {}), "num_steps": 1, key: size}}
        recipe = recipe_with(**{**changes, **sized})
        trained(tmp_path / str(size), random_model_folder, stage, recipe)
        norms.append(read_metrics(tmp_path / str(size) / "metrics.jsonl")[0]["optim/grad_norm"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ("pretrain", {}),
        ("cold_start", {}),
        ("rl", {"encoder_rl": {"num_steps": 1}, "decoder_rl": {"num_steps": 1}}),
        (
            "rl",
            {
                "schedule": "joint",
                "encoder_rl": {"num_steps": 1},
                "decoder_rl": {"num_steps": 1},
                "tune_encoder": {"mode": "full"},
            },
        ),
    ],
)
def test_parts_that_take_turns_change_no_weight(stage, changes, tmp_path, random_model_folder):
    plain = trained(tmp_path / "plain", random_model_folder, stage, recipe_with(**changes))
    turns = {"placement": {"offload": ["encoder", "decoder", "rewards"]}}
    recipe = recipe_with(**changes, **turns)
    assert largest_gap(plain, trained(tmp_path / "turns", random_model_folder, stage, recipe)) == 0


def test_joint_updates_both_sides(tmp_path, random_model_folder):
    recipe = recipe_with(schedule="joint", encoder_rl={"num_steps": 2}, decoder_rl={"num_steps": 2})
    weights = trained(tmp_path, random_model_folder, "rl", recipe)
    for side in ("encoder", "decoder"):
        moved = [v.abs().max() for k, v in weights.items() if k.startswith(side) and "lora_B" in k]
        assert max(moved) > 0
    line = read_metrics(tmp_path / "metrics.jsonl")[0]
    assert line["encoder/policy/ratio_mean"] == line["decoder/policy/ratio_mean"] == 1.0


@pytest.mark.parametrize(
    ("every", "stop_at", "expected"),
    [
        (0, None, ["encoder_rl 1/2", "encoder_rl 2/2", "decoder_rl 1/2", "decoder_rl 2/2"]),
        (1, 2, ["encoder_rl 1/2", "decoder_rl 1/2", "encoder_rl 2/2", "decoder_rl 2/2"]),
    ],
)
def test_progress_counts_the_own_steps_of_each_side(
    every, stop_at, expected, tmp_path, random_model_folder, monkeypatch
):
    shown = []
    monkeypatch.setattr(
        Progress, "show", lambda _, stage, done, total, *__: shown.append(f"{stage} {done}/{total}")
    )
    recipe = recipe_with(
        alternate_every=every, encoder_rl={"num_steps": 2}, decoder_rl={"num_steps": 2}
    )
    if stop_at is not None:
        with pytest.raises(Stopped):
            trained(tmp_path, random_model_folder, "rl", recipe, stop_at=stop_at)
    trained(tmp_path, random_model_folder, "rl", recipe)
    assert shown == expected
    lines = read_metrics(tmp_path / "metrics.jsonl")  # the turns share one count of steps
    assert [line["stage"] for line in lines] == [text.split()[0] for text in expected]
    assert [line["step"] for line in lines] == [0, 1, 2, 3]


@pytest.mark.parametrize("objective", ["flow_grpo", "awm"])
def test_ratio_is_exactly_one_before_the_first_update(
    objective, tmp_path, random_model_folder, whole
):
    if objective == "awm":
        recipe = recipe_with(schedule="decoder", decoder_rl={"objective": {"name": objective}})
        trained(tmp_path, random_model_folder, "rl", recipe)
    for line in read_metrics((tmp_path if objective == "awm" else whole("rl")[0]) / METRICS):
        assert line["policy/ratio_mean"] == 1.0
        assert line["policy/clipped_share"] == 0.0
        if line["stage"] == "encoder_rl":
            assert line["policy/sampling_gap"] < 1e-4
            assert 0 < line["caption/entropy"] < math.log(768)


@pytest.mark.slow
@quiet
def test_compiled_blocks_score_as_they_drew(tmp_path, random_model_folder, monkeypatch):
    """Ratios are exactly 1 by graphs too, in the second step with adapters that have learned."""
    compile_in_python(monkeypatch)
    small = {"num_steps": 2, "num_images": 1, "micro_images": 1}
    recipe = recipe_with(encoder_rl=small, decoder_rl=small, placement={"compile": True})
    trained(tmp_path, random_model_folder, "rl", recipe)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["policy/ratio_gap"] for line in lines] == [0.0] * 4


@pytest.mark.parametrize("rule", ["sde", "cps"])
def test_the_published_weighting_differs_in_the_sde_step_alone(rule, tmp_path, random_model_folder):
    """Flow-GRPO's KL lacks |dt| in its SDE step; its CPS step has the whole std."""
    seen = {}
    for weighting in ("exact", "flow_grpo"):
        objective = {"rule": rule, "kl_weighting": weighting, "window_starts": 1}
        recipe = recipe_with(
            schedule="decoder", decoder_rl={"num_steps": 2, "objective": objective}
        )
        trained(tmp_path / weighting, random_model_folder, "rl", recipe)
        # in the first step the KL is 0, its gradient too, so that both runs take the same step
        seen[weighting] = read_metrics(tmp_path / weighting / "metrics.jsonl")[1]["kl/reference"]
    assert seen["exact"] > 0
    if rule == "cps":
        assert seen["flow_grpo"] == seen["exact"]
    else:
        assert seen["flow_grpo"] < 0.5 * seen["exact"]


def test_full_fine_tuning_moves_the_language_model_alone(tmp_path, random_model_folder):
    full = {"mode": "full"}
    recipe = recipe_with(
        tune_encoder=full, tune_decoder=full, encoder_rl=ONE_STEP, decoder_rl=ONE_STEP
    )
    weights = trained(tmp_path, random_model_folder, "rl", recipe)
    start = UnifiedAutoEncoder.from_pretrained(random_model_folder).encoder.model.state_dict()
    moved = {k for k, v in start.items() if not torch.equal(weights[f"encoder.{k}"], v)}
    assert any("language_model" in k for k in moved)
    assert not any("visual" in k for k in moved)


def test_a_failed_redraw_is_excluded_and_counted(tmp_path, random_model_folder, monkeypatch):
    """NaN in one image's redraws: its group teaches less, the run goes on, nothing is scored 0."""
    from uae.models.dit.decoder import Decoder

    plain = Decoder.to_pixels

    def to_pixels(self, latents):
        pixels = plain(self, latents)
        pixels[0] = float("nan")
        return pixels

    monkeypatch.setattr(Decoder, "to_pixels", to_pixels)
    recipe = recipe_with(encoder_rl=ONE_STEP, decoder_rl=ONE_STEP)
    weights = trained(tmp_path, random_model_folder, "rl", recipe)
    assert all(value.isfinite().all() for value in weights.values())
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["group/excluded_samples"] >= 1 for line in lines] == [True, True]


@pytest.mark.parametrize(
    ("stage", "changes", "keys"),
    [
        ("pretrain", {}, {"pretrain"}),
        ("cold_start", {}, {"cold_start"}),
        ("rl", {}, {"encoder_rl", "decoder_rl"}),
        ("rl", {"schedule": "joint"}, {"encoder_rl", "decoder_rl"}),
    ],
)
def test_losses_and_gradients_know_the_key_of_their_rate(
    tmp_path, random_model_folder, monkeypatch, stage, changes, keys
):
    of_losses, of_gradients, plain = set(), set(), Learner.step
    for module in (pretrain, cold_start, encoder_rl, decoder_rl):
        monkeypatch.setattr(module, "check_finite", lambda *args: of_losses.add(args[2]))
    monkeypatch.setattr(
        Learner, "step", lambda self: (of_gradients.add(self.lr_key), plain(self))[1]
    )
    short = dict.fromkeys(("pretrain", "cold_start", "encoder_rl", "decoder_rl"), ONE_STEP)
    trained(tmp_path, random_model_folder, stage, recipe_with(**short, **changes))
    assert of_losses == of_gradients == {f"{key}.optimizer.lr" for key in keys}


@pytest.mark.parametrize("schedule", ["encoder", "joint"])
def test_a_step_of_truncated_captions_alone_is_said_once(
    schedule, tmp_path, random_model_folder, caplog
):
    short = {"num_steps": 2, "captioning": {"num_captions": 4, "max_new_tokens": 2}}
    recipe = recipe_with(schedule=schedule, encoder_rl=short, decoder_rl={"num_steps": 2})
    trained(tmp_path, random_model_folder, "rl", recipe)
    name = "encoder/group/excluded_samples" if schedule == "joint" else "group/excluded_samples"
    assert [line[name] for line in read_metrics(tmp_path / "metrics.jsonl")] == [8, 8]
    [said] = [text for text in caplog.messages if "no samples left" in text]
    assert said.startswith("step 0 of rl: the encoder has no samples left to compare")
    assert "8 of 8 are excluded; main reason: truncated captions (8)" in said


def test_a_step_of_failed_redraws_alone_is_said_for_each_side(
    tmp_path, random_model_folder, monkeypatch, caplog
):
    from uae.models.dit.decoder import Decoder

    plain = Decoder.to_pixels
    monkeypatch.setattr(Decoder, "to_pixels", lambda *args: plain(*args) * float("nan"))
    two = {"num_steps": 2}
    trained(tmp_path, random_model_folder, "rl", recipe_with(encoder_rl=two, decoder_rl=two))
    said = [text for text in caplog.messages if "no samples left" in text]
    assert [text.split(" has ")[0] for text in said] == [
        "step 0 of rl: the encoder",
        "step 2 of rl: the decoder",
    ]
    assert all("main reason: failed redraws or scores (" in text for text in said)


def test_a_loss_that_is_not_finite_stops_before_the_update(
    tmp_path, random_model_folder, monkeypatch
):
    plain = pretrain.flow_matching
    monkeypatch.setattr(pretrain, "flow_matching", lambda *args: plain(*args) * float("nan"))
    saved = []
    monkeypatch.setattr(Session, "save", lambda self: saved.append(self.step))
    with pytest.raises(NonFinite, match="flow-matching loss of step 0 is nan") as caught:
        trained(tmp_path, random_model_folder, "pretrain")
    remedy = "begin again with a lower pretrain.optimizer.lr in a new --out folder"
    assert str(caught.value).endswith(f": the update was not made; {remedy}")
    assert saved == []
