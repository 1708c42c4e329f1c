"""Audits of a trained pair against the pair it began as, on any images, as a benchmark run.

    RUN/pairs/W-D/   captions of the encoder W, redrawn by the decoder D (`unified_bench.task`)
    RUN/settings.json, items.jsonl, result.json   see `benchmarks.results.run`
    RUN/audits.json  what the changes mean, see `report.audit`

W and D are `before` and `after`. The four redraws of an image share their noise. The swap matrix of
their similarities tells whether captions got better for everybody or for one decoder alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from uae.backends.failure import Failure
from uae.backends.files import CaptionsFile
from uae.benchmarks.pair_audit.findings import PIXELS, TEXT, audits_of, matrix_name, scores_of
from uae.benchmarks.pair_audit.questions import IMAGE, KIND, SIDES, QuestionSet
from uae.benchmarks.results.folder import write_json
from uae.benchmarks.results.page import AUDITS
from uae.benchmarks.results.result import BenchResult, estimate_values
from uae.benchmarks.results.run import BenchRun, Resume
from uae.benchmarks.unified_bench.budgets import PLAIN
from uae.benchmarks.unified_bench.making import Show, make_missing
from uae.benchmarks.unified_bench.run import compared_with, features, measured
from uae.benchmarks.unified_bench.task import Task, check_stems
from uae.core.durable import storage_faults
from uae.core.provenance import BenchSettings, ModelStamp, image_digests, images_stamp
from uae.core.ranks import once, share
from uae.data.captions import CaptionRow
from uae.data.opening import open_image
from uae.data.sources import to_pixels
from uae.report.audit import Audit
from uae.report.pixel_audit import PixelAudit, audit_pixels
from uae.report.text_audit import TextAudit, audit_captions, training_words
from uae.rewards.similarity import Similarity
from uae.runs.rows import ITEMS, ItemRow, read_rows

RULES = "uae-pair-audit-2"
PAIRS = (("before", "before"), ("after", "after"), ("before", "after"), ("after", "before"))
"""Whose captions, whose decoder: the own ones first, whose captions the others redraw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditTask:
    """What is audited.

    Attributes:
        own: Each side's captions redrawn by its own decoder; same images, seeds and backbones.
        max_caption_tokens: Longest caption that each side's decoder was trained for.
        reward: Names of the backbones that were the reward; the others are held out.
        out: Run folder.
    """

    own: Mapping[str, Task]
    max_caption_tokens: Mapping[str, int]
    reward: Sequence[str]
    out: Path

    @property
    def images(self) -> Mapping[str, Path]:
        """Path of each image by its name."""
        return self.own["after"].images

    def pair(self, writes: str, draws: str) -> Task:
        """Return the task of one side's captions and one side's decoder."""
        own = replace(self.own[writes], out=self.out / "pairs" / f"{writes}-{writes}")
        if writes == draws:
            return own
        captions = own.captions_path(PLAIN)
        return replace(
            own,
            out=self.out / "pairs" / f"{writes}-{draws}",
            captioner=lambda: CaptionsFile(captions, own.images),
            generator=self.own[draws].generator,
        )


