"""Decoder families by pipelines of diffusers: the same numbers as the pipelines' own calls."""

from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from tests.compiling import compile_in_python, quiet
from tests.tiny_pipelines import PIPELINES as BUILDERS
from tests.tiny_pipelines import make_pipeline
from uae.core.errors import UsageError
from uae.data.shapes import Size
from uae.flow.noise import stream
from uae.models.dit.decoder import Decoder
from uae.models.dit.pipeline import PipelineDit
from uae.models.dit.table import NATIVE, PIPELINES
from uae.models.finetune import FineTuning
from uae.models.native import Native
from uae.recipe.optimizer import FineTuneConfig
from uae.recipe.sampling import SamplingConfig

CAPTIONS = ["a red circle", "two blue squares on a green table, and some more words"]
SIZE = 64
STEPS = 3


@pytest.fixture(scope="module", params=PIPELINES)
def family(request, tmp_path_factory) -> PipelineDit:
    folder = tmp_path_factory.mktemp("pipelines") / request.param
    make_pipeline(request.param).save_pretrained(folder)
    loaded = NATIVE[request.param](folder, torch.float32)
    assert isinstance(loaded, PipelineDit)
    if request.param == "SanaPipeline":  # its own sampler is of second order
        euler = FlowMatchEulerDiscreteScheduler(shift=3.0)
        loaded.pipeline.scheduler = euler
        loaded = PipelineDit(loaded.pipeline, loaded.spec)
    return loaded


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(len(CAPTIONS))]


def theirs(family: PipelineDit, output_type: str, shape: Size = (SIZE, SIZE)) -> torch.Tensor:
    options = {"height": shape[0], "width": shape[1], "num_inference_steps": STEPS}
    drawn = family.pipeline(
        prompt=[*CAPTIONS],
        generator=generators(),
        output_type=output_type,
        **options,
        **family.spec.unguided,
    )
    return drawn[0]


def ours(family: PipelineDit, shape: Size = (SIZE, SIZE)) -> torch.Tensor:
    decoder, conditions = Decoder(family, SIZE), Native(family)(CAPTIONS)
    noise = torch.stack(
        [torch.randn(decoder.latent_shape(shape), generator=g) for g in generators()]
    )
    with torch.no_grad():
        latents = decoder.sample(conditions, noise, SamplingConfig(num_steps=STEPS))
        return decoder.to_pixels(latents)


@pytest.mark.parametrize("shape", [(SIZE, SIZE), (SIZE, 2 * SIZE)])
def test_pixels_are_those_of_the_pipelines_own_call(family, shape):
    assert torch.equal(ours(family, shape), theirs(family, "pt", shape))


def test_each_image_has_a_noise_level_and_a_caption_of_its_own(family):
    """Rows of a batch are as they are alone, whatever stands beside them."""
    conditions = family.encode(CAPTIONS)
    noise = torch.randn(2, *family.latent_shape((SIZE, SIZE)), generator=generators()[0])
    sigma = torch.tensor([0.9, 0.3])
    with torch.no_grad():
        both = family.velocity(noise, sigma, conditions)
        for i in range(2):
            row = slice(i, i + 1)
            alone = family.velocity(noise[row], sigma[row], conditions[row])
            assert torch.allclose(alone, both[row], atol=1e-5)
        swapped = family.velocity(noise, sigma.flip(0), conditions)
    assert both.shape == noise.shape
    assert not torch.allclose(swapped, both, atol=1e-3)


def test_the_schedule_runs_from_noise_to_the_image(family):
    sigmas = family.sigmas(5, family.latent_shape((SIZE, SIZE)))
    assert len(sigmas) == 6
    assert sigmas[0] == pytest.approx(1.0, abs=1e-3)
    assert sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()


def test_a_dynamic_shift_depends_on_the_size(family):
    small, large = (
        family.sigmas(5, family.latent_shape((size, size))) for size in (SIZE, 2 * SIZE)
    )
    is_dynamic = family.pipeline.scheduler.config.get("use_dynamic_shifting", False)
    assert torch.equal(small, large) != is_dynamic


def test_latents_lead_back_to_what_the_vae_makes_of_pixels(family):
    pixels = torch.rand(2, 3, SIZE, SIZE, generator=generators()[0])
    vae, name = family.pipeline.vae, type(family.pipeline.vae).__name__
    with torch.no_grad():
        again = family.to_pixels(family.to_latents(pixels))
        scaled = pixels * 2 - 1
        if name == "AutoencoderKLQwenImage":
            plain = vae.decode(vae.encode(scaled[:, :, None]).latent_dist.mean).sample[:, :, 0]
        elif name == "AutoencoderDC":
            plain = vae.decode(vae.encode(scaled).latent).sample
        else:
            plain = vae.decode(vae.encode(scaled).latent_dist.mean).sample
    assert family.to_latents(pixels).shape[1:] == family.latent_shape((SIZE, SIZE))
    assert torch.allclose(again, (plain / 2 + 0.5).clamp(0, 1), atol=1e-5)


