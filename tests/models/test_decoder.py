"""The decoder against diffusers, and against itself with padding."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

from uae.flow.noise import stream
from uae.models.conditions import Conditions
from uae.models.dit.decoder import Decoder
from uae.models.dit.sd3 import Sd3
from uae.recipe.sampling import SamplingConfig

# float32: masked and unmasked attention take different kernels
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def decoder(random_model_folder) -> Decoder:
    return Decoder(Sd3.from_pretrained(random_model_folder / "decoder", torch.float32))


@pytest.fixture(scope="module")
def conditions(decoder) -> Conditions:
    generator = torch.Generator().manual_seed(0)
    size = decoder.transformer.config.joint_attention_dim
    embeds = torch.randn(2, 9, size, generator=generator)
    pooled = torch.randn(2, decoder.transformer.config.pooled_projection_dim, generator=generator)
    return Conditions(embeds, torch.ones(2, 9, dtype=torch.bool), pooled)


def padded(conditions: Conditions, num: int) -> Conditions:
    junk = torch.full((len(conditions), num, conditions.embeds.shape[-1]), 7.0)
    off = torch.zeros(len(conditions), num, dtype=torch.bool)
    return Conditions(
        torch.cat([conditions.embeds, junk], 1),
        torch.cat([conditions.mask, off], 1),
        conditions.pooled,
    )


@torch.no_grad()
def test_padding_changes_nothing(decoder, conditions):
    x, sigma = decoder.noise([stream(0), stream(1)]), torch.tensor([1.0, 0.4])
    plain = decoder.velocity(x, sigma, conditions)
    assert torch.allclose(decoder.velocity(x, sigma, padded(conditions, 5)), plain, atol=TOLERANCE)


@torch.no_grad()
def test_padding_changes_nothing_where_image_tokens_attend_twice(decoder, conditions):
    """SD3.5-medium has a second attention, among image tokens alone, in its first blocks."""
    config = dict(decoder.transformer.config) | {"dual_attention_layers": (0,)}
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel.from_config(config).eval()
    twice = Decoder(Sd3(transformer, decoder.family.vae, decoder.family.scheduler))
    x, sigma = twice.noise([stream(0), stream(1)]), torch.tensor([1.0, 0.4])
    plain = twice.velocity(x, sigma, conditions)
    assert torch.allclose(twice.velocity(x, sigma, padded(conditions, 5)), plain, atol=TOLERANCE)


@torch.no_grad()
def test_velocity_is_that_of_plain_diffusers(decoder, conditions, random_model_folder):
    theirs = SD3Transformer2DModel.from_pretrained(random_model_folder / "decoder/transformer")
    x, sigma = decoder.noise([stream(0), stream(1)]), torch.tensor([0.9, 0.3])
    expected = theirs(
        hidden_states=x,
        encoder_hidden_states=conditions.embeds,
        pooled_projections=conditions.pooled,
        timestep=sigma * 1000,
    ).sample
    assert torch.allclose(decoder.velocity(x, sigma, conditions), expected, atol=TOLERANCE)


@torch.no_grad()
def test_sampler_is_that_of_the_diffusers_pipeline(decoder, conditions, random_model_folder):
    """Same latents from the same noise, with guidance: our folder in their pipeline."""
    absent = [f"{part}{n}" for part in ("text_encoder", "tokenizer") for n in ("", "_2", "_3")]
    pipeline = StableDiffusion3Pipeline.from_pretrained(
        random_model_folder / "decoder", **dict.fromkeys(absent)
    )
    pipeline.set_progress_bar_config(disable=True)
    noise = decoder.noise([stream(0), stream(1)])
    negative = Conditions(conditions.embeds.flip(0), conditions.mask, conditions.pooled)
    expected = pipeline(
        prompt_embeds=conditions.embeds,
        negative_prompt_embeds=negative.embeds,
        pooled_prompt_embeds=conditions.pooled,
        negative_pooled_prompt_embeds=negative.pooled,
        num_inference_steps=4,
        guidance_scale=3.0,
        latents=noise,
        height=decoder.size_px,
        width=decoder.size_px,
        output_type="latent",
    ).images
    config = SamplingConfig(num_steps=4, guidance_scale=3.0)
    ours = decoder.sample(conditions, noise, config, negative)
    assert torch.allclose(ours, expected, atol=1e-4)  # 8 passes accumulate their rounding


@torch.no_grad()
def test_pixels_are_in_range_and_latents_scaled(decoder):
    pixels = torch.rand(2, 3, decoder.size_px, decoder.size_px)
    latents = decoder.to_latents(pixels)
    assert latents.shape[1:] == decoder.latent_shape()
    raw = decoder.family.vae.encode(pixels * 2 - 1).latent_dist.mean
    config = decoder.family.vae.config
    assert torch.allclose(latents, (raw - config.shift_factor) * config.scaling_factor)
    drawn = decoder.to_pixels(latents * 100)
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def test_the_vae_takes_as_many_images_at_once_as_it_may(decoder, monkeypatch):
    """Parts of a batch decode and encode as the whole does, gradients included."""
    sizes: list[int] = []
    for name in ("encode", "decode"):
        plain = getattr(decoder.family.vae, name)
        monkeypatch.setattr(
            decoder.family.vae, name, lambda x, plain=plain: (sizes.append(len(x)), plain(x))[1]
        )
    made = []
    for vae_batch in (0, 2):
        monkeypatch.setattr(decoder, "vae_batch", vae_batch)
        latents = decoder.noise([stream(i) for i in range(5)]).requires_grad_()
        pixels = decoder.to_pixels(latents)
        pixels.square().sum().backward()
        made.append((pixels.detach(), decoder.to_latents(pixels.detach()), latents.grad))
    assert sizes == [5, 5, 2, 2, 1, 2, 2, 1]
    for whole, parts in zip(*made, strict=True):
        assert torch.allclose(whole, parts, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_pixels_that_are_not_finite_are_never_a_colour(decoder, monkeypatch):
    raw = torch.tensor([float("inf"), float("-inf"), float("nan"), 0.0, 9.0]).view(1, 1, 1, 5)
    monkeypatch.setattr(
        decoder.family.vae, "decode", lambda latents: SimpleNamespace(sample=raw.expand(1, 3, 1, 5))
    )
    pixels = decoder.to_pixels(torch.zeros(1, *decoder.latent_shape()))[0, 0, 0]
    assert pixels.isnan().tolist() == [True, True, True, False, False]
    assert pixels[3:].tolist() == [0.5, 1.0]
