"""DPG-Bench's scores (TencentQQGYLab/ELLA@3c228f1 `dpg_bench/compute_dpg_bench.py`).

- of a question in an image: 1 for yes, and 0 where a question that it depends on has 0
- of an image: mean over its questions; of an item: mean over its images
- DPG: mean over items
- of a category, broad (L1) or detailed (L2): mean over its questions of all items and images

With `compat` two faults of upstream are done as there: a category counts the last image alone, and
answers before dependencies (ELLA#60); the table's first question is not read (ELLA#61).
"""

from collections.abc import Mapping, Sequence

from uae.benchmarks.dpg.prompts import Question
from uae.benchmarks.results.scores import Score
from uae.runs.rows import ItemRow

ITEM, QUESTION, IMAGE = "item", "question", "image"
"""What a row is of, as the label `of`."""
OVERALL = Score(name="DPG", sample="dpg", where={"of": ITEM}, is_share=True)


def with_dependencies(
    questions: Sequence[Question], answers: Mapping[int, float]
) -> dict[int, float]:
    """Set to 0 what depends on a 0, in the order of the questions' numbers, so that it cascades."""
    scores = dict(answers)
    for question in questions:
        if any(scores[parent] == 0 for parent in question.parents):
            scores[question.question_id] = 0.0
    return scores


def dpg_scores(rows: Sequence[ItemRow]) -> list[Score]:
    """Return DPG and the score of each category that rows have."""
    scores = [OVERALL]
    for level in ("L1", "L2"):
        names = sorted({row.labels[level] for row in rows if level in row.labels})
        scores += [
            Score(name=f"{level}/{name}", sample="category", where={"of": QUESTION, level: name})
            for name in names
        ]
    return scores
