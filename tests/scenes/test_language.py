import numpy as np

from uae.scenes.graph import Scene, SceneObject, scene_at
from uae.scenes.language import long_caption, prompt, short_caption


def captions(make, num: int = 300) -> list[str]:
    rng = np.random.default_rng(0)
    return [make(scene_at(i, "train"), rng) for i in range(num)]


def test_long_captions_vary_for_one_scene():
    scene = scene_at(0, "test")
    rng = np.random.default_rng(0)
    assert len({long_caption(scene, rng) for _ in range(50)}) > 45


def test_long_captions_of_full_scenes_are_long():
    rng = np.random.default_rng(0)
    full = [s for s in (scene_at(i, "train") for i in range(100)) if len(s.objects) == 5]
    words = [len(long_caption(s, rng).replace(".", " .").replace(",", " ,").split()) for s in full]
    assert min(words) > 60
    assert np.mean(words) > 77  # a CLIP token is a word or less


def test_short_captions_leave_out_small_objects_and_attributes():
    long, short = captions(long_caption), captions(short_caption)
    assert np.mean([len(c) for c in short]) < 0.4 * np.mean([len(c) for c in long])


def test_prompts_are_in_genevals_words():
    assert all(p.startswith("a photo of ") for p in captions(prompt))
    two = Scene(
        "gray",
        (
            SceneObject("cross", "orange", "small", 0.2, 0.2),
            SceneObject("cross", "orange", "small", 0.8, 0.8),
        ),
    )
    rng = np.random.default_rng(0)
    assert {prompt(two, rng) for _ in range(40)} == {
        "a photo of two orange crosses",
        "a photo of two orange pluses",
        "a photo of two crosses",
        "a photo of two pluses",
    }
