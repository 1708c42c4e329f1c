"""The images that a recipe trains on and is measured by: scenes, or the user's own."""

from pathlib import Path

from uae.data.shapes import Shapes
from uae.data.sources import FolderSource, ImageSource
from uae.data.survey import Survey
from uae.models.settings import find_settings
from uae.recipe.recipe import Recipe
from uae.scenes.evaluator import SceneEvaluator
from uae.scenes.source import SceneSource
from uae.train.evaluator import RunImages
from uae.train.own_images import OwnImages


def run_images(recipe: Recipe) -> RunImages:
    """Return the images of a recipe: rendered scenes, or those of `data.folder`.

    Raises:
        UsageError: The model or the folder is not there.
    """
    limit = find_settings(recipe.model).max_caption_tokens
    data = recipe.data
    if data.folder and data.held_out_share:
        own = OwnImages(Path(data.folder), data.held_out_share, recipe, limit)
        return RunImages(source=own.source, evaluator=own)
    evaluator = SceneEvaluator(recipe.evaluation, recipe.reward, limit)

    def source(shapes: Shapes, survey: Survey | None) -> ImageSource:
        if survey is not None:
            return FolderSource(survey, shapes)
        shares = data.prompt_share, data.terse_share
        return SceneSource("train", data.num_scenes, shapes.size_px, recipe.seed, *shares)

    return RunImages(source=source, evaluator=evaluator)
