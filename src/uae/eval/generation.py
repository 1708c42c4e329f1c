"""Generation on scenes, judged by GenEval's rules with the parser in the detector's place.

(djghosh13/geneval `evaluation/evaluate_images.py`)

- each include clause looks at the `count` most confident objects of its class (here: shape), fewer
  are a failure; as many of them must have the colour
- position: each of them must stand in the relation to every target object
- an exclude clause fails from `count` objects on; only counting has one, so other categories
  tolerate objects that were not asked for

One difference: GenEval raises its detector's threshold for counting. The parser has one threshold
(`parser.MAX_ERROR`) for all, and an object's confidence is the lack of match error.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from uae.data.scenes.graph import SceneObject, held_relations
from uae.data.scenes.parser import ParsedScene
from uae.eval.scene_prompts import TAGS, Clause, GenerationPrompt


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an image meets its prompt; `reason` has one line for each requirement it fails."""

    correct: bool
    reason: str


def judge(prompt: GenerationPrompt, parsed: ParsedScene) -> Verdict:
    """Apply the decision rules to one image."""
    order = np.argsort(parsed.errors, kind="stable")
    by_confidence = [parsed.objects[i] for i in order]
    failures: list[str] = []
    matched: list[list[SceneObject] | None] = []
    for clause in prompt.include:
        found = [o for o in by_confidence if o.shape == clause.shape][: clause.count]
        failure = _failure(clause, found, matched)
        matched.append(None if failure else found)
        failures += [failure] if failure else []
    shapes = Counter(o.shape for o in parsed.objects)
    failures += [
        f"expected {clause.shape}<{clause.count}, found {shapes[clause.shape]}"
        for clause in prompt.exclude
        if shapes[clause.shape] >= clause.count
    ]
    return Verdict(not failures, "\n".join(failures))


def _failure(
    clause: Clause, found: Sequence[SceneObject], matched: Sequence[Sequence[SceneObject] | None]
) -> str:
    """Say what an include clause lacks, in GenEval's words; "" where it is met."""
    if len(found) < clause.count:
        return f"expected {clause.shape}>={clause.count}, found {len(found)}"
    if clause.color is not None:
        colors = Counter(o.color for o in found)
        if colors[clause.color] < clause.count:
            others = ", ".join(f"{count} {color}" for color, count in colors.items())
            return (
                f"expected {clause.color} {clause.shape}>={clause.count}, "
                f"found {colors[clause.color]} {clause.color}; and {others}"
            )
    if clause.position is not None:
        name, target = clause.position
        targets = matched[target]
        if targets is None:
            return f"no target for {clause.shape} to be {name}"
        for o in found:
            for reference in targets:
                held = held_relations(o, reference)
                if name not in held:
                    return f"expected {clause.shape} {name} target, found {' and '.join(held)}"
    return ""


@dataclass(frozen=True, slots=True)
class GenerationSamples:
    """One row per image."""

    correct: Float[np.ndarray, " n"]
    """1 where all requirements are met. Its mean is GenEval's overall score, the unweighted mean
    over categories, as each has equally many rows."""
    tags: tuple[str, ...]
    reasons: tuple[str, ...]

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
        reasons=tuple(v.reason for v in verdicts),
    )
