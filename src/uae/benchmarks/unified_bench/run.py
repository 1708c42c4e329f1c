"""Unified-Bench as a benchmark run: image -> caption -> redraw -> similarity, one row per image.

Captions, redraws and similarities are made one after the other, and only one of the models is
in memory at a time. Each is kept as it is done, so a run that was stopped anywhere goes on there.

Source: arXiv 2509.09666, protocol 1. The score of a pair is the cosine of global features, that of
a backbone its mean over images, the overall one the unweighted mean over the paper's backbones, or
over all where these are not used.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from uae.backends.failure import Failure
from uae.benchmarks.judged.rows import failed_row
from uae.benchmarks.results.result import BenchResult
from uae.benchmarks.results.run import BenchRun, Resume
from uae.benchmarks.results.scores import Score
from uae.benchmarks.summary import figure_text
from uae.benchmarks.unified_bench.budgets import PLAIN, Curve, area
from uae.benchmarks.unified_bench.making import Failures, Show, make_missing
from uae.benchmarks.unified_bench.task import Task, check_stems
from uae.core.durable import storage_faults
from uae.core.identity import Inputs
from uae.core.provenance import BenchSettings, ModelStamp, image_digests, images_stamp
from uae.core.ranks import share
from uae.data.captions import CaptionRow
from uae.data.opening import open_image, opens
from uae.data.sources import to_pixels
from uae.rewards.similarity import Similarity, cosine
from uae.runs.rows import ItemRow

RULES = "uae-unified-bench-1"
"""Of prompts, preprocessing and scores; a change of them needs another name."""
OVERALL = "overall"
NUM_TOKENS = "tokens"
_GONE = Failure("its redraw is gone", can_retry=True)


def settings_of(
    task: Task,
    stamp: ModelStamp,
    backbones: Mapping[str, str],
    gaps: Mapping[str, Any] | None = None,
    given: Inputs | None = None,
    *,
    sees_image: bool,
) -> BenchSettings:
    """Return what the numbers of a run depend on.

    `gaps` are options that say what was missing from the start, `given` captions and redraws that
    are there already. A decoder that `sees_image` has no text bottleneck: another benchmark.
    """
    images = image_digests(task.images)
    name = "unified-bench-hidden-states" if sees_image else "unified-bench"
    further = {x: sha for x, sha in backbones.items() if task.counted and x not in task.counted}
    counted = {f"backbone {x}": sha for x, sha in backbones.items() if x not in further}
    return BenchSettings(
        benchmark=name if task.counted else f"{name}-other-backbones",
        version=RULES,
        model=stamp,
        data={**images_stamp(task.out, images).files, **counted},
        options={
            "temperature": task.plain.temperature,
            "tokenizer_sha256": task.tokens.sha256 if task.tokens else None,
            "curve": asdict(task.curve),
            **({"further_backbones": further} if further else {}),
            **(gaps or {}),
        },
        inputs={"image": images, **(given or {})},
    )


def evaluate(
    task: Task,
    settings: BenchSettings,
    backbone_names: Sequence[str],
    *,
    resume: Resume,
    retry_failed: bool,
    show: Show,
) -> BenchResult:
    """Make captions, redraws and similarities that are missing, and the scores.

    `resume` and `retry_failed` are those of `BenchRun.open`; `backbone_names` is in the order of
    the scores.
    """
    check_stems(task.images)
    with BenchRun.open(task.out, settings, resume=resume, retry_failed=retry_failed) as run:
        missing = list(run.missing(task.images, str))
        with storage_faults("cannot write", task.out):
            failures = make_missing(task, missing, show)
        for row in _compared(task, share(missing), failures, show):
            run.add(row)
        return run.finish(scores_of(task, backbone_names))


def _compared(task: Task, todo: Sequence[str], failures: Failures, show: Show) -> Iterator[ItemRow]:
    """Yield a row of each image: similarities by variant and backbone, or why there are none."""
    captions = {variant: task.captions(variant) for variant in task.variants}

    def row(name: str, backbones: Mapping[str, Similarity]) -> ItemRow:
        of_image = {variant: each[name] for variant, each in failures.items() if name in each}
        return _row(task, name, captions, backbones, of_image)

    return measured(todo, failures[PLAIN], task.backbones, row, partial(show, "similarities"))


def measured(
    names: Sequence[str],
    failures: Mapping[str, Failure],
    load: Callable[[], Mapping[str, Similarity]],
    row: Callable[[str, Mapping[str, Similarity]], ItemRow],
    show: Callable[[int, int], None],
) -> Iterator[ItemRow]:
    """Yield a row of each image, made with backbones that are loaded if any has a redraw."""
    backbones = load() if any(name not in failures for name in names) else {}
    for done, name in enumerate(names, start=1):
        failure = failures.get(name)
        yield failed_row(ItemRow(item=name), failure) if failure else row(name, backbones)
        show(done, len(names))


def _row(
    task: Task,
    name: str,
    captions: Mapping[str, Mapping[str, CaptionRow]],
    backbones: Mapping[str, Similarity],
    failures: Mapping[str, Failure],
) -> ItemRow:
    """Compare an image with all of its redraws; `failures` are by variant."""
    original = features(open_image(task.images[name]), backbones)
    samples: dict[str, float] = {}
    failed: dict[str, Failure] = {}
    for variant in task.variants:
        path = task.redraw_path(variant, name)
        if name not in captions[variant] or not opens(path):
            failed[variant] = failures.get(variant, _GONE)
            continue
        each = compared_with(original, open_image(path), backbones)
        counted = [each[x] for x in task.counted or each]
        each[OVERALL] = sum(counted) / len(counted)
        num_tokens = captions[variant][name].num_tokens
        if num_tokens is not None:
            each[NUM_TOKENS] = num_tokens
        samples |= {sample_name(variant, key): value for key, value in each.items()}
    samples |= _areas(task.curve, samples)
    pictures = {
        "image": str(task.images[name].resolve()),
        "redraw": task.redraw_path(PLAIN, name).relative_to(task.out).as_posix(),
    }
    return ItemRow(
        item=name,
        samples=samples,
        failed={variant: str(failure) for variant, failure in failed.items()},
        can_retry=any(failure.can_retry for failure in failed.values()),
        details={"caption": captions[PLAIN][name].caption, "pictures": pictures},
    )


@torch.no_grad()
def features(
    image: Image.Image, backbones: Mapping[str, Similarity]
) -> dict[str, Float[Tensor, "1 d"]]:
    """Return an image's embedding by each backbone: one image at a time, so of any size."""
    pixels = to_pixels([image])
    return {name: backbone.features(pixels) for name, backbone in backbones.items()}


