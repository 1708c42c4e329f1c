"""Replies of a run as lmms-eval's samples: what its `--log_samples` writes, one question a line.

`accuracy` and `submission` are named as its task `mmt` names them; the verdict is by our rules, as
its own takes a letter at random where a reply names none (EvolvingLMMs-Lab/lmms-eval@75571cf
`lmms_eval/loggers/evaluation_tracker.py`, `lmms_eval/tasks/mmt/utils.py`).
"""

import json
from collections.abc import Sequence
from typing import Any

from uae.benchmarks.mmt_bench.prompt import PROMPTS, PromptName
from uae.data.questions import LETTERS, Question
from uae.runs.rows import ItemRow


def lmms_samples(rows: Sequence[ItemRow], prompt: PromptName) -> bytes:
    """Return the samples of the rows that have a reply.

    Args:
        rows: Of a run, in the order of its file, whose places are the samples' `doc_id`.
        prompt: How the questions were asked.
    """
    samples = [
        {"doc_id": place, **_sample(row, prompt)}
        for place, row in enumerate(rows)
        if "reply" in row.details
    ]
    return "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples).encode()


def _sample(row: ItemRow, prompt: PromptName) -> dict[str, Any]:
    said, meta = row.details, row.labels["meta_task"]
    options = tuple(said["options"].get(letter, "") for letter in LETTERS)
    question = Question(
        said["question"], options, said["answer"], row.labels["subtask"], meta, said["hint"]
    )
    hidden = not said["answer"] and said["letter"] is not None
    sample = {
        "target": said["answer"],
        "filtered_resps": [said["reply"]],
        "input": PROMPTS[prompt](question),
        "submission": {row.item: said["letter"]} if hidden else {},
    }
    if "answer" in row.samples:
        verdict = float(row.samples["answer"])
        sample["accuracy"] = {"overall": verdict, meta: verdict}
    return sample
