"""`docs/metrics.md` names exactly the metrics that exist."""

import numpy as np
import pytest
from documented import documented, expanded

from uae.benchmarks.geneval.clauses import TAGS
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.decoder_rl import OBJECTIVES
from uae.recipe.plan import stages_of
from uae.recipe.recipe import Recipe
from uae.rewards.loading import load_backbones
from uae.runs.metrics import read_metrics
from uae.runs.run import Run
from uae.scenes.drawability import drawability_samples
from uae.scenes.evaluation import SceneEvaluation, evaluate_captions, held_out_scenes, scene_metrics
from uae.scenes.evaluator import HEADLINES
from uae.scenes.generation import GenerationSamples
from uae.scenes.parser import parse
from uae.scenes.questions import CATEGORIES
from uae.scenes.render import render_image
from uae.scenes.run_images import run_images
from uae.scenes.source import SceneSource
from uae.scenes.understanding import AnswerSamples
from uae.train.evaluator import Similarities
from uae.train.points import headlines
from uae.train.run import STAGES, Context

LOOPS = ("pretrain", "cold_start", "encoder_rl", "decoder_rl", "joint")
SUPERVISED = {"num_steps": 1, "batch_size": 1, "micro_batch": 1}
RL = {"num_steps": 1, "num_images": 1, "micro_images": 1}
ENCODER = RL | {
    "captioning": {"num_captions": 2, "max_new_tokens": 4},
    "sampling": {"num_steps": 1},
}
DECODER = RL | {
    "captioning": {"num_captions": 1, "max_new_tokens": 4},
    "num_redraws": 2,
    "num_sampling_steps": 4,
}
WRITTEN = [
    ({"pretrain"}, {"pretrain": SUPERVISED}),
    (
        {"cold_start"},
        {
            "cold_start": SUPERVISED
            | {"captioning": DECODER["captioning"], "sampling": {"num_steps": 1}}
        },
    ),
    *(
        (
            {"encoder_rl", "decoder_rl"},
            {"encoder_rl": ENCODER, "decoder_rl": DECODER | {"objective": {"name": name}}},
        )
        for name in OBJECTIVES
    ),
    ({"joint"}, {"encoder_rl": ENCODER, "decoder_rl": DECODER, "schedule": "joint"}),
]
"""Recipes of a step of each loop, and of each objective of the decoder."""


@pytest.mark.parametrize(("loops", "values"), WRITTEN)
def test_each_loop_writes_the_documented_metrics(
    loops, values, random_model_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(Context, "evaluate", lambda self, point: None)
    recipe = Recipe(model=str(random_model_folder), **values)
    model = UnifiedAutoEncoder.from_pretrained(recipe.model)
    source = SceneSource("train", 4, model.decoder.size_px, 0)
    with Run.open(tmp_path / "run", {}) as run:
        backbones = load_backbones(model.settings.similarity)
        for stage in stages_of(recipe):
            evaluator = run_images(recipe).evaluator
            STAGES[stage](Context(recipe, run, model, source, backbones, evaluator))
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert {line["stage"] for line in lines} == loops
    rows = documented("Training")
    objective = "with nft" if recipe.decoder_rl.objective.name == "nft" else "without nft"
    for line in lines:
        loops = {line["stage"], f"{line['stage']} {objective}"}
        names = {row[0].strip("`") for row in rows if loops & {*row[3].split(", ")}}
        assert names == {name for name in line if "/" in name}, line["stage"]


def test_a_metric_is_documented_once():
    rows = documented("Training")
    names = [row[0].strip("`") for row in rows]
    assert len(set(names)) == len(names)
    assert {loop.split()[0] for row in rows for loop in row[3].split(", ")} == set(LOOPS)


def test_evaluation_measures_the_documented_metrics():
    scenes = held_out_scenes(2)
    one_each = np.ones(len(TAGS))
    generation = GenerationSamples(one_each, TAGS)
    evaluation = SceneEvaluation(
        captions=evaluate_captions(scenes, ["A red circle.", ""]),
        num_caption_tokens=np.ones(2),
        answers=AnswerSamples(
            np.ones(len(CATEGORIES)), np.ones(len(CATEGORIES), dtype=bool), CATEGORIES
        ),
        generation_raw=generation,
        generation_long=generation,
        drawability=drawability_samples(
            scenes, [parse(np.asarray(render_image(scene))) for scene in scenes]
        ),
    )
    ones = np.ones(2)
    similarities = Similarities(reward=ones, held_out=ones, swap=ones)
    metrics = [*similarities.metrics(), *scene_metrics(evaluation)]
    rows = documented("Evaluation")
    told = set().union(*(expanded(row[0].strip("`")) for row in rows))
    assert told == {metric.key for metric in metrics}
    lines = set().union(*(expanded(row[0].strip("`")) for row in rows if row[3:] == ["line"]))
    assert lines == set(HEADLINES) == set(headlines(metrics, HEADLINES))
