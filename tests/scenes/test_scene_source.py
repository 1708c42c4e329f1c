"""Scenes as training images: of the right split, in the shares of wording that were set."""

import numpy as np
import pytest

from uae.scenes.graph import scene_at
from uae.scenes.render import render_image
from uae.scenes.source import SceneSource

PROMPT_START = "a photo of "


def test_test_only_pairs_are_never_in_train():
    scenes = [scene_at(i, "train", seed) for seed in (0, 1) for i in range(300)]
    assert not any(scene.has_test_only_pair for scene in scenes)
    assert {scene.split for scene in scenes} == {"train"}
    assert any(scene_at(i, "test").has_test_only_pair for i in range(100))


def test_a_scene_source_draws_the_scenes_of_its_split_and_seed():
    source = SceneSource("train", 20, 32, seed=5)
    assert [bucket.indices for bucket in source.buckets(4)] == [range(20)]
    for i in range(20):
        drawn, expected = source.sample(i, i).image, render_image(scene_at(i, "train", 5), 32)
        assert drawn.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.3, 0.2, 0.4), (1.0, 1, 1)])
def test_prompt_share(share, low, high):
    """0.3 of 300 by the binomial: standard deviation 0.026, so 0.1 is almost 4 of them."""
    source = SceneSource("train", 300, 8, seed=0, prompt_share=share)
    captions = [source.sample(i, 1000 + i).caption for i in range(300)]
    told = np.mean([caption.startswith(PROMPT_START) for caption in captions])
    assert low <= told <= high


def test_terse_share():
    source = SceneSource("train", 50, 8, seed=0, prompt_share=0.4, terse_share=0.6)
    captions = [source.sample(i, 1000 + i).caption for i in range(50)]
    prompts = [c for c in captions if c.startswith(PROMPT_START)]
    assert 0 < len(prompts) < len(captions)
    assert all(c.count(".") == 1 for c in captions if c not in prompts)
