import numpy as np
import pytest

from uae.benchmarks.geneval.clauses import TAGS
from uae.report.tables import Metric, metric_row, metric_rows
from uae.scenes.drawability import drawability_samples
from uae.scenes.evaluation import SceneEvaluation, evaluate_captions, held_out_scenes, scene_metrics
from uae.scenes.generation import generation_samples
from uae.scenes.language import long_caption, short_caption
from uae.scenes.parser import parse
from uae.scenes.prompts import generation_prompts
from uae.scenes.render import render
from uae.scenes.understanding import answer_samples, question_set
from uae.train.evaluator import Similarities

SCENES = held_out_scenes(30)


def evaluation(make) -> SceneEvaluation:
    rng = np.random.default_rng(0)
    captions = [make(scene, rng) for scene in SCENES]
    questions = [a.question for a in question_set(SCENES, 5, seed=0)]
    prompts = generation_prompts(2)
    images = [parse(render(p.scene)) for p in prompts]
    return SceneEvaluation(
        captions=evaluate_captions(SCENES, captions),
        num_caption_tokens=np.array([float(len(c.split())) for c in captions]),
        answers=answer_samples(questions, [q.answer for q in questions]),
        generation_raw=generation_samples(prompts, images),
        generation_long=generation_samples(prompts, images),
        drawability=drawability_samples(SCENES, [parse(render(s)) for s in SCENES]),
    )


def metrics(make, similarity: float) -> list[Metric]:
    column = np.full(len(SCENES), similarity)
    similarities = Similarities(reward=column, held_out=column, swap=None)
    return [*similarities.metrics(), *scene_metrics(evaluation(make))]


def test_scenes_are_held_out():
    assert all(scene.split == "test" for scene in SCENES)


def test_metrics_have_their_own_keys():
    keys = [m.key for m in metrics(long_caption, 0.5)]
    assert len(set(keys)) == len(keys)
    assert {f"generation_long/{tag}" for tag in TAGS} < set(keys)
    assert "reconstruction/swap" not in keys
    assert scene_metrics(SceneEvaluation()) == ()


def test_rows_compare_points_scene_by_scene():
    points = [metrics(short_caption, 0.4), metrics(long_caption, 0.5)]
    rows = {(row.group, row.name): row for row in metric_rows(points)}
    held_out = rows["Reconstruction similarity", "held-out backbone"]
    assert held_out.is_headline
    assert held_out.overall is not None
    assert held_out.overall.value == pytest.approx(0.1)
    small = rows["Understanding: captions", "small objects mentioned"]
    assert [e is not None and e.value for e in small.estimates][1] == 1
    assert small.overall is not None
    assert small.overall.rises
    drawn = rows["Drawability of true captions", "shape"].estimates[0]
    assert drawn is not None
    assert drawn.n == sum(len(s.objects) for s in SCENES)


def test_intervals_of_shares_end_where_shares_do():
    mostly, never = np.array([1.0, 1.0, 0.5, 1.0, 0.9]), np.array([0.0, 0.2, 0.0, 0.0, 0.0])
    rows = [metric_row("g", "n", [never, mostly], kind=kind) for kind in ("number", "share")]
    for found in ([row.estimates[1] for row in rows], [row.overall for row in rows]):
        number, share = (x.high for x in found if x is not None)
        assert number > 1 == share


def test_a_point_may_lack_a_part():
    rows = metric_rows([metrics(short_caption, 0.4), []])
    assert all(row.estimates[1] is None and row.overall is None for row in rows)
