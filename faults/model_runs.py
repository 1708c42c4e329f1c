"""Benchmarks by tiny models with random weights on few images, ready to be run.

GenEval by its detector; mmt-bench, unified-bench and the audit by our own model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from faults.benchmark_runs import Fill
from faults.judged_runs import NUM_PROMPTS, write_noise
from faults.random_detector import SURE, random_clip_folder, random_mask2former_folder
from faults.random_model import random_model_folder
from uae.backends.answers import ChatAnswers
from uae.backends.roles import Request
from uae.backends.uae import Uae, encoder_stamp
from uae.benchmarks.geneval import detector as detector_module
from uae.benchmarks.geneval import run as geneval
from uae.benchmarks.geneval.colors import ColorClassifier
from uae.benchmarks.geneval.detector import Detector
from uae.benchmarks.geneval.layout import read_folder, sample_path, write_metadata
from uae.benchmarks.geneval.prompts import PromptSet, official_prompts
from uae.benchmarks.geneval.task import Judges
from uae.benchmarks.geneval.task import Task as GenEvalTask
from uae.benchmarks.mmt_bench import evaluate as mmt_bench
from uae.benchmarks.mmt_bench.task import MmtTask
from uae.benchmarks.pair_audit import run as pair_audit
from uae.benchmarks.run import run_plan
from uae.benchmarks.unified_bench import run as unified_bench
from uae.benchmarks.unified_bench.budgets import Curve, Tokens
from uae.benchmarks.unified_bench.task import Task
from uae.core.provenance import ModelStamp
from uae.models.unified import UnifiedAutoEncoder
from uae.rewards.loading import load_similarity
from uae.rewards.similarity import Similarity
from uae.scenes.folder import IMAGES, QUESTIONS, write_scenes

NUM_SCENES = 40  # to ask about
NUM_IMAGES = 5  # of them, to redraw
BATCH_SIZE = 2
_STAMP = ModelStamp(name="random", dtype="float32", backend="trial")


@dataclass(frozen=True, slots=True)
class Tiny:
    """A model, what compares its redraws, and images for it."""

    model: UnifiedAutoEncoder
    backbones: Mapping[str, Similarity]
    images: Mapping[str, Path]

    @property
    def digests(self) -> dict[str, str]:
        """Stand for those of the backbones' weights."""
        return dict.fromkeys(self.backbones, "random")

    def task(self, out: Path, seed: int, request: Request, curve: Curve) -> Task:
        """Return what is described and redrawn."""
        return Task(
            images=self.images,
            out=out,
            captioner=lambda: Uae(self.model, seed),
            generator=lambda: Uae(self.model, seed),
            backbones=lambda: self.backbones,
            tokens=Tokens(self.model.encoder.tokenizer),
            plain=request,
            curve=curve,
            batch_size=BATCH_SIZE,
        )


def model_runs(root: Path) -> dict[str, Fill]:
    """Load the models and write the scenes that all runs share."""
    folder, scenes = random_model_folder(), root / "scenes"
    write_scenes(scenes, NUM_SCENES, "test", seed=0, size_px=64, questions_per_subtask=5)
    names = sorted(path.name for path in (scenes / IMAGES).glob("*.png"))[:NUM_IMAGES]
    tiny = Tiny(
        UnifiedAutoEncoder.from_pretrained(folder),
        {x: load_similarity(folder.with_name(x)) for x in ("clip", "dinov2")},
        {name: scenes / IMAGES / name for name in names},
    )
    return {
        "geneval": geneval_run(root),
        "mmt-bench": mmt_bench_run(scenes / QUESTIONS, tiny, folder),
        "unified-bench": partial(_redraw, tiny),
        "audit": partial(_audit, tiny),
    }


def geneval_run(root: Path) -> Fill:
    """Return a run of GenEval: one row an image."""
    detector_module.SHORT_PX = 32  # the trial is of the run, not of large inputs
    lines = official_prompts().lines
    prompts = PromptSet("every 15th", lines[:: len(lines) // NUM_PROMPTS][:NUM_PROMPTS])
    images = root / "geneval-images"
    images.mkdir()
    write_metadata(images, prompts)
    write_noise([sample_path(images, prompt_id, 0) for prompt_id in range(NUM_PROMPTS)], 0)
    judges = Judges(
        Detector.from_pretrained(random_mask2former_folder()),
        ColorClassifier.from_pretrained(random_clip_folder()),
        names={},
        weights={},
    )
    task = GenEvalTask(read_folder(images, prompts, 1), prompts, 1, judges, SURE)

    def fill(out: Path, show: Callable[[int, int], None], _: Any) -> object:
        plan = geneval.plan_of(task, out)
        result = run_plan(plan, out, show=show)
        assert plan.text is not None
        plan.text(result)
        return result

    return fill


def mmt_bench_run(questions: Path, tiny: Tiny, folder: Path) -> Fill:
    """Return a run of MMT-Bench's questions about scenes: one row a question."""
    answers = ChatAnswers(Uae(tiny.model), max_new_tokens=8)
    task, stamp = MmtTask.read(questions), encoder_stamp("random", folder, 8)
    return lambda out, show, again: run_plan(
        mmt_bench.plan_of(lambda: answers, task, out, stamp), out, retry_failed=again, show=show
    )


def _redraw(tiny: Tiny, out: Path, show: unified_bench.Show, retry_failed: bool) -> object:
    """Run unified-bench with a curve of captions that are cut, and one of sampled ones."""
    curve = Curve(methods=("cut", "sample"), sizes=(2, 4), num_samples=2)
    task = tiny.task(out, 0, Request(), curve)
    settings = unified_bench.settings_of(task, _STAMP, tiny.digests, sees_image=False)
    return unified_bench.evaluate(
        task, settings, list(tiny.backbones), resume="auto", retry_failed=retry_failed, show=show
    )


def _audit(tiny: Tiny, out: Path, show: unified_bench.Show, _: bool) -> object:
    """Audit one model against itself: with sampled captions and other noise in its place after."""
    own = {
        "before": tiny.task(out, 0, Request(), Curve()),
        "after": tiny.task(out, 1, Request(temperature=1.0), Curve()),
    }
    limits = dict.fromkeys(own, tiny.model.settings.max_caption_tokens)
    task = pair_audit.AuditTask(own=own, max_caption_tokens=limits, reward=("clip",), out=out)
    settings = pair_audit.settings_of(task, dict.fromkeys(own, _STAMP), tiny.digests)
    return pair_audit.audit_pair(task, settings, list(tiny.backbones), resume="auto", show=show)
