"""Generation on scenes, judged by GenEval's rules (`geneval/decisions.py`) with our parser.

One difference: GenEval raises its detector's threshold for counting. The parser has one threshold
(`parser.MAX_ERROR`) for all, and an object's confidence is the lack of match error.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from uae.benchmarks.geneval import decisions
from uae.benchmarks.geneval.clauses import TAGS
from uae.benchmarks.geneval.decisions import Verdict
from uae.scenes.graph import SceneObject, held_relations
from uae.scenes.parser import ParsedScene
from uae.scenes.prompts import GenerationPrompt


def judge(prompt: GenerationPrompt, parsed: ParsedScene) -> Verdict:
    """Apply the decision rules to one image."""
    by_shape: dict[str, list[SceneObject]] = {}
    for i in np.argsort(parsed.errors, kind="stable"):
        by_shape.setdefault(parsed.objects[i].shape, []).append(parsed.objects[i])
    return decisions.judge(
        prompt, by_shape, lambda _, found: [o.color for o in found], held_relations
    )


@dataclass(frozen=True, slots=True)
class GenerationSamples:
    """One row per image."""

    correct: Float[np.ndarray, " n"]
    """1 where all requirements are met. Its mean is GenEval's overall score, the unweighted mean
    over categories, as each has equally many rows."""
    tags: tuple[str, ...]

    @property
    def by_tag(self) -> dict[str, Float[np.ndarray, " m"]]:
        """`correct` of each category."""
        names = np.array(self.tags)
        return {tag: self.correct[names == tag] for tag in TAGS}


def generation_samples(
    prompts: Sequence[GenerationPrompt], parsed: Sequence[ParsedScene]
) -> GenerationSamples:
    """Judge images, one for each prompt.

    Raises:
        ValueError: The numbers differ, or the categories are not equally large: a summary of an
            incomplete set is no GenEval score.
    """
    if len(prompts) != len(parsed):
        raise ValueError(f"{len(parsed)} images for {len(prompts)} prompts: expected one for each")
    sizes = Counter(prompt.tag for prompt in prompts)
    if len({sizes[tag] for tag in TAGS}) != 1:
        raise ValueError(f"prompts per category {dict(sizes)}: expected equally many of {TAGS}")
    verdicts = [judge(prompt, image) for prompt, image in zip(prompts, parsed, strict=True)]
    return GenerationSamples(
        correct=np.array([float(v.correct) for v in verdicts]),
        tags=tuple(prompt.tag for prompt in prompts),
    )
