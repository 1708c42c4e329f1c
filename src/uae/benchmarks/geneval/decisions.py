"""GenEval's decisions: from scored masks to right or wrong, with the reason in the official words.

(djghosh13/geneval@af4902f `evaluation/evaluate_images.py`, arXiv 2310.11513)

Two departures that change no verdict: where several relations hold they are named in a fixed order
(there in the order of a Python set), and of equal scores the later detection is always the first
(there it depends on NumPy's sort).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from pydantic import PositiveInt
from pydantic.dataclasses import dataclass as config_dataclass

from uae.benchmarks.geneval.clauses import Asking, Clause, relations_of_boxes
from uae.benchmarks.geneval.prompts import CLASS_NAMES, COLORS
from uae.core.config import STRICT

_NEGLIGIBLE_PX = 1e-3


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class DecisionConfig:
    """Which detections count. The defaults are the benchmark's: others give another score."""

    threshold: float = 0.3
    """A detection counts above this score."""
    counting_threshold: float = 0.9
    """The same, for the prompts of the category counting."""
    max_objects: PositiveInt = 16
    """Detections kept per class, the most confident ones, before suppression."""
    max_overlap: float = 1.0
    """Of two boxes with this intersection over union or more the less confident goes; 1 is off."""

    def threshold_of(self, tag: str) -> float:
        return self.counting_threshold if tag == "counting" else self.threshold


@dataclass(frozen=True, slots=True)
class Detections:
    """Objects in one image of h x w pixels, in any order."""

    class_id: Int[np.ndarray, " n"]
    """Index into `CLASS_NAMES`."""
    scores: Float32[np.ndarray, " n"]
    boxes: Float32[np.ndarray, "n 4"]
    """Left, top, right, bottom in pixels; right and bottom lie one beyond the mask."""
    masks: Bool[np.ndarray, "n h w"]


@dataclass(frozen=True, slots=True)
class DetectedObject:
    """One detection; fields as in `Detections`."""

    score: float
    box: tuple[float, float, float, float]
    mask: Bool[np.ndarray, "h w"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an image meets its prompt; `reason` has one line for each requirement it fails."""

    correct: bool
    reason: str


Object = TypeVar("Object")
"""A detection, or whatever else has a colour and a place."""
ColorsOf = Callable[[str, Sequence[Object]], Sequence[str]]
"""Names the colour of each of an image's objects; the first argument is their class."""
RelationsOf = Callable[[Object, Object], Sequence[str]]
"""Names the relations in which the first object stands to the second."""


def confident_objects(
    detections: Detections, tag: str, config: DecisionConfig
) -> dict[str, list[DetectedObject]]:
    """Keep the detections that count for a category, by class, the most confident first."""
    objects: dict[str, list[DetectedObject]] = {}
    for class_id in np.unique(detections.class_id):
        of_class = np.flatnonzero(detections.class_id == class_id)
        order = of_class[np.argsort(detections.scores[of_class], kind="stable")[::-1]]
        order = order[detections.scores[order] > config.threshold_of(tag)][: config.max_objects]
        if config.max_overlap < 1:
            order = _suppress(detections.boxes, order, config.max_overlap)
        if len(order):
            objects[CLASS_NAMES[class_id]] = [_object(detections, i) for i in order.tolist()]
    return objects


def _object(detections: Detections, i: int) -> DetectedObject:
    left, top, right, bottom = detections.boxes[i].tolist()
    return DetectedObject(
        float(detections.scores[i]), (left, top, right, bottom), detections.masks[i]
    )


def _suppress(
    boxes: Float[np.ndarray, "n 4"], order: Int[np.ndarray, " k"], max_overlap: float
) -> Int[np.ndarray, " m"]:
    """Drop each box that overlaps with a more confident one that is kept."""
    kept: list[int] = []
    for i in order.tolist():
        if all(box_overlap(boxes[k], boxes[i]) < max_overlap for k in kept):
            kept.append(i)
    return np.array(kept, dtype=order.dtype)


def box_overlap(box: Float[np.ndarray, "4"], other: Float[np.ndarray, "4"]) -> float:
    """Return intersection over union; a box covers (right - left + 1) x (bottom - top + 1) px."""
    common = np.concatenate([np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])])
    intersection = _area(common)
    union = _area(box) + _area(other) - intersection
    return intersection / union if union else 0.0


def _area(box: Float[np.ndarray, "4"]) -> float:
    width, height = np.maximum(box[2:] - box[:2] + 1, 0)
    return float(width) * float(height)


def held_relations(subject: DetectedObject, reference: DetectedObject) -> tuple[str, ...]:
    """Return the relations in which an object stands to another: none, one or two."""
    first, second = (np.array(o.box).reshape(2, 2) for o in (subject, reference))
    offset = first.mean(axis=0) - second.mean(axis=0)
    sizes = np.abs(first[1] - first[0]) + np.abs(second[1] - second[0])
    return relations_of_boxes(offset, sizes, _NEGLIGIBLE_PX)


def judge(
    prompt: Asking,
    objects: Mapping[str, Sequence[Object]],
    colors_of: ColorsOf[Object],
    relations_of: RelationsOf[Object],
) -> Verdict:
    """Apply a prompt's clauses to an image's objects, given by class, the most confident first.

    Of each class asked for, only the `count` most confident objects are looked at. A class that is
    not excluded may have more, so that counting alone is exact. Colours are asked of the objects of
    clauses with a colour only.
    """
    failures: list[str] = []
    matched: list[Sequence[Object] | None] = []
    for clause in prompt.include:
        found = objects.get(clause.class_name, [])[: clause.count]
        failure = _failure(clause, found, matched, colors_of, relations_of)
        matched.append(None if failure else found)
        failures += [failure] if failure else []
    for clause in prompt.exclude:
        num_found = len(objects.get(clause.class_name, []))
        if num_found >= clause.count:
            failures.append(f"expected {clause.class_name}<{clause.count}, found {num_found}")
    return Verdict(not failures, "\n".join(failures))


def _failure(
    clause: Clause,
    found: Sequence[Object],
    matched: Sequence[Sequence[Object] | None],
    colors_of: ColorsOf[Object],
    relations_of: RelationsOf[Object],
) -> str:
    """Say what an include clause lacks; "" where it is met."""
    if len(found) < clause.count:
        return f"expected {clause.class_name}>={clause.count}, found {len(found)}"
    if clause.color is not None:
        counts = Counter(colors_of(clause.class_name, found))
        if counts[clause.color] < clause.count:
            seen = ", ".join(f"{counts[color]} {color}" for color in COLORS if counts[color])
            return (
                f"expected {clause.color} {clause.class_name}>={clause.count}, "
                f"found {counts[clause.color]} {clause.color}; and {seen}"
            )
    if clause.position is not None:
        return _position_failure(clause, found, matched, relations_of)
    return ""


def _position_failure(
    clause: Clause,
    found: Sequence[Object],
    matched: Sequence[Sequence[Object] | None],
    relations_of: RelationsOf[Object],
) -> str:
    assert clause.position is not None
    class_name, (relation, target) = clause.class_name, clause.position
    targets = matched[target]
    if targets is None:
        return f"no target for {class_name} to be {relation}"
    for o in found:
        for reference in targets:
            held = relations_of(o, reference)
            if relation not in held:
                return f"expected {class_name} {relation} target, found {' and '.join(held)} target"
    return ""
