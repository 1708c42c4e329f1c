"""`uae eval scenes`: what a model scores on held-out scenes; and the benchmarks' names."""

import itertools
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from cyclopts.types import NonNegativeInt, PositiveInt

from uae.cli import audit as audits
from uae.cli import unified_bench as unified
from uae.cli.audit import audit
from uae.cli.benchmarks import add_benchmarks
from uae.cli.options import check_folder, stages_of
from uae.cli.output import PLAINLY, Talk, json_line, write
from uae.cli.startup import quick_start
from uae.cli.unified_bench import caption_duel, unified_bench
from uae.core.durable import holds_nothing_but
from uae.core.errors import EXIT_DONE, UsageError
from uae.core.ranks import check_alone
from uae.models.settings import find_settings, pinned
from uae.recipe.recipe import EvaluationConfig
from uae.rewards.places import rewarding

if TYPE_CHECKING:
    from uae.report.statistics import Estimate
    from uae.report.tables import Metric
    from uae.train.evaluator import Point

    Figures = Sequence[tuple[Metric, Estimate]]

DEFAULTS = EvaluationConfig()
SETTINGS, SCORES = "settings.json", "scores.json"

NEXT = unified.NEXT | audits.NEXT


def evaluation() -> App:
    """Make `uae eval`, with the benchmarks that stand in the table by now."""
    app = App(name="eval", help="What a model scores.", help_format="plaintext")
    app.command(scenes, help_epilogue="Next: uae train --recipe demo --model MODEL --out RUN")
    for verb, name in (
        (unified_bench, "unified-bench"),
        (caption_duel, "caption-duel"),
        (audit, "audit"),
    ):
        app.command(verb, name=name, help_epilogue=f"Next: {NEXT[name]}")
    add_benchmarks(app)
    return app


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much is measured."""

    num_scenes: PositiveInt = DEFAULTS.num_scenes
    """Held-out scenes to caption and redraw."""
    prompts_per_category: PositiveInt = DEFAULTS.prompts_per_category
    """Prompts of each of GenEval's six categories, raw and long."""
    num_questions: PositiveInt = DEFAULTS.num_questions
    """Questions of each subtask."""
    seed: NonNegativeInt = DEFAULTS.seed
    """Seed of captions, noise and questions."""


USUAL = Extent()


def scenes(
    *,
    model: str = "uae-tiny",
    out: Path | None = None,
    swap: str | None = None,
    reward: Annotated[tuple[str, ...], Parameter(negative="")] = ("clip",),
    extent: Extent = USUAL,
    batch_size: PositiveInt = DEFAULTS.micro_batch,
    device: str = "auto",
    talk: Talk = PLAINLY,
) -> int:
    """Score a model on held-out scenes, as at an evaluation point of a run.

    Try:
        uae eval scenes --model runs/demo/model
        uae eval scenes --model runs/demo/model --out scores --json

    Args:
        model: Model folder, preset or ID@REVISION on the hub.
        out: Folder that keeps captions, pictures and scores; what it holds is not made again.
        swap: Model whose decoder redraws the captions in the swap test; by default there is none.
        reward: Similarity backbone that counts as the reward; the others are held out.
        extent: How much is measured.
        batch_size: Images at once; changes speed and memory alone.
        device: auto, cpu, cuda or cuda:1.
        talk: Format and verbosity.
    """
    talk.begin()
    check_alone("uae eval scenes")
    model, swap = pinned("--model", model), pinned("--swap", swap) if swap else swap
    settings: dict[str, Any] = {"model": model, "swap": swap, **asdict(extent)}
    config = EvaluationConfig(**asdict(extent), micro_batch=batch_size)
    named = find_settings(model).similarity
    places = rewarding(reward, named, "--reward ")
    if beside := [name for name in places if name not in named]:
        settings["backbones"] = beside  # an evaluation without them cannot be taken up
    if out is not None:
        _check_folder(out, settings)
    with nullcontext(out) if out else tempfile.TemporaryDirectory() as folder:
        point = _score(Path(folder), settings, config, reward, places, device, talk)
        figures = _figures(point)
        values: dict[str, Any] = settings | {"reward": list(reward)} | _values(figures, point)
        if out is not None:
            (out / SCORES).write_text(json_line(values) + "\n")
    if talk.for_reader == "json":
        write(json_line(values))
    elif talk.for_reader == "quiet":
        for row in values["rows"]:
            write(f"{row['metric']} {row['value']}")
    else:
        _write_table(values, figures, point)
    return EXIT_DONE


