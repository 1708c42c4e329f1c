"""`uae scenes`: the procedural scenes as image files, captions and questions."""

from pathlib import Path
from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from uae.cli.output import PLAINLY, Talk
from uae.core.ranks import check_alone


def scenes(
    out: Path,
    /,
    *,
    num: PositiveInt = 256,
    split: Literal["train", "validation", "test"] = "test",
    seed: NonNegativeInt = 1234,
    size_px: PositiveInt = 64,
    questions: NonNegativeInt | None = None,
    talk: Talk = PLAINLY,
) -> int:
    """Write scenes as a folder of images with captions, questions and what is in them.

    Try:
        uae scenes runs/scenes

    For tools that take files: OUT/images/ has the pictures and captions.jsonl,
    OUT/questions.tsv questions in MMT-Bench's columns, OUT/scenes.jsonl the truth.

    Args:
        out: New folder.
        num: Scenes.
        split: test is what evaluations use; train is what training sees.
        seed: Seed of the wording; the default is that of evaluations.
        size_px: Height and width of the pictures.
        questions: Of each subtask; by default 40, or as many as the scenes allow.
        talk: Format and verbosity.
    """
    talk.begin()
    check_alone("uae scenes")
    from uae.scenes.folder import write_scenes

    num_questions = write_scenes(
        out, num, split, seed=seed, size_px=size_px, questions_per_subtask=questions
    )
    talk.result(str(out), {"out": str(out), "num_images": num, "num_questions": num_questions})
    return 0
