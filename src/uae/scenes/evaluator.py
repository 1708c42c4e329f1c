"""Evaluation of a run on held-out scenes, whose truth is known exactly."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from uae.benchmarks.mmt_bench.prompt import compact_text
from uae.core.errors import UsageError
from uae.data.shapes import Size
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.recipe import EvaluationConfig
from uae.report.text_audit import training_words
from uae.scenes.drawability import (
    THRESHOLDS,
    DrawabilityGate,
    consequence_in_words,
    drawability_gate,
    drawability_samples,
    shares_in_words,
)
from uae.scenes.evaluation import (
    SceneEvaluation,
    evaluate_captions,
    held_out_scenes,
    scene_metrics,
)
from uae.scenes.generation import generation_samples
from uae.scenes.graph import Scene, scene_at
from uae.scenes.language import long_caption, prompt, short_caption
from uae.scenes.parser import parse
from uae.scenes.prompts import generation_prompts
from uae.scenes.render import render, render_image
from uae.scenes.understanding import AskedQuestion, answer_samples, question_set
from uae.train.evaluator import Gate, Point, Similarities, Subjects, audit_samples
from uae.train.observe import (
    ShowProgress,
    batches,
    in_silence,
    load,
)

HEADLINES = (
    "reconstruction/reward",
    "reconstruction/held_out",
    "reconstruction/swap",
    "caption/coverage",
    "caption/claim_precision",
    "caption/num_tokens",
    "mcq/overall",
    "generation_raw/overall",
    "generation_long/overall",
    *(f"drawability/{name}" for name in THRESHOLDS),
)
"""Metrics that go into metrics.jsonl; the report has all of them."""


class SceneEvaluator:
    """Captions, redraws, answers and drawings, held against scenes of the test split."""

    headlines = HEADLINES

    def __init__(
        self, config: EvaluationConfig, reward: Mapping[str, float], max_caption_tokens: int
    ) -> None:
        """Hold how much is evaluated; `reward` are weights of the rewarded backbones."""
        self.config = config
        self._reward = reward
        self._max_caption_tokens = max_caption_tokens

    @property
    def note(self) -> str:
        """What the figures rest on."""
        return f"{self.config.num_scenes} held-out test scenes, seed {self.config.seed}."

    def check(self) -> None:
        """Refuse more questions than the scenes allow."""
        try:
            self._questions()
        except UsageError as error:
            raise UsageError(f"evaluation.num_questions, evaluation.num_scenes: {error}") from error

    def subjects(self, model: UnifiedAutoEncoder, show: ShowProgress) -> Subjects:
        """Return scenes, prompts and true captions to draw, and questions to answer."""
        config, scenes = self.config, self._scenes()
        images = [render_image(scene, model.decoder.size_px) for scene in scenes]
        prompts = generation_prompts(config.prompts_per_category)
        questions = self._questions()
        return Subjects(
            images=images,
            texts={
                "generation_raw": [p.raw for p in prompts],
                "generation_long": [p.long for p in prompts],
                "truths": true_captions(scenes, config.seed),
            },
            replies=lambda: answer(model, questions, images, config, show),
        )

    def score(self, folder: Path, name: str) -> Point:
        """Score the observations of a point."""
        seen, pictures = load(folder)
        config, scenes = self.config, self._scenes()
        parsed = {
            kind: [parse(image) for image in pictures[kind]]
            for kind in ("generation_raw", "generation_long", "truths")
        }
        prompts = generation_prompts(config.prompts_per_category)
        captions = evaluate_captions(scenes, seen.captions)
        drawn = drawability_samples(scenes, parsed["truths"])
        answers = answer_samples([a.question for a in self._questions()], seen.replies)
        similarities = Similarities.of(seen, self._reward)
        evaluation = SceneEvaluation(
            captions=captions,
            num_caption_tokens=np.array(seen.num_tokens, dtype=np.float64),
            answers=answers,
            generation_raw=generation_samples(prompts, parsed["generation_raw"]),
            generation_long=generation_samples(prompts, parsed["generation_long"]),
            drawability=drawn,
        )
        redraws, limit = pictures["captions"], self._max_caption_tokens
        audit = replace(
            audit_samples(seen, redraws, similarities, limit, known_words()),
            caption_precision=captions.claim_precision,
            shape_accuracy=captions.precision["shape"],
            understanding=answers.correct,
        )
        return Point(
            name=name,
            observations=seen,
            redraws=redraws,
            metrics=(*similarities.metrics(), *scene_metrics(evaluation)),
            audit=audit,
            gate=in_words(drawability_gate(drawn)),
        )

    def originals(self, sizes: Sequence[Size]) -> list[UInt8[np.ndarray, "_ _ 3"]]:
        """Render the held-out scenes, which are squares."""
        pairs = zip(self._scenes(), sizes, strict=True)
        return [render(scene, size_px) for scene, (size_px, _) in pairs]

    def names(self) -> list[str]:
        """Name the held-out scenes."""
        return [f"test-{i:06d}" for i in range(self.config.num_scenes)]

    def num_drawn(self) -> int:
        """Return how many images a point draws: of captions twice, of truths and of prompts."""
        num_prompts = len(generation_prompts(self.config.prompts_per_category))
        return 3 * self.config.num_scenes + 2 * num_prompts

    def _scenes(self) -> tuple[Scene, ...]:
        return held_out_scenes(self.config.num_scenes)

    def _questions(self) -> Sequence[AskedQuestion]:
        return question_set(self._scenes(), self.config.num_questions, self.config.seed)


def in_words(gate: DrawabilityGate) -> Gate:
    """Say what the drawability gate found."""
    kept = shares_in_words(gate, gate.failing or tuple(THRESHOLDS))
    return Gate(
        failing=gate.failing,
        finding=f"of true captions its redraws keep {kept}",
        consequence=consequence_in_words(gate),
    )


@cache
def known_words(num_scenes: int = 500) -> frozenset[str]:
    """Collect the words of the scenes' own language."""
    rng = np.random.default_rng(0)
    scenes = [scene_at(i, "train") for i in range(num_scenes)]
    tellers = (long_caption, short_caption, prompt)
    return training_words(tell(scene, rng) for scene in scenes for tell in tellers)


def true_captions(scenes: Sequence[Scene], seed: int) -> list[str]:
    """Return the complete caption of each scene, worded by the seed."""
    return [long_caption(s, np.random.default_rng([seed, i])) for i, s in enumerate(scenes)]


def answer(
    model: UnifiedAutoEncoder,
    asked: Sequence[AskedQuestion],
    images: Sequence[Image.Image],
    config: EvaluationConfig,
    show: ShowProgress = in_silence,
) -> list[str]:
    """Answer the multiple-choice questions, with the most probable words."""
    replies: list[str] = []
    for part in batches(len(asked), config.micro_batch, "answering", show):
        prompts = model.encoder.prompts(
            [images[a.scene_index] for a in asked[part]],
            [compact_text(a.question) for a in asked[part]],
        )
        replies += model.encoder.sample(prompts, None, max_new_tokens=4).texts
    return replies
