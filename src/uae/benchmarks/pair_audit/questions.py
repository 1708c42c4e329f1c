"""Questions with one right answer that a pair audit asks both sides, one row per question."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from uae.benchmarks.results.scores import Score
from uae.runs.rows import ItemRow

SIDES = ("before", "after")
KIND = "of"
"""Label of what a row is of: an image, or one of the kinds of questions."""
UNDERSTANDING, TEXT_SKILLS = "understanding", "text skills"
"""Questions about images, and questions of text alone."""


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Questions that both sides are asked.

    Attributes:
        kind: What they ask for, `UNDERSTANDING` say: names samples and rows.
        items: Their names, all of them.
        ask: Asks both sides all questions that have no answer yet, and returns their rows by side,
            as `eval.mmt_bench` makes them.
    """

    kind: str
    items: Sequence[str]
    ask: Callable[[], Mapping[str, Sequence[ItemRow]]]

    @property
    def names(self) -> dict[str, str]:
        """The items by the names of their rows in the audit."""
        return {f"{self.kind} question {item}": item for item in self.items}

    @property
    def scores(self) -> list[Score]:
        """Share of right answers of each side, then that of the replies that named an option."""
        names = [sample_name(side, self.kind) for side in SIDES]
        names += [parsed_name(side, self.kind) for side in SIDES]
        return [Score(name=name, sample=name, where={KIND: self.kind}) for name in names]


def sample_name(side: str, kind: str) -> str:
    """Name the sample of a side's answers: 1 right, 0 wrong."""
    return f"{side} {kind}"


def parsed_name(side: str, kind: str) -> str:
    """Name the sample of a side's replies: 1 where an option could be read, right or wrong."""
    return f"{side} {kind}, parsed"


def question_rows(questions: QuestionSet, todo: Sequence[str]) -> Iterator[ItemRow]:
    """Ask, and yield a row of each question; one that either side could not be asked is left out.

    Args:
        questions: What is asked.
        todo: Names of the rows that are to be made.
    """
    sides = {side: {row.item: row for row in rows} for side, rows in questions.ask().items()}
    items = questions.names
    for name in todo:
        yield _row(name, questions.kind, {side: sides[side][items[name]] for side in SIDES})


def _row(name: str, kind: str, answers: Mapping[str, ItemRow]) -> ItemRow:
    for row in answers.values():
        if row.excluded:
            return ItemRow(
                item=name,
                labels={KIND: kind},
                excluded=row.excluded,
                excluded_detail=row.excluded_detail,
            )
    first, second = (answers[side].details for side in SIDES)
    asked = {key: second[key] for key in ("question", "options", "answer") if key in second}
    return ItemRow(
        item=name,
        labels={KIND: kind},
        samples={
            **{sample_name(side, kind): row.samples["answer"] for side, row in answers.items()},
            **{parsed_name(side, kind): row.samples["parsed"] for side, row in answers.items()},
        },
        details=asked | {"first": first.get("reply", ""), "second": second.get("reply", "")},
    )


def answers_of(
    rows: Sequence[ItemRow], kind: str
) -> tuple[Float[np.ndarray, " q"], Float[np.ndarray, " q"]] | None:
    """Return before and after, 1 where the same question was answered rightly; None if none was."""
    asked = sorted((row for row in rows if row.labels.get(KIND) == kind), key=lambda row: row.item)
    scored = [row for row in asked if not row.excluded]
    if not scored:
        return None
    before, after = (
        np.array([row.samples[sample_name(side, kind)] for row in scored], dtype=np.float64)
        for side in SIDES
    )
    return before, after
