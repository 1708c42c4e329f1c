"""Questions with one right answer that a pair audit asks both sides, one row per question."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from uae.benchmarks.results.scores import Score
from uae.runs.rows import ItemRow

SIDES = ("before", "after")
KIND = "of"
"""Label of what a row is of: an image, or one of the kinds of questions."""
IMAGE = "image"
UNDERSTANDING, TEXT_SKILLS = "understanding", "text skills"
"""Questions about images, and questions of text alone."""


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Questions of one kind that both sides are asked.

    `ask` asks both all questions that have no answer yet, and returns their rows by side, as
    `benchmarks.mmt_bench` makes them; `items` are the names of all.
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
        names = [name(side, self.kind) for name in (sample_name, parsed_name) for side in SIDES]
        return [Score(name=name, sample=name, where={KIND: self.kind}) for name in names]

    def rows(self, todo: Sequence[str]) -> Iterator[ItemRow]:
        """Ask, and yield the rows of these names; what either side was not asked is left out."""
        sides = {side: {row.item: row for row in rows} for side, rows in self.ask().items()}
        items = self.names
        for name in todo:
            yield _row(name, self.kind, {side: sides[side][items[name]] for side in SIDES})


def sample_name(side: str, kind: str) -> str:
    """Name the sample of a side's answers: 1 right, 0 wrong."""
    return f"{side} {kind}"


def parsed_name(side: str, kind: str) -> str:
    """Name the sample of a side's replies: 1 where an option could be read, right or wrong."""
    return f"{side} {kind}, parsed"


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
    question = {key: second[key] for key in ("question", "options", "answer") if key in second}
    return ItemRow(
        item=name,
        labels={KIND: kind},
        samples={
            **{sample_name(side, kind): row.samples["answer"] for side, row in answers.items()},
            **{parsed_name(side, kind): row.samples["parsed"] for side, row in answers.items()},
        },
        details=question | {"first": first.get("reply", ""), "second": second.get("reply", "")},
    )
