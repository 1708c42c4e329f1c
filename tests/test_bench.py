"""The scripts of `bench/`: each stage gives its rates, and the tables of the docs are printed."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bench import learning, stages
from uae.recipe.plan import stages_of
from uae.recipe.recipe import Recipe
from uae.report.tables import Metric
from uae.scenes.drawability import drawability_samples
from uae.scenes.evaluation import SceneEvaluation, evaluate_captions, held_out_scenes, scene_metrics
from uae.scenes.generation import generation_samples
from uae.scenes.language import long_caption, short_caption
from uae.scenes.parser import parse
from uae.scenes.prompts import generation_prompts
from uae.scenes.render import render
from uae.scenes.understanding import answer_samples, question_set
from uae.train.evaluator import Similarities
from uae.train.run_report import samples_per_step

ROOT = Path(__file__).parents[1]
SCENES = held_out_scenes(12)
RL = {"num_images": 2, "micro_images": 2}
SMALL = {
    "cold_start": {
        "cold_start": {
            "num_steps": 2,
            "batch_size": 2,
            "micro_batch": 2,
            "captioning": {"num_captions": 1, "max_new_tokens": 8},
            "sampling": {"num_steps": 1},
        },
    },
    "joint": {
        "encoder_rl": RL | {"num_steps": 2, "captioning": {"num_captions": 2, "max_new_tokens": 8}},
        "decoder_rl": RL
        | {"num_steps": 2, "num_redraws": 3, "num_sampling_steps": 2}
        | {"objective": {"window_starts": 1}},
        "tune_encoder": {"rank": 2, "alpha": 2},
        "tune_decoder": {"rank": 2, "alpha": 2},
        "schedule": "joint",
    },
}
SIZES = {
    "cold_start": {"caption": 2, "update": 2},
    "joint": {"caption": 4, "redraw": 12, "score": 12, "update": 12},
}


@pytest.mark.parametrize("stage", ["cold_start", "joint"])
def test_a_stage_gives_samples_per_second_by_phase(stage, random_model_folder):
    found = stages.measure(stage, Recipe(model=str(random_model_folder), **SMALL[stage]))
    assert (found["stage"], found["num_steps"]) == (stage, 2)
    phases = found["phases"]
    sizes = {name: x["samples_per_s"] * x["s_per_step"] for name, x in phases.items()}
    assert sizes == pytest.approx(SIZES[stage])
    assert found["flop_per_step"] > 0


def test_every_stage_has_a_recipe_that_runs_it_alone():
    plans = {stage: stages.recipe_of(stage, "uae-tiny", 3) for stage in stages.SECTIONS}
    turns = {stage: stages_of(recipe) for stage, recipe in plans.items()}
    rl = {stage: ["rl"] for stage in stages.RL_SCHEDULES}
    assert turns == {"pretrain": ["pretrain"], "cold_start": ["cold_start"]} | rl


def test_every_phase_that_a_loop_times_has_a_rate():
    timed = set()
    for path in (ROOT / "src" / "uae" / "train").glob("*.py"):
        source = path.read_text()
        for stage in re.findall(r'session\.steps\("(\w+)"', source):
            timed |= {(stage, x) for x in re.findall(r'session\.timed\("(\w+)"', source)}
    assert {stage for stage, _ in timed} == set(stages.SECTIONS)
    assert set(samples_per_step(Recipe())) == timed


def metrics(make, similarity: float) -> list[Metric]:
    rng = np.random.default_rng(0)
    captions = [make(scene, rng) for scene in SCENES]
    questions = [a.question for a in question_set(SCENES, 5, seed=0)]
    prompts = generation_prompts(2)
    images = [parse(render(p.scene)) for p in prompts]
    evaluation = SceneEvaluation(
        captions=evaluate_captions(SCENES, captions),
        num_caption_tokens=np.array([float(len(c.split())) for c in captions]),
        answers=answer_samples(questions, [q.answer for q in questions]),
        generation_raw=generation_samples(prompts, images),
        generation_long=generation_samples(prompts, images),
        drawability=drawability_samples(SCENES, [parse(render(s)) for s in SCENES]),
    )
    return [*similar(similarity), *scene_metrics(evaluation)]


def similar(similarity: float) -> Iterator[Metric]:
    column = np.full(len(SCENES), similarity)
    return Similarities(reward=column, held_out=column, swap=column).metrics()


@pytest.fixture
def printed(monkeypatch) -> list[list[str]]:
    """The cells of the table of two seeds, whose second one draws worse."""
    first, last = metrics(short_caption, 0.4), metrics(long_caption, 0.5)
    worse = {metric.key: metric for metric in [*last, *similar(0.3)]}
    ends = {"seed-0": last, "seed-1": list(worse.values())}

    def score(folder: Path, _evaluator: object):
        points = {"start": first, "encoder-rl": ends[folder.name]}
        return [SimpleNamespace(name=k, metrics=v) for k, v in points.items()]

    monkeypatch.setattr(learning, "score_run", score)
    monkeypatch.setattr(learning, "read_recipe", lambda _: Recipe())
    text = learning.table([Path("seed-0"), Path("seed-1")])
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ")
    ]


def test_the_table_of_learning_has_levels_and_changes(printed):
    assert printed[0] == ["figure", "before, seed-0", "seed-0", "seed-1", "mean over seeds"]
    rows = {row[0]: row[1:] for row in printed[1:]}
    level, one, two, mean = rows["held-out backbone"]
    assert (level, mean) == ("0.400", "0.000")
    assert one.startswith("+0.100 (")
    assert two.startswith("-0.100 (")
    assert rows["background right"][0].endswith(" %")


def test_every_row_of_the_documented_tables_is_printed(printed):
    section = (ROOT / "docs" / "results.md").read_text().partition("\n## Learning\n")[2]
    lines = section.partition("\n## ")[0].splitlines()
    names = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    documented = {name for name in names if name != "figure"}
    assert len(documented) > 20
    assert documented <= {row[0] for row in printed}
