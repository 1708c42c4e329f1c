"""Scenes as files, for any tool that takes images, captions or questions.

images/scene-000000.png     renders; images/captions.jsonl has their complete captions, and
                            images/metadata.jsonl the same for `datasets`
questions.tsv               questions in MMT-Bench's columns, those of `uae eval scenes`
scenes.jsonl                what is in each image: background and objects
"""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from uae.core.durable import remove, storage_faults
from uae.core.errors import UsageError
from uae.data.caption_layouts import CAPTIONS_NAME, METADATA_NAME
from uae.data.captions import CaptionRow, CaptionsWriter
from uae.data.questions import QuestionRow, encode_image, write_tsv
from uae.recipe.recipe import EvaluationConfig
from uae.scenes.graph import Scene, Split, scene_at
from uae.scenes.language import long_caption
from uae.scenes.questions import CATEGORIES, allows
from uae.scenes.render import render_image
from uae.scenes.understanding import question_set

_QUESTIONS = EvaluationConfig().num_questions
IMAGES, QUESTIONS, SCENES = "images", "questions.tsv", "scenes.jsonl"


def write_scenes(
    folder: Path,
    num: int,
    split: Split,
    *,
    seed: int,
    size_px: int,
    questions_per_subtask: int | None = None,
) -> int:
    """Write the first scenes of a split, and return the number of questions.

    What fails on the way leaves the folder as it was.

    Args:
        folder: Must not exist, or be empty.
        num: Scenes.
        split: The splits share no scene.
        seed: Of captions and questions.
        size_px: Height and width of a render.
        questions_per_subtask: Of each of the five; by default 40, or as many as scenes allow.

    Raises:
        UsageError: The folder holds something, or too few scenes allow a question of a subtask.
        EnvironmentFault: It cannot be written; names it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder} exists and is not empty: name a new folder, or delete this one if a `uae "
            "scenes` that was killed left it"
        )
    scenes = [scene_at(index, split) for index in range(num)]
    if questions_per_subtask is None:
        fitting = (sum(allows(scene, category) for scene in scenes) for category in CATEGORIES)
        questions_per_subtask = min(_QUESTIONS, *fitting)
    questions = question_set(scenes, questions_per_subtask, seed)
    with storage_faults("cannot write the scenes to", folder), ExitStack() as undo:
        undo.callback(_clear, folder, is_new=not folder.exists())
        (folder / IMAGES).mkdir(parents=True)
        images = [render_image(scene, size_px) for scene in scenes]
        _write_images(folder / IMAGES, scenes, images, seed)
        rows = (
            QuestionRow(i, a.question, encode_image(images[a.scene_index]), split)
            for i, a in enumerate(questions)
        )
        write_tsv(folder / QUESTIONS, rows)
        lines = [json.dumps(_graph(scene)) + "\n" for scene in scenes]
        (folder / SCENES).write_text("".join(lines), encoding="utf-8")
        undo.pop_all()
    return len(questions)


def _write_images(
    folder: Path, scenes: Sequence[Scene], images: Sequence[Image.Image], seed: int
) -> None:
    with (
        CaptionsWriter(folder / CAPTIONS_NAME) as captions,
        (folder / METADATA_NAME).open("w", encoding="utf-8") as metadata,
    ):
        for i, (scene, image) in enumerate(zip(scenes, images, strict=True)):
            name = f"scene-{i:06d}.png"
            image.save(folder / name)
            caption = long_caption(scene, np.random.default_rng([seed, i]))
            captions.append(CaptionRow(image=name, caption=caption))
            metadata.write(json.dumps({"file_name": name, "text": caption}) + "\n")


def _clear(folder: Path, *, is_new: bool) -> None:
    """Delete what was written, and the folder if it was made."""
    for path in (folder / name for name in (IMAGES, QUESTIONS, SCENES)):
        if path.exists():
            remove(path)
    if is_new and folder.exists():
        folder.rmdir()


def _graph(scene: Scene) -> dict[str, object]:
    objects = [{**asdict(o), "cell": o.cell} for o in scene.objects]
    return {"background": scene.background, "objects": objects}
