"""Captions drawn with others of like length: no row is lost, and no picture depends on the rest."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from uae.models.batches import parts_by_length
from uae.models.drawing import redraw
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.recipe import EvaluationConfig
from uae.recipe.sampling import SamplingConfig
from uae.train.observe import draw

CAPTIONS = [
    "A big red circle in the middle of the picture, over a small blue star.",
    "A bar.",
    "A green ring at the top, and beside it a yellow cross, on a grey background.",
    "A red circle.",
    "Two stars.",
]
ALONE = {"atol": 2e-5, "rtol": 0}  # float32 sums in another order


@given(st.lists(st.text(max_size=9), max_size=20), st.integers(1, 8))
def test_every_row_is_in_one_part(captions, micro_batch):
    parts = parts_by_length(captions, micro_batch)
    assert sorted(row for part in parts for row in part) == list(range(len(captions)))
    assert all(len(part) == micro_batch for part in parts[:-1])


@given(st.lists(st.text(max_size=9), min_size=1, max_size=20), st.integers(1, 8))
def test_no_caption_stands_before_a_shorter_one(captions, micro_batch):
    lengths = [
        len(captions[row]) for part in parts_by_length(captions, micro_batch) for row in part
    ]
    assert lengths == sorted(lengths)


@pytest.fixture(scope="module")
def model(random_model_folder):
    return UnifiedAutoEncoder.from_pretrained(random_model_folder)


def test_an_evaluation_draws_each_caption_as_if_alone(model):
    together = draw(model, CAPTIONS, EvaluationConfig(micro_batch=2, seed=5))
    for i, caption in enumerate(CAPTIONS):
        alone = model.draw([caption], seed=5, numbers=[i])[0]
        torch.testing.assert_close(together[i], alone, **ALONE)


@pytest.mark.parametrize("micro_batch", [1, 4, 64])
def test_a_rollout_draws_each_caption_from_its_own_noise(model, micro_batch, monkeypatch):
    sizes, plain = [], model.decoder.sample
    monkeypatch.setattr(
        model.decoder, "sample", lambda *args: (sizes.append(len(args[1])), plain(*args))[1]
    )
    noise = torch.randn(
        2 * len(CAPTIONS), *model.decoder.latent_shape(), generator=torch.Generator().manual_seed(0)
    )
    sampling = SamplingConfig(num_steps=2)
    redraws = redraw(model, CAPTIONS, noise, sampling, micro_batch)
    assert max(sizes) <= micro_batch
    for i, caption in enumerate(CAPTIONS):
        own = slice(2 * i, 2 * i + 2)
        alone = model.draw_conditions(model.condition([caption] * 2), noise[own], sampling)
        torch.testing.assert_close(redraws[own], alone, **ALONE)