def _check_folder(out: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a folder that holds anything but this evaluation."""
    check_folder(out, "--out")
    kept = out / SETTINGS
    if not kept.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise UsageError(
                f"--out {out} is not empty and holds no evaluation: choose another folder"
            )
    elif not holds_nothing_but(out, {SETTINGS}):
        before = json.loads(kept.read_text())
        changed = [
            f"{k} {before.get(k)}, not {v}" for k, v in settings.items() if before.get(k) != v
        ]
        if changed:
            raise UsageError(
                f"--out {out} holds the evaluation of {'; '.join(changed)}: choose another folder"
            )


def _score(
    folder: Path,
    settings: Mapping[str, Any],
    config: EvaluationConfig,
    reward: Sequence[str],
    places: Mapping[str, str],
    device: str,
    talk: Talk,
) -> "Point":
    """Observe the model, unless the folder holds that already, and score what was seen."""
    with quick_start():
        from uae.backends import own as loop
        from uae.core.device import device_of
        from uae.rewards.loading import load_backbones
        from uae.scenes.evaluator import SceneEvaluator
        from uae.train.points import evaluate_point, point_folders, shown_as

        limit = find_settings(settings["model"]).max_caption_tokens
        evaluator = SceneEvaluator(config, dict.fromkeys(reward, 1.0), limit)
        evaluator.check()
        if done := point_folders(folder):
            return evaluator.score(done[0], "model")
        model = loop.load(settings["model"], device)
        backbones = load_backbones(places, device_of(device))
        swap = nullcontext(loop.load(settings["swap"], device)) if settings["swap"] else None
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SETTINGS).write_text(json_line(settings) + "\n")
    progress, _ = stages_of(talk)
    show = shown_as("evaluation", progress)
    untrained = None if swap is None else lambda: swap
    seen = evaluate_point("model", folder, evaluator, model, untrained, backbones, show)
    progress.close()
    return evaluator.score(seen, "model")


def _figures(point: "Point") -> "Figures":
    from uae.report.statistics import estimate

    return [
        (m, estimate(m.samples, cluster_id=m.cluster_id, is_share=m.kind == "share"))
        for m in point.metrics
    ]


def _values(figures: "Figures", point: "Point") -> dict[str, Any]:
    """Return the rows of the report's table, and the drawability gate."""
    rows = [
        {"metric": metric.key, "group": metric.group, "name": metric.name}
        | asdict(figure)
        | {"kind": metric.kind, "better": metric.better, "note": metric.note}
        for metric, figure in figures
    ]
    assert point.gate is not None, "scenes have a gate"
    return {"rows": rows, "gate": {"passed": point.gate.passed, "failing": point.gate.failing}}


def _write_table(values: Mapping[str, Any], figures: "Figures", point: "Point") -> None:
    from uae.report.format import interval_text, value_text

    write(
        f"{values['model']}: {values['num_scenes']} held-out test scenes, seed {values['seed']}, "
        f"reward {', '.join(values['reward'])}; 95 % intervals, n samples"
    )
    width = max(len(metric.name) for metric in point.metrics)
    for group, rows in itertools.groupby(figures, lambda row: row[0].group):
        write(f"\n{group}")
        for metric, figure in rows:
            value = value_text(figure.value, metric.kind)
            interval = interval_text(figure, metric.kind)
            left_out = f", {figure.num_excluded} left out" if figure.num_excluded else ""
            write(f"  {metric.name:{width}}  {value:>8}  {interval:20}  n = {figure.n}{left_out}")
    assert point.gate is not None, "scenes have a gate"
    verdict = "passed" if point.gate.passed else point.gate.consequence
    write(f"\nDrawability gate: {verdict}")
