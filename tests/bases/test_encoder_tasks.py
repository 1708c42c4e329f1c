import numpy as np
import pytest
import torch

from uae.bases.encoder import CAPTION_PROMPT, new_encoder
from uae.bases.encoder_tasks import (
    Held,
    Looker,
    Reader,
    TalkingConfig,
    in_reading_format,
    scenes_of,
    talking_losses,
    told,
)
from uae.bases.layout import MentionHead
from uae.bases.tokenizer import build_tokenizer
from uae.data.scenes.graph import Scene, SceneObject, scene_at
from uae.data.scenes.language import inventory
from uae.data.scenes.reading import full_claim, read_caption
from uae.data.scenes.render import render_image

SCENES = [scene_at(i, "train") for i in range(3)]


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return new_encoder(build_tokenizer(CAPTION_PROMPT, num_scenes=200))


def test_inventories_name_every_object_whole_and_in_order():
    rng = np.random.default_rng(0)
    for scene in (scene_at(i, "train") for i in range(30)):
        claims = read_caption(inventory(scene, rng))
        assert list(claims.objects) == [full_claim(o) for o in scene.objects]
        assert claims.background == scene.background


def test_tokens_end_where_the_text_says(encoder):
    rng = np.random.default_rng(0)
    texts = [told(s, rng) for s in SCENES]
    token_ids, mask, ends = in_reading_format(encoder, texts)
    for row, text, text_ends in zip(token_ids, texts, ends, strict=True):
        inside = [t for t, end in enumerate(text_ends) if 0 < end <= len(text)]
        assert encoder.tokenizer.decode(row[inside]) == text
    assert mask.shape == token_ids.shape


def test_reading_is_held_until_it_moves(encoder):
    held, texts = Held(encoder), ["A red circle.", "A blue bar at the top."]
    with torch.no_grad():
        assert held.loss(encoder, texts) == 0
        encoder.model.model.language_model.layers[0].mlp.down_proj.weight.mul_(1.5)
        assert held.loss(encoder, texts) > 1e-6
        encoder.model.model.language_model.layers[0].mlp.down_proj.weight.div_(1.5)


def test_a_mention_stands_at_the_token_over_the_object():
    scene = Scene("teal", (SceneObject("cross", "pink", "large", 0.9, 0.3),))
    head = MentionHead(4)
    states = torch.zeros(1, 16, 4)
    plain = head.in_images(states, [scene])
    for token in range(16):
        other = states.clone()
        other[0, token] = 1.0
        assert (head.in_images(other, [scene]) != plain) == (token == 7)


def test_a_step_of_talking_reaches_every_part(encoder):
    looker, reader = Looker(encoder, 160), Reader(160)
    config = TalkingConfig(num_lists=2, num_images=2, num_choices=2)
    rng = np.random.default_rng(0)
    losses = talking_losses(encoder, looker, config, 7, 0, rng)
    read, numbers = reader.loss(encoder, [told(s, rng) for s in scenes_of(1, 0, 3)])
    sum(losses.values(), start=read).backward()
    assert set(losses) == {"list", "look", "caption", "answer"}
    assert all(p.grad is not None for p in looker.parameters())
    assert encoder.model.model.visual.patch_embed.proj.weight.grad.abs().max() > 0
    assert {"next", "mention", "read_shape"} <= set(numbers)


def test_looking_reads_the_pass_of_the_lists(encoder):
    looker = Looker(encoder, 160)
    prompts = encoder.prompts([render_image(s) for s in SCENES])
    with torch.no_grad():
        encoder.sample(prompts, None, max_new_tokens=2)
    assert len(looker.states) == 2
    assert looker.loss(prompts, SCENES).isfinite()
