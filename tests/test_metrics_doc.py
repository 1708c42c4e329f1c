"""`docs/metrics.md` names exactly the metrics that exist."""

import ast
from pathlib import Path

import numpy as np
from documented import documented, expanded

from uae.benchmarks.geneval.clauses import TAGS
from uae.scenes.drawability import drawability_samples
from uae.scenes.evaluation import SceneEvaluation, evaluate_captions, held_out_scenes, scene_metrics
from uae.scenes.generation import GenerationSamples
from uae.scenes.parser import parse
from uae.scenes.points import HEADLINES, headlines
from uae.scenes.questions import CATEGORIES
from uae.scenes.render import render_image
from uae.scenes.understanding import AnswerSamples

TRAIN = Path(__file__).parents[1] / "src" / "uae" / "train"
LOOPS = ("pretrain", "cold_start", "encoder_rl", "decoder_rl", "joint")


def functions(path: Path) -> dict[str, ast.FunctionDef]:
    return {n.name: n for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef)}


def constant_keys(node: ast.AST) -> set[str]:
    return {
        key.value
        for literal in ast.walk(node)
        if isinstance(literal, ast.Dict)
        for key in literal.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }


def names_in(node: ast.expr, shared: dict[str, set[str]]) -> set[str]:
    """Metric names of what is logged: dicts, joined dicts, shared functions, prefixed ones."""
    if isinstance(node, ast.BinOp):
        return names_in(node.left, shared) | names_in(node.right, shared)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return shared[node.func.id]
    if isinstance(node, ast.DictComp):
        source = node.generators[0].iter  # f(...).items()
        assert isinstance(node.key, ast.JoinedStr)
        assert isinstance(source, ast.Call)
        assert isinstance(source.func, ast.Attribute)
        prefix = node.key.values[0]
        assert isinstance(prefix, ast.Constant)
        return {f"{prefix.value}{name}" for name in names_in(source.func.value, shared)}
    assert isinstance(node, ast.Dict), ast.dump(node)
    return constant_keys(node)


def logged_by(loop: str) -> set[str]:
    """Every name that a loop writes, read from its source."""
    shared = {name: constant_keys(f) for name, f in functions(TRAIN / "logged.py").items()}
    names: set[str] = set()
    for node in ast.walk(functions(TRAIN / f"{loop}.py")["train"]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == "log":
                names |= names_in(node.args[0], shared)
            elif node.func.attr == "timed":
                phase = node.args[0]
                assert isinstance(phase, ast.Constant)
                names.add(f"time/{phase.value}_s")
    return names


def test_each_loop_writes_the_documented_metrics():
    rows = documented("Training")
    names = [row[0].strip("`") for row in rows]
    assert len(set(names)) == len(names), "a metric is documented twice"
    for loop in LOOPS:
        told = {row[0].strip("`") for row in rows if loop in row[3].split(", ")}
        assert told == logged_by(loop), loop
    assert {loop for row in rows for loop in row[3].split(", ")} == set(LOOPS)


def test_evaluation_measures_the_documented_metrics():
    scenes = held_out_scenes(2)
    one_each = np.ones(len(TAGS))
    generation = GenerationSamples(one_each, TAGS, ("",) * len(TAGS))
    evaluation = SceneEvaluation(
        captions=evaluate_captions(scenes, ["A red circle.", ""]),
        num_caption_tokens=np.ones(2),
        answers=AnswerSamples(
            np.ones(len(CATEGORIES)), np.ones(len(CATEGORIES), dtype=bool), CATEGORIES
        ),
        generation_raw=generation,
        generation_long=generation,
        reward_similarity=np.ones(2),
        held_out_similarity=np.ones(2),
        swap_similarity=np.ones(2),
        drawability=drawability_samples(
            scenes, [parse(np.asarray(render_image(scene))) for scene in scenes]
        ),
    )
    rows = documented("Evaluation")
    told = set().union(*(expanded(row[0].strip("`")) for row in rows))
    assert told == {metric.key for metric in scene_metrics(evaluation)}
    lines = set().union(*(expanded(row[0].strip("`")) for row in rows if row[3:] == ["line"]))
    assert lines == set(HEADLINES) == set(headlines(evaluation))