def test_captions_are_plain_text(family):
    """A control token in a caption is read as the characters that it is written with."""
    same = family.encode(["a <|im_end|> b"]), family.encode(["a < |im_end|> b"])
    assert torch.equal(same[0].embeds, same[1].embeds)


def test_captions_are_plain_text_to_each_tokenizer_of_a_pipeline():
    """SD3 has three, and CLIP's control tokens are none of T5's."""
    for name in ("tokenizer", "tokenizer_2"):
        pipeline = make_pipeline("StableDiffusion3Pipeline")
        pipeline.components[name].add_special_tokens({"additional_special_tokens": ["red"]})
        family = PipelineDit(pipeline, PIPELINES["StableDiffusion3Pipeline"])
        same = family.encode(["a red b"]), family.encode(["a r ed b"])
        assert torch.equal(same[0].embeds, same[1].embeds)
        assert torch.equal(same[0].pooled, same[1].pooled)


def test_captions_tell_conditions_apart(family):
    first, second = (family.encode([caption]).embeds for caption in CAPTIONS)
    assert first.shape != second.shape or not torch.allclose(first, second, atol=1e-4)


def test_every_adapter_learns_and_its_reference_is_the_model_before(family, tmp_path):
    family = NATIVE[type(family.pipeline).__name__](saved(family, tmp_path), torch.float32)
    conditions = family.encode(CAPTIONS)
    noise = torch.randn(2, *family.latent_shape((SIZE, SIZE)), generator=generators()[0])
    sigma = torch.tensor([0.9, 0.3])
    with torch.no_grad():
        before = family.velocity(noise, sigma, conditions)
    tuning = FineTuning(
        family.transformer, FineTuneConfig(rank=2, alpha=4), family.targets, stream(0, "lora")
    )
    family.transformer.enable_gradient_checkpointing()
    parameters = tuning.parameters()
    for _ in range(2):  # of the first step A has no gradient, since B is zero
        family.velocity(noise, sigma, conditions).square().mean().backward()
        # nothing follows the words of Qwen-Image's last block
        idle = [name for name, p in parameters.items() if p.grad is None]
        assert all("transformer_blocks.1.attn.add_q_proj" in n or "to_add_out" in n for n in idle)
        assert len(idle) < len(parameters) / 4
        with torch.no_grad():
            for parameter in parameters.values():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad.sign()
                    parameter.grad = None
    with torch.no_grad():
        assert not torch.allclose(family.velocity(noise, sigma, conditions), before, atol=1e-4)
    with tuning.reference():
        assert torch.equal(family.velocity(noise, sigma, conditions), before)


@pytest.mark.slow
@quiet
def test_compiled_blocks_draw_the_same_and_repeat_what_they_drew(family, tmp_path, monkeypatch):
    """Without gradients, with them and computed again: the same graph, so the same bits."""
    family = NATIVE[type(family.pipeline).__name__](saved(family, tmp_path), torch.float32)
    decoder, conditions = Decoder(family, SIZE), family.encode(CAPTIONS)
    noise, sigma = decoder.noise(generators()), torch.tensor([0.9, 0.3])
    FineTuning(
        family.transformer, FineTuneConfig(rank=2, alpha=4), family.targets, stream(0, "lora")
    )
    plain = decoder.velocity(noise, sigma, conditions).detach()
    compile_in_python(monkeypatch)
    decoder.compile()
    decoder.keep_no_activations()
    with torch.no_grad():
        drawn = decoder.repeatable_velocity(noise, sigma, conditions)
    assert not drawn.requires_grad
    learned = decoder.repeatable_velocity(noise, sigma, conditions)
    learned.sum().backward()
    assert torch.equal(drawn, learned)
    assert torch.allclose(drawn, plain, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


def saved(family: PipelineDit, folder: Path) -> Path:
    family.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("size", [SIZE + 1, 1])
def test_a_size_it_does_not_draw_is_refused(family, size):
    with pytest.raises(UsageError, match=rf"size_px = {size}: \w+ draws multiples of \d+"):
        Decoder(family, size)


def test_a_weight_that_is_missing_or_left_over_is_named(tmp_path):
    from safetensors.torch import load_file, save_file

    make_pipeline("ZImagePipeline").save_pretrained(tmp_path)
    path = tmp_path / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    name = next(key for key in weights if key.endswith("to_q.weight"))
    save_file({**weights, "strange.weight": torch.zeros(1)}, path)
    with pytest.raises(UsageError, match=r"1 weight \(strange\.weight\) that ZImageTransformer2D"):
        NATIVE["ZImagePipeline"](tmp_path, torch.float32)
    weights.pop(name)
    save_file(weights, path)
    with pytest.raises(UsageError, match=rf"lacks 1 weight \({name}\) of ZImageTransformer2D"):
        NATIVE["ZImagePipeline"](tmp_path, torch.float32)


def test_every_family_has_a_tiny_model():
    assert BUILDERS.keys() == PIPELINES.keys()
