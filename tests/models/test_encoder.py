"""The encoder against plain transformers, and against itself in other batches."""

import pytest
import torch

from uae.core.errors import NonFinite
from uae.flow.noise import stream
from uae.models.vlm.encoder import Encoder
from uae.models.vlm.sampling import uniforms
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image

# float32 rounding of one pass done in two (prefix, then completion)
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def encoder(random_model_folder) -> Encoder:
    return Encoder.from_pretrained(random_model_folder / "encoder", "Describe the image.")


@pytest.fixture(scope="module")
def images():
    return [render_image(scene_at(i, "train")) for i in range(3)]


def sampled(encoder, images, num_captions=2, length=12):
    draws = uniforms([stream(0, i) for i in range(len(images) * num_captions)], length)
    return encoder.sample(
        encoder.prompts(images), draws, num_captions=num_captions, max_new_tokens=length
    )


def test_sampled_log_probs_are_those_of_training(encoder, images):
    captions = sampled(encoder, images)
    log_probs = encoder.log_probs(encoder.prompts(images), captions.token_ids, captions.mask)
    assert torch.allclose(log_probs, captions.log_probs, atol=TOLERANCE)


def test_a_diverged_encoder_says_so(encoder, images, monkeypatch):
    plain = encoder.family.logits
    monkeypatch.setattr(encoder.family, "logits", lambda hidden: plain(hidden) * float("nan"))
    for draws in (None, uniforms([stream(0)], 4)):
        with pytest.raises(NonFinite, match=r"diverged; .*a lower encoder_rl\.optimizer\.lr in a"):
            encoder.sample(encoder.prompts(images[:1]), draws, max_new_tokens=4)


def test_entropies_are_those_of_the_sampled_distributions(encoder, images):
    prompts, draws = encoder.prompts(images), uniforms([stream(0, i) for i in range(3)], 4)
    captions = encoder.sample(prompts, draws, max_new_tokens=4)
    log_p = encoder.next_log_probs(prompts)
    expected = torch.distributions.Categorical(logits=log_p.clamp(min=-1e9)).entropy()
    assert torch.allclose(captions.entropies[:, 0], expected, atol=TOLERANCE)
    assert (captions.entropies[~captions.mask] == 0).all()


def test_log_probs_match_one_plain_forward_pass(encoder, images):
    """The shared prefix and the split pass change nothing."""
    captions = sampled(encoder, images, num_captions=1)
    prompts = encoder.prompts(images)
    token_ids = torch.cat([prompts.token_ids, captions.token_ids], dim=1)
    output = encoder.model(
        input_ids=token_ids,
        attention_mask=torch.ones_like(token_ids),
        **prompts.pixels,
        mm_token_type_ids=(token_ids == encoder.model.config.image_token_id).int(),
    )
    start = prompts.token_ids.shape[1] - 1
    logits = output.logits[:, start:-1].masked_fill(encoder.family.forbidden, float("-inf"))
    expected = logits.log_softmax(-1).gather(-1, captions.token_ids[..., None]).squeeze(-1)
    log_probs = encoder.log_probs(prompts, captions.token_ids, captions.mask)
    assert torch.allclose(log_probs, expected.masked_fill(~captions.mask, 0), atol=TOLERANCE)


def test_greedy_captions_are_those_of_generate(encoder, images):
    prompts = encoder.prompts(images)
    ours = encoder.sample(prompts, None, max_new_tokens=8)
    theirs = encoder.model.generate(
        input_ids=prompts.token_ids,
        attention_mask=prompts.mask.long(),
        **prompts.pixels,
        mm_token_type_ids=(prompts.token_ids == encoder.model.config.image_token_id).int(),
        max_new_tokens=8,
        do_sample=False,
        suppress_tokens=encoder.family.forbidden.nonzero().flatten().tolist(),
    )[:, prompts.token_ids.shape[1] :]
    width = min(theirs.shape[1], ours.token_ids.shape[1])
    mask = ours.mask[:, :width]
    assert torch.equal(ours.token_ids[:, :width][mask], theirs[:, :width][mask])


def test_a_caption_does_not_depend_on_its_batch(encoder, images):
    together = sampled(encoder, images, num_captions=1)
    draws = uniforms([stream(0, 2)], 12)
    alone = encoder.sample(encoder.prompts(images[2:]), draws, max_new_tokens=12)
    assert alone.texts[0] == together.texts[2]


def test_images_of_different_sizes_share_a_batch(encoder, images):
    """Left padding moves nothing: each row is what it is alone."""
    wide = images[1].resize((128, 32))
    batch = encoder.prompts([images[0], wide])
    assert (
        not batch.mask.all()
        or len(set(batch.pixels["image_grid_thw"][:, 1:].prod(1).tolist())) == 1
    )
    together = encoder.sample(batch, None, max_new_tokens=6)
    for i, image in enumerate([images[0], wide]):
        alone = encoder.sample(encoder.prompts([image]), None, max_new_tokens=6)
        assert alone.texts[0] == together.texts[i]


def test_several_images_may_stand_in_one_turn(encoder, images):
    """Positions and patches of each are where plain transformers puts them."""
    wide = images[1].resize((128, 32))
    prompts = encoder.prompts([[images[0], wide], images[2]], ["Which?", "Which is it?"])
    assert len(prompts.images) == 3
    is_image = prompts.token_ids == encoder.model.config.image_token_id
    expected = encoder.model(
        input_ids=prompts.token_ids,
        attention_mask=prompts.mask.long(),
        **prompts.pixels,
        mm_token_type_ids=is_image.int(),
    ).logits[:, -1]
    log_p = encoder.next_log_probs(prompts)
    expected = expected.masked_fill(encoder.family.forbidden, float("-inf")).log_softmax(-1)
    assert torch.allclose(log_p, expected, atol=TOLERANCE)
    alone = encoder.next_log_probs(encoder.prompts([images[2]], ["Which is it?"]))
    assert torch.allclose(log_p[1], alone[0], atol=TOLERANCE)
    other = encoder.next_log_probs(encoder.prompts([[wide, images[0]]], ["Which?"]))
    assert not torch.allclose(log_p[0], other[0], atol=TOLERANCE)


def test_image_tokens_are_never_said(encoder, images):
    prompts = encoder.prompts(images[:1])
    said = torch.tensor([[encoder.model.config.image_token_id, encoder.end_id]])
    log_probs = encoder.log_probs(prompts, said, torch.ones_like(said).bool())
    assert log_probs[0, 0] == float("-inf")
    assert log_probs[0, 1].isfinite()


def test_reading_does_not_see_padding(encoder):
    short, long = "A red circle.", "A red circle at the top and a blue bar at the bottom left."
    together, mask = encoder.read([short, long])
    alone, alone_mask = encoder.read([short])
    assert mask[0].sum() == alone_mask.sum()
    assert torch.allclose(together[0][mask[0]], alone[0], atol=TOLERANCE)


def test_truncated_means_no_end_token(encoder, images):
    captions = sampled(encoder, images, length=4)
    has_end = (captions.token_ids == encoder.end_id).any(1)
    assert torch.equal(captions.truncated, ~has_end)
