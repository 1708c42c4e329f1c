"""Rendered scenes as a source of training images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uae.data.shapes import Bucket
from uae.data.sources import Sample
from uae.scenes.graph import Split, scene_at
from uae.scenes.language import long_caption, prompt, terse_caption
from uae.scenes.render import render_image


@dataclass(frozen=True, slots=True)
class SceneSource:
    """Scenes of one split, drawn when they are wanted, with long captions.

    Two shares of them have a prompt or a terse caption instead.
    """

    split: Split
    num_scenes: int
    size_px: int
    seed: int
    prompt_share: float = 0.0
    terse_share: float = 0.0

    def buckets(self, batch_size: int) -> Sequence[Bucket]:
        """Return all scenes; they are squares."""
        return [Bucket((self.size_px, self.size_px), range(self.num_scenes))]

    def sample(self, index: int, wording_seed: int) -> Sample:
        scene = scene_at(index, self.split, self.seed)
        rng = np.random.default_rng(wording_seed)
        draw = rng.random()
        if draw < self.prompt_share:
            caption = prompt(scene, rng)
        elif draw < self.prompt_share + self.terse_share:
            caption = terse_caption(scene, rng)
        else:
            caption = long_caption(scene, rng)
        name = f"{self.split}-{index:06d}"
        image = render_image(scene, self.size_px)
        return Sample(name, image, image, caption)
