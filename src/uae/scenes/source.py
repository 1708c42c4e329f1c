"""Rendered scenes as a source of training images."""

import numpy as np

from uae.data.sources import Sample
from uae.scenes.graph import Split, scene_at
from uae.scenes.language import long_caption, prompt, terse_caption
from uae.scenes.render import render_image


class SceneSource:
    """Scenes of one split, drawn when they are wanted, with long captions.

    Two shares of them have a prompt or a terse caption instead.
    """

    def __init__(
        self,
        split: Split,
        num_scenes: int,
        size_px: int,
        seed: int,
        prompt_share: float = 0.0,
        terse_share: float = 0.0,
    ) -> None:
        self._split: Split = split
        self._num_scenes = num_scenes
        self._size_px = size_px
        self._seed = seed
        self._prompt_share = prompt_share
        self._terse_share = terse_share

    def __len__(self) -> int:
        return self._num_scenes

    def sample(self, index: int, wording_seed: int) -> Sample:
        scene = scene_at(index, self._split, self._seed)
        rng = np.random.default_rng(wording_seed)
        draw = rng.random()
        if draw < self._prompt_share:
            caption = prompt(scene, rng)
        elif draw < self._prompt_share + self._terse_share:
            caption = terse_caption(scene, rng)
        else:
            caption = long_caption(scene, rng)
        name = f"{self._split}-{index:06d}"
        return Sample(name, render_image(scene, self._size_px), caption)
