"""Understanding on scenes: what captions say against the truth, and multiple-choice answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from uae.benchmarks.answers import extract_answer
from uae.core.errors import UsageError
from uae.scenes.graph import SIZES, Scene, relation
from uae.scenes.matching import agreement, matched_pairs
from uae.scenes.questions import CATEGORIES, Question, allows, questions_for
from uae.scenes.reading import ATTRIBUTES, Claims, RelationClaim, full_claim


@dataclass(frozen=True, slots=True)
class CaptionScore:
    """Counts for one caption of one scene.

    A *mention* is an object that the caption introduces; it is *matched* when `matching` finds the
    true object that it means, and hallucinated otherwise.
    """

    num_objects: int
    num_mentions: int
    num_matched: int
    """Mentions that mean a true object; as many true objects are covered."""
    stated: Mapping[str, int]
    """Per attribute: mentions that state it, matched or not."""
    correct: Mapping[str, int]
    """Per attribute: matched mentions that state it and are right about their object."""
    size_objects: Mapping[str, int]
    """Per size class: true objects, and in `size_covered` those that a mention is matched to."""
    size_covered: Mapping[str, int]
    num_whole: int
    """Matched mentions that state all four attributes and are right in all."""
    num_faithful: int
    """Matched mentions with nothing stated wrong; the rest may be left open."""
    right: tuple[Mapping[str, bool], ...]
    """Per true object: whether each attribute that its mention states is right; empty where no
    mention is matched to it."""
    object_sizes: tuple[str, ...]
    background_stated: bool
    background_right: bool
    count_stated: bool
    count_right: bool
    num_relations: int
    num_relations_right: int
    """Stated relations in which two different true objects stand that fit the two descriptions."""

    @property
    def num_hallucinated(self) -> int:
        return self.num_mentions - self.num_matched

    @property
    def num_claims(self) -> int:
        """Everything the caption states: attributes, background, number of objects, relations."""
        others = self.background_stated + self.count_stated + self.num_relations
        return sum(self.stated.values()) + others

    @property
    def num_claims_right(self) -> int:
        others = self.background_right + self.count_right + self.num_relations_right
        return sum(self.correct.values()) + others


def score_caption(scene: Scene, claims: Claims) -> CaptionScore:
    """Compare what a caption says with its scene."""
    pairs = matched_pairs(scene.objects, claims.objects)
    agreed = {i: agreement(claims.objects[k], scene.objects[i]) for i, k in pairs}
    agreements = list(agreed.values())
    covered = [scene.objects[i].size for i, _ in pairs]
    sizes = [o.size for o in scene.objects]
    return CaptionScore(
        num_objects=len(scene.objects),
        num_mentions=len(claims.objects),
        num_matched=len(pairs),
        stated={a: sum(a in claim.stated for claim in claims.objects) for a in ATTRIBUTES},
        correct={a: sum(agrees.get(a, False) for agrees in agreements) for a in ATTRIBUTES},
        size_objects={size: sizes.count(size) for size in SIZES},
        size_covered={size: covered.count(size) for size in SIZES},
        num_whole=sum(all(agrees.get(a, False) for a in ATTRIBUTES) for agrees in agreements),
        num_faithful=sum(all(agrees.values()) for agrees in agreements),
        right=tuple(agreed.get(i, {}) for i in range(len(scene.objects))),
        object_sizes=tuple(sizes),
        background_stated=claims.background is not None,
        background_right=claims.background == scene.background,
        count_stated=claims.count is not None,
        count_right=claims.count == len(scene.objects),
        num_relations=len(claims.relations),
        num_relations_right=sum(_is_true(scene, claim) for claim in claims.relations),
    )


def _is_true(scene: Scene, claim: RelationClaim) -> bool:
    return any(
        relation(a, b) == claim.name
        for a in scene.objects
        for b in scene.objects
        if a is not b and claim.subject.fits(full_claim(a)) and claim.reference.fits(full_claim(b))
    )


@dataclass(frozen=True, slots=True)
class CaptionSamples:
    """Shares per caption, row i for scene i; NaN where a caption or scene has nothing to share.

    `accuracy` and `faithful_by_size` have a row for each true object instead. Between two captions
    of a scene they compare what both tell of the same objects, while a share of all that is stated
    falls already when harder objects are told beside the others.
    """

    coverage: Float[np.ndarray, " n"]
    """Share of the true objects that are mentioned (matched)."""
    coverage_by_size: Mapping[str, Float[np.ndarray, " n"]]
    """The same among the true objects of one size."""
    recall: Mapping[str, Float[np.ndarray, " n"]]
    """Per attribute: share of the true objects whose attribute is stated rightly."""
    precision: Mapping[str, Float[np.ndarray, " n"]]
    """Per attribute: right among stated; a hallucinated mention's attributes are wrong."""
    whole_recall: Float[np.ndarray, " n"]
    """Share of the true objects that are described in full and without an error."""
    whole_precision: Float[np.ndarray, " n"]
    """Share of the mentions that mean a true object and state nothing wrong of it."""
    hallucinated: Float[np.ndarray, " n"]
    """Share of the mentions that mean no true object."""
    claim_precision: Float[np.ndarray, " n"]
    """Share of all claims that are true: attributes, background, number of objects, relations."""
    background: Float[np.ndarray, " n"]
    """1 where the background is named rightly, 0 where wrongly or not at all."""
    accuracy: Mapping[str, Float[np.ndarray, " m"]]
    """Per attribute: 1 where an object's mention states it rightly, 0 wrongly; NaN not at all."""
    faithful_by_size: Mapping[str, Float[np.ndarray, " m"]]
    """1 where the mention of an object of this size states nothing wrong; NaN for no mention."""
    scene_index: Int[np.ndarray, " m"]
    """The scene of each object."""