def settings_of(
    task: AuditTask,
    stamps: Mapping[str, ModelStamp],
    backbones: Mapping[str, str],
    questions: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> BenchSettings:
    """Return what the numbers of a run depend on; what is measured is the trained model."""
    before, images = stamps["before"], image_digests(task.images)
    return BenchSettings(
        benchmark="pair-audit",
        version=RULES,
        model=stamps["after"],
        data={
            **images_stamp(task.out, images).files,
            **{f"backbone {name}": digest for name, digest in backbones.items()},
            **{f"before {name}": digest for name, digest in before.files.items()},
            **{f"questions {kind}": digest for kind, digest in (questions or {}).items()},
        },
        options={"before": before.name, "reward": list(task.reward), **(options or {})},
        inputs={"image": images},
    )


def audit_pair(
    task: AuditTask,
    settings: BenchSettings,
    backbone_names: Sequence[str],
    *,
    resume: Resume,
    questions: Sequence[QuestionSet] = (),
    show: Show,
) -> tuple[BenchResult, tuple[Audit, ...]]:
    """Make captions, redraws and rows that are missing; then the scores, and what they mean.

    `backbone_names` is in the order of the scores; `resume` is that of `BenchRun.open`; both sides
    are asked the questions in the open run folder.
    """
    check_stems(task.images)
    with BenchRun.open(task.out, settings, resume=resume) as run:
        items = [*task.images, *(name for asked in questions for name in asked.names)]
        missing = list(run.missing(items, str))
        images = [name for name in missing if name in task.images]
        with storage_faults("cannot write", task.out):
            failures = _make(task, images, show)
        for row in _rows(task, share(images), failures, show):
            run.add(row)
        for asked in questions:
            names = asked.names
            todo = [name for name in missing if name in names]
            for row in asked.rows(share(todo)) if todo else ():
                run.add(row)
        result = run.finish(scores_of(backbone_names, questions))
    audits = audits_of(read_rows(task.out / ITEMS), task.reward, backbone_names)
    values = [asdict(x) | {"change": x.change and estimate_values(x.change)} for x in audits]
    with storage_faults("cannot write", task.out):
        once(lambda: write_json(task.out / AUDITS, values))
    return result, audits


def _make(task: AuditTask, images: Sequence[str], show: Show) -> dict[str, Failure]:
    """Make the captions and redraws that are missing; return the images that lack one."""
    failures: dict[str, Failure] = {}
    for pair in PAIRS if images else ():
        failures |= _make_pair(task, *pair, [x for x in images if x not in failures], show)
    return failures


def _make_pair(
    task: AuditTask, writes: str, draws: str, images: Sequence[str], show: Show
) -> Mapping[str, Failure]:
    def show_pair(what: str, done: int, total: int) -> None:
        show(f"{writes} captions, {draws} decoder: {what}", done, total)

    return make_missing(task.pair(writes, draws), images, show_pair)[PLAIN]


def _rows(
    task: AuditTask, todo: Sequence[str], failures: Mapping[str, Failure], show: Show
) -> Iterator[ItemRow]:
    """Yield a row of each image, or why there is none."""
    captions = {side: task.pair(side, side).captions(PLAIN) for side in SIDES}
    known = training_words(row.caption for row in captions["before"].values())

    def row(name: str, backbones: Mapping[str, Similarity]) -> ItemRow:
        return _row(task, name, {side: captions[side][name] for side in SIDES}, known, backbones)

    load = task.own["after"].backbones
    for made in measured(todo, failures, load, row, partial(show, "measures")):
        yield replace(made, labels={KIND: IMAGE}, can_retry=False)  # an audit tries nothing again


def _row(
    task: AuditTask,
    name: str,
    captions: Mapping[str, CaptionRow],
    known: frozenset[str],
    backbones: Mapping[str, Similarity],
) -> ItemRow:
    original = open_image(task.images[name])
    paths = {pair: task.pair(*pair).redraw_path(PLAIN, name) for pair in PAIRS}
    redraws = {pair: open_image(path) for pair, path in paths.items()}
    embedded = features(original, backbones)
    samples: dict[str, float] = {}
    for (writes, draws), redraw in redraws.items():
        for key, value in compared_with(embedded, redraw, backbones).items():
            samples[matrix_name(writes, draws, key)] = value
    for side, row in captions.items():
        audit = audit_captions(
            [row.caption],
            num_tokens=[row.num_tokens or 0],
            max_tokens=task.max_caption_tokens[side],
            truncated=[row.is_truncated],
            vocabulary=known,
        )
        samples |= _named(side, audit, TEXT)
    pictures = {"original": original, **{side: redraws[side, side] for side in SIDES}}
    for of, image in pictures.items():
        samples |= _named(of, audit_pixels([to_pixels([image])[0].numpy()]), PIXELS)
    return ItemRow(
        item=name,
        samples={key: value for key, value in samples.items() if np.isfinite(value)},
        details={
            "first": captions["before"].caption,
            "second": captions["after"].caption,
            "pictures": {
                "image": str(task.images[name].resolve()),
                **{side: paths[side, side].relative_to(task.out).as_posix() for side in SIDES},
            },
        },
    )


def _named(of: str, audit: TextAudit | PixelAudit, measures: Sequence[str]) -> dict[str, float]:
    """Name the measures of one caption or one image."""
    return {f"{of} {measure}": float(getattr(audit, measure)[0]) for measure in measures}
