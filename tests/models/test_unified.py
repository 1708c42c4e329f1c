"""The whole model: its folder, its seeds, its limits."""

import logging

import pytest
import torch

from uae.core.errors import UsageError
from uae.models.unified import UnifiedAutoEncoder
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image


@pytest.fixture(scope="module")
def model(random_model_folder) -> UnifiedAutoEncoder:
    return UnifiedAutoEncoder.from_pretrained(random_model_folder)


def test_folder_round_trip_is_exact(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = UnifiedAutoEncoder.from_pretrained(tmp_path)
    assert again.settings == model.settings
    assert torch.equal(again.draw(["A red circle."]), model.draw(["A red circle."]))


def test_a_seed_gives_the_same_and_another_seed_another(model):
    images = [render_image(scene_at(0, "test"))]
    first, again = model.caption(images, seed=1), model.caption(images, seed=1)
    assert first == again
    drawn = model.draw(["A bar."], seed=1)
    assert torch.equal(drawn, model.draw(["A bar."], seed=1))
    assert not torch.equal(drawn, model.draw(["A bar."], seed=2))


def test_batches_change_nothing_but_rounding(model):
    images = [render_image(scene_at(i, "test")) for i in range(3)]
    captions, pixels = model.reconstruct(images, seed=1)
    parts_captions, parts_pixels = model.reconstruct(images, seed=1, batch_size=2)
    assert parts_captions == captions
    assert torch.allclose(torch.stack(parts_pixels), torch.stack(pixels), atol=1e-4)
    assert len({*captions}) == 3


def test_an_overlong_caption_is_drawn_and_said(model, caplog):
    caption = " ".join(["a red circle"] * model.settings.max_caption_tokens)
    with caplog.at_level(logging.WARNING):
        model.draw([caption])
    assert f"trained for {model.settings.max_caption_tokens}" in caplog.text


def test_a_folder_that_is_no_model_names_what_is_missing(tmp_path):
    with pytest.raises(UsageError, match=r"uae\.json, encoder, projector, decoder not found"):
        UnifiedAutoEncoder.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "name", ["encoder/model.safetensors", "decoder/transformer/diffusion_pytorch_model.safetensors"]
)
def test_a_file_that_was_cut_short_is_named(model, tmp_path, name):
    model.save_pretrained(tmp_path)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(UsageError, match=rf"{name} is damaged or incomplete"):
        UnifiedAutoEncoder.from_pretrained(tmp_path)


def test_a_model_without_its_tokenizer_is_refused(model, tmp_path):
    model.save_pretrained(tmp_path)
    (tmp_path / "encoder" / "tokenizer.json").unlink()
    with pytest.raises(UsageError, match=r"encoder/tokenizer\.json not found"):
        UnifiedAutoEncoder.from_pretrained(tmp_path)
