"""Encoder and decoder families: what is refused, and images that are prepared once."""

import json
import shutil

import pytest
import torch
from PIL import Image

from uae.core.errors import UsageError
from uae.flow.noise import stream
from uae.models.unified import UnifiedAutoEncoder
from uae.models.vlm.encoder import Encoder
from uae.models.vlm.sampling import uniforms


@pytest.fixture(scope="module")
def encoder(random_model_folder) -> Encoder:
    return Encoder.from_pretrained(random_model_folder / "encoder", "Describe it.")


@pytest.fixture
def images() -> list[Image.Image]:
    colors = ("red", "green", "blue")
    return [Image.new("RGB", (64, 64 * (i + 1)), color) for i, color in enumerate(colors)]


@pytest.mark.parametrize(
    ("file", "key", "name", "message"),
    [
        ("encoder/config.json", "model_type", "qwen2_vl", "an encoder is one of qwen2_5_vl"),
        (
            "decoder/model_index.json",
            "_class_name",
            "FluxPipeline",
            "with condition projector a decoder is one of QwenImagePipeline, ",
        ),
    ],
)
def test_a_model_of_no_family_is_refused_before_weights_load(
    file, key, name, message, tmp_path, random_model_folder, monkeypatch
):
    folder = tmp_path / "other"
    shutil.copytree(random_model_folder, folder)
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(config | {key: name}))
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", None)
    with pytest.raises(UsageError, match=name) as error:
        UnifiedAutoEncoder.from_pretrained(folder)
    assert message in str(error.value)


def test_an_encoder_without_some_of_its_weights_is_refused(tmp_path, random_model_folder):
    folder = tmp_path / "encoder"
    shutil.copytree(random_model_folder / "encoder", folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] += 1
    config["text_config"].pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"lacks \d+ weights? "):
        Encoder.from_pretrained(folder, "Describe it.")


def test_part_of_the_prompts_is_as_if_prepared_alone(encoder, images):
    turns = [images[:2], images[2:], images[1:]]
    prompts = encoder.family.see(encoder.prompts(turns, ["Which?", "What is it?", "Which?"]))
    for rows in (slice(0, 1), slice(1, 2), slice(1, 3)):
        part = prompts[rows]
        alone = encoder.family.see(
            encoder.prompts(turns[rows], ["Which?", "What is it?", "Which?"][rows])
        )
        for name in ("token_ids", "mask"):
            assert torch.equal(getattr(part, name), getattr(alone, name))
        for name, pixels in alone.pixels.items():
            assert torch.equal(part.pixels[name], pixels)
        assert part.num_images == alone.num_images
        for one, other in zip(part.features, alone.features, strict=True):
            torch.testing.assert_close(one, other)


def test_images_that_were_seen_are_not_looked_at_again(encoder, images, monkeypatch):
    plain = encoder.prompts(images)
    seen = encoder.family.see(plain)
    draws = uniforms([stream(0, i) for i in range(3)], 6)
    expected = encoder.sample(plain, draws, max_new_tokens=6)
    log_probs = encoder.log_probs(plain, expected.token_ids, expected.mask)
    monkeypatch.setattr(encoder.model.model.visual, "forward", None)
    captions = encoder.sample(seen, draws, max_new_tokens=6)
    assert torch.equal(captions.token_ids, expected.token_ids)
    assert torch.equal(encoder.log_probs(seen, captions.token_ids, captions.mask), log_probs)