def caption_samples(scores: Sequence[CaptionScore]) -> CaptionSamples:
    """Turn counts into shares, one row per caption."""
    objects = [s.num_objects for s in scores]
    mentions = [s.num_mentions for s in scores]
    claims = [s.num_claims for s in scores]
    return CaptionSamples(
        coverage=_shares([s.num_matched for s in scores], objects),
        coverage_by_size={
            x: _shares([s.size_covered[x] for s in scores], [s.size_objects[x] for s in scores])
            for x in SIZES
        },
        recall={a: _shares([s.correct[a] for s in scores], objects) for a in ATTRIBUTES},
        precision={
            a: _shares([s.correct[a] for s in scores], [s.stated[a] for s in scores])
            for a in ATTRIBUTES
        },
        whole_recall=_shares([s.num_whole for s in scores], objects),
        whole_precision=_shares([s.num_faithful for s in scores], mentions),
        hallucinated=_shares([s.num_hallucinated for s in scores], mentions),
        claim_precision=_shares([s.num_claims_right for s in scores], claims),
        background=np.array([float(s.background_right) for s in scores]),
        accuracy={
            a: np.array([float(r.get(a, np.nan)) for s in scores for r in s.right])
            for a in ATTRIBUTES
        },
        faithful_by_size={
            size: np.array([_faithful(s, i, size) for s in scores for i in range(s.num_objects)])
            for size in SIZES
        },
        scene_index=np.repeat(np.arange(len(scores)), objects),
    )


def _shares(part: Sequence[int], whole: Sequence[int]) -> Float[np.ndarray, " n"]:
    """Divide; NaN where there is nothing to divide by."""
    parts, wholes = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(parts, wholes, out=np.full(len(parts), np.nan), where=wholes > 0)


def _faithful(score: CaptionScore, i: int, size: str) -> float:
    right = score.right[i]
    return float(all(right.values())) if right and score.object_sizes[i] == size else np.nan


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """A question about scene `scene_index` of an evaluation."""

    scene_index: int
    question: Question


def question_set(
    scenes: Sequence[Scene], num_per_category: int, seed: int
) -> tuple[AskedQuestion, ...]:
    """Ask `num_per_category` questions of each subtask, at most one of each about one scene.

    Raises:
        UsageError: Too few scenes allow questions of a subtask.
    """
    questions: list[AskedQuestion] = []
    for number, category in enumerate(CATEGORIES):
        fitting = [i for i, scene in enumerate(scenes) if allows(scene, category)]
        if len(fitting) < num_per_category:
            raise UsageError(
                f"{num_per_category} questions of {category!r} asked for: only {len(fitting)} of "
                f"{len(scenes)} scenes allow one, expected more scenes or fewer questions"
            )
        for i in fitting[:num_per_category]:
            rng = np.random.default_rng([seed, number, i])
            questions.append(AskedQuestion(i, questions_for(scenes[i], rng, 1, category)[0]))
    return tuple(questions)


@dataclass(frozen=True, slots=True)
class AnswerSamples:
    """One row per question."""

    correct: Float[np.ndarray, " q"]
    """1 right, 0 wrong or unparsed."""
    is_parsed: Bool[np.ndarray, " q"]
    categories: tuple[str, ...]

    @property
    def num_unparsed(self) -> int:
        return int((~self.is_parsed).sum())

    @property
    def by_category(self) -> dict[str, Float[np.ndarray, " m"]]:
        """`correct` of each subtask."""
        names = np.array(self.categories)
        return {c: self.correct[names == c] for c in dict.fromkeys(self.categories)}


def answer_samples(questions: Sequence[Question], replies: Sequence[str]) -> AnswerSamples:
    """Score replies, one for each question, by the rules of `answers`."""
    pairs = list(zip(questions, replies, strict=True))
    letters = [extract_answer(reply, question.options) for question, reply in pairs]
    right = [letter == q.answer for letter, q in zip(letters, questions, strict=True)]
    return AnswerSamples(
        correct=np.array(right, dtype=float),
        is_parsed=np.array([letter is not None for letter in letters], dtype=bool),
        categories=tuple(q.category for q in questions),
    )