def compared_with(
    original: Mapping[str, Float[Tensor, "1 d"]],
    redraw: Image.Image,
    backbones: Mapping[str, Similarity],
) -> dict[str, float]:
    """Return the similarity of an original and a redraw by each backbone, in [-1, 1]."""
    redrawn = features(redraw, backbones)
    return {name: cosine(original[name], redrawn[name]).item() for name in backbones}


def _areas(curve: Curve, samples: Mapping[str, float]) -> dict[str, float]:
    """Return the area of each curve of which every point is there."""
    areas = {}
    for method in curve.methods:
        names = {size: sample_name(x, OVERALL) for size, x in curve.variants(method).items()}
        if all(name in samples for name in names.values()):
            areas[f"{method} area"] = area({size: samples[name] for size, name in names.items()})
    return areas


def sample_name(variant: str, key: str) -> str:
    """Name a sample; those of plain captions bear the backbone's name alone."""
    return key if variant == PLAIN else f"{variant} {key}"


def scores_of(task: Task, backbone_names: Sequence[str]) -> list[Score]:
    """Return the scores: by backbone, overall, and where there are budgets their curves."""
    curve, names = task.curve, [*backbone_names, OVERALL]
    if task.tokens:
        names.append(NUM_TOKENS)
    for method in curve.methods:
        variants = curve.variants(method).values()
        names += [sample_name(x, key) for x in variants for key in (OVERALL, NUM_TOKENS)]
        names.append(f"{method} area")
    return [Score(name=name, sample=name) for name in names]


def summary_text(result: BenchResult) -> str:
    """Write a result of Unified-Bench or of a duel as a table, with n and 95 % intervals."""
    settings = result.settings
    lines = [
        f"{settings['benchmark']}: {settings['model']['name']}",
        f"{result.num_items} images, {result.num_excluded} left out; 95 % intervals",
        *result.marks,
    ]
    width = max(len(x.score.name) for x in result.scores)
    for x in result.scores:
        kind = "count" if x.score.name.endswith(NUM_TOKENS) else "number"
        lines.append(f"  {x.score.name:{width}}  {figure_text(x.estimate, kind, 16)}")
    return "\n".join(lines)
