"""Encoder families on tiny random models: equal to plain transformers, and to themselves."""

import json
import re
from unittest import mock

import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GenerationConfig, ProcessorMixin

from tests.compiling import compile_in_python, quiet
from tests.tiny_encoders import ENCODERS, write_encoder
from uae.core.errors import UsageError
from uae.flow.noise import stream
from uae.models.finetune import FineTuning
from uae.models.projector import Projected, Projector
from uae.models.vlm.encoder import Encoder
from uae.models.vlm.log_probs import chosen_log_probs
from uae.models.vlm.sampling import uniforms
from uae.models.vlm.table import FAMILIES
from uae.recipe.optimizer import FineTuneConfig

TOLERANCE = 1e-5
N = 2


@pytest.fixture(scope="module", params=ENCODERS)
def folder(request, tmp_path_factory):
    return write_encoder(request.param, tmp_path_factory.mktemp("encoders") / request.param)


@pytest.fixture
def encoder(folder) -> Encoder:
    return Encoder.from_pretrained(folder, "Describe it.")


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    sizes = ((32, 32), (64, 16), (24, 48))
    return [
        Image.effect_noise(size, 90).convert("RGB").resize(size) if i else Image.new("RGB", size)
        for i, size in enumerate(sizes)
    ]


def sampled(encoder, images, length=10):
    draws = uniforms([stream(0, i) for i in range(len(images) * N)], length)
    prompts = encoder.prompts(images)
    return prompts, encoder.sample(prompts, draws, num_captions=N, max_new_tokens=length)


def given_to_the_library(encoder, prompts, token_ids) -> dict:
    """The arguments of a plain forward pass or of `generate`."""
    is_image = (token_ids == encoder.model.config.image_token_id).int()
    types = {"gemma3": "token_type_ids", "internvl": None, "llava": None}
    name = types.get(encoder.model.config.model_type, "mm_token_type_ids")
    return {"input_ids": token_ids, **prompts.pixels, **({name: is_image} if name else {})}


def test_sampled_scored_and_plain_log_probs_are_the_same(encoder, images):
    prompts, captions = sampled(encoder, images)
    with torch.no_grad():
        scored = encoder.log_probs(prompts, captions.token_ids, captions.mask)
    assert torch.allclose(scored, captions.log_probs, atol=TOLERANCE)
    for i, image in enumerate(images):
        alone = encoder.prompts([image])
        for row in range(i * N, (i + 1) * N):
            said = captions.token_ids[row][captions.mask[row]]
            whole = torch.cat([alone.token_ids[0], said])[None]
            with torch.no_grad():
                output = encoder.model(**given_to_the_library(encoder, alone, whole))
            logits = output.logits[0, -len(said) - 1 : -1]
            logits = logits.masked_fill(encoder.family.forbidden, float("-inf"))
            plain = logits.log_softmax(-1).gather(1, said[:, None]).squeeze(1)
            assert torch.allclose(
                plain, captions.log_probs[row][captions.mask[row]], atol=TOLERANCE
            )


def test_greedy_captions_are_those_of_generate(encoder, images):
    """Of a batch that is padded, with images of several sizes."""
    prompts = encoder.prompts(images)
    assert not prompts.mask.all() or encoder.model.config.model_type == "gemma3"
    ours = encoder.sample(prompts, None, max_new_tokens=16)
    theirs = encoder.model.generate(
        **given_to_the_library(encoder, prompts, prompts.token_ids),
        attention_mask=prompts.mask.long(),
        generation_config=GenerationConfig(
            max_new_tokens=16,
            do_sample=False,
            eos_token_id=encoder.family.end_ids.tolist(),
            pad_token_id=encoder.tokenizer.pad_token_id,
            suppress_tokens=encoder.family.forbidden.nonzero().flatten().tolist(),
        ),
    )[:, prompts.token_ids.shape[1] :]
    assert torch.equal(ours.token_ids[ours.mask], theirs[ours.mask[:, : theirs.shape[1]]])


LIBRARYS_OWN = {
    "internvl": lambda images, tokenizer: transformers.InternVLProcessor(
        images, tokenizer, None, image_seq_length=4, chat_template=tokenizer.chat_template
    ),
    "gemma3": lambda images, tokenizer: transformers.Gemma3Processor(
        images, tokenizer, image_seq_length=4, chat_template=tokenizer.chat_template
    ),
    "gemma4": lambda images, tokenizer: transformers.Gemma4Processor(
        None, images, tokenizer, None, chat_template=tokenizer.chat_template
    ),
}


@pytest.mark.parametrize("folder", LIBRARYS_OWN, indirect=True)
def test_prompts_are_those_of_the_librarys_processor(encoder, images):
    """It wants torchvision for videos, so here it is made without their part."""
    make = LIBRARYS_OWN[encoder.model.config.model_type]
    with mock.patch.object(ProcessorMixin, "check_argument_for_proper_class"):
        processor = make(encoder.family.image_processor, encoder.tokenizer)
    content = [{"type": "text", "text": encoder.caption_prompt}, {"type": "image"}]
    chat = [{"role": "user", "content": content}]
    text = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    theirs = processor(
        images=[[image] for image in images],
        text=[text] * len(images),
        add_special_tokens=False,
        padding=True,
        padding_side="left",
        return_tensors="pt",
    )
    ours = encoder.prompts(images)
    assert torch.equal(ours.token_ids, theirs["input_ids"])
    assert torch.equal(ours.mask, theirs["attention_mask"].bool())
    for name, pixels in ours.pixels.items():
        assert torch.equal(pixels, theirs[name])


def test_adapters_bind_to_all_layers_and_learn(encoder, images):
    """Of the language model, whatever kind of attention a layer has."""
    attention = [
        name
        for name, module in encoder.model.named_modules()
        if re.fullmatch(r".*language_model\.layers\.\d+\.(self|linear)_attn\.\w+", name)
        and isinstance(module, torch.nn.Linear)
    ]
    tuning = FineTuning(
        encoder.model, FineTuneConfig(rank=2), encoder.family.targets, stream(0, "lora")
    )
    adapted = {name.rpartition(".lora_")[0] for name in tuning.parameters()}
    assert {*attention} <= adapted
    assert len({re.search(r"layers\.\d+", name)[0] for name in adapted}) == len(
        encoder.model.model.language_model.layers
    )
    assert all("language_model" in name for name in adapted)
    for parameter in tuning.parameters().values():  # one of each pair is 0 at first
        torch.nn.init.normal_(parameter, std=0.1)
    prompts, captions = sampled(encoder, images)
    encoder.log_probs(prompts, captions.token_ids, captions.mask).sum().backward()
    for name, parameter in tuning.parameters().items():
        assert parameter.grad.abs().sum() > 0, name


def test_scoring_without_a_cache_sees_the_image_and_is_the_same(encoder, images):
    """With activations computed again, and images prepared once or not."""
    prompts, captions = sampled(encoder, images)
    tuning = FineTuning(
        encoder.model, FineTuneConfig(rank=2), encoder.family.targets, stream(0, "lora")
    )
    assert all("language_model" in name for name in tuning.parameters())
    for seen in (prompts, encoder.family.see(prompts)):
        gradients = []
        for is_again in (False, True):
            if is_again:
                encoder.keep_no_activations()
            scored = encoder.log_probs(seen, captions.token_ids, captions.mask)
            assert torch.allclose(scored, captions.log_probs, atol=TOLERANCE)
            scored.sum().backward()
            gradients.append([p.grad.clone() for p in tuning.parameters().values()])
            encoder.model.zero_grad()
            assert not encoder.model.training
        for cached, again in zip(*gradients, strict=True):
            assert torch.allclose(cached, again, atol=1e-4, rtol=1e-3)
        encoder.family.recomputes = False


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_before_and_in_an_update_are_the_same_bit_for_bit(folder, images, dtype):
    """Else the ratio before the first update would not be 1."""
    encoder = Encoder.from_pretrained(folder, "Describe it.", dtype)
    FineTuning(encoder.model, FineTuneConfig(rank=2), encoder.family.targets, stream(0, "lora"))
    encoder.keep_no_activations()
    prompts, captions = sampled(encoder, images, length=24)
    with torch.no_grad():
        old = encoder.log_probs(prompts, captions.token_ids, captions.mask)
    assert torch.equal(encoder.log_probs(prompts, captions.token_ids, captions.mask), old)


class Softmaxes(TorchDispatchMode):
    """Notes how many rows each log-softmax is of."""

    def __init__(self) -> None:
        super().__init__()
        self.num_rows: list[int] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._log_softmax.default:
            self.num_rows.append(len(args[0]))
        return func(*args, **(kwargs or {}))


def test_logits_that_are_too_many_come_in_parts(encoder, monkeypatch):
    """Values and gradients are the same; in the backward pass the parts are made again."""
    family = encoder.family
    width, vocabulary = family.model.lm_head.in_features, len(family.forbidden)
    states = torch.randn(11, width, generator=torch.Generator().manual_seed(0))
    said = (~family.forbidden).nonzero().flatten()[:11]
    made = []
    for limit in (11 * vocabulary, 4 * vocabulary + 1, 1):
        monkeypatch.setattr("uae.models.vlm.log_probs._MAX_LOGITS", limit)
        given = states.clone().requires_grad_()
        with Softmaxes() as softmaxes:
            chosen = chosen_log_probs(family, given, said, temperature=0.7)
            chosen.square().sum().backward()
        made.append((chosen.detach(), given.grad, softmaxes.num_rows))
    assert [sorted(num_rows) for *_, num_rows in made] == [[11], [3, 3, 4, 4, 4, 4], [1] * 22]
    for values, gradients, _ in made[1:]:
        assert torch.allclose(values, made[0][0], atol=TOLERANCE)
        assert torch.allclose(gradients, made[0][1], atol=TOLERANCE)


@pytest.mark.slow
@quiet
@pytest.mark.parametrize("is_again", [False, True])
def test_compiled_layers_score_the_same_and_sampling_goes_on(
    encoder, images, is_again, monkeypatch
):
    """The update's scores and those before it are by one graph, which sampling does not make."""
    prompts, captions = sampled(encoder, images)
    FineTuning(encoder.model, FineTuneConfig(rank=2), encoder.family.targets, stream(0, "lora"))
    compile_in_python(monkeypatch)
    encoder.compile()
    if is_again:
        encoder.keep_no_activations()
    _, again = sampled(encoder, images)
    assert torch.equal(again.token_ids, captions.token_ids)
    assert not torch._dynamo.utils.counters["stats"]
    scored = [encoder.log_probs(prompts, captions.token_ids, captions.mask) for _ in range(2)]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert torch.equal(*scored)
    assert torch.allclose(scored[0], captions.log_probs, atol=TOLERANCE)
    scored[0].sum().backward()


def test_a_cache_is_refused_where_it_would_be_dropped(encoder, images):
    encoder.keep_no_activations()
    encoder.model.train()
    with pytest.raises(AssertionError, match="drops its cache"):
        encoder.family.prefill(encoder.prompts(images[:1]))


def test_a_batch_is_its_rows_alone(encoder, images):
    _, captions = sampled(encoder, images)
    for i, image in enumerate(images):
        draws = uniforms([stream(0, i * N + j) for j in range(N)], 10)
        alone = encoder.sample(encoder.prompts([image]), draws, num_captions=N, max_new_tokens=10)
        assert alone.texts == captions.texts[i * N : (i + 1) * N]


def test_every_end_token_ends_a_reply(encoder, images):
    _, captions = sampled(encoder, images, length=40)
    ends = encoder.family.end_ids.tolist()
    assert len(ends) == 2
    for row, mask in zip(captions.token_ids, captions.mask, strict=True):
        said = row[mask].tolist()
        assert not set(said[:-1]) & set(ends)
        assert not encoder.family.forbidden[row[mask]].any()


def test_a_caption_is_read_whole_and_told_from_others(encoder):
    encoder.family.check_reading()
    states, _ = encoder.read(["a red circle", "a blue square"])
    assert not torch.allclose(states[0], states[1], atol=1e-3)


def num_pixels(encoder, image) -> int:
    pixels = encoder.prompts([image]).pixels
    if "image_grid_thw" in pixels:
        return int(pixels["image_grid_thw"].prod()) * 8 * 8
    if "image_position_ids" in pixels:
        return int((pixels["image_position_ids"] >= 0).all(-1).sum()) * 4 * 4
    return pixels["pixel_values"][:, 0].numel()


LIMITS = {"internvl": (767, 255), "gemma4": (4480, 4479)}
"""Pixels for two tiles or 70 tokens, and less than the least."""


def test_an_image_has_no_more_pixels_than_are_allowed(encoder):
    kind = encoder.model.config.model_type
    image = Image.new("RGB", (256, 128))
    limit, too_few = LIMITS.get(kind, (1024, None))
    if kind == "gemma3":
        with pytest.raises(UsageError, match="max_pixels = 1024: Gemma 3 sees every image at 16 x"):
            encoder.family.limit_pixels(limit)
        return
    if too_few:
        with pytest.raises(UsageError, match=f"max_pixels = {too_few}: .* expected {too_few + 1}"):
            encoder.family.limit_pixels(too_few)
    if kind == "gemma4":
        encoder.family.image_processor.max_soft_tokens = 140
    before = num_pixels(encoder, image)
    encoder.family.limit_pixels(limit)
    assert 0 < num_pixels(encoder, image) <= limit < before


@pytest.mark.parametrize("role", ["nothing", "another text"])
def test_a_template_that_drops_or_changes_a_caption_is_refused_for_reading(encoder, role):
    content = "''" if role == "nothing" else "(message.content | upper)"
    encoder.tokenizer.chat_template = (
        "{% for message in messages %}{{ " + content + " }}{% endfor %}<|im_start|>assistant"
    )
    with pytest.raises(UsageError, match=r"the chat template of the encoder drops a caption"):
        Projected(encoder, Projector(32, 8, 8, 0))


@pytest.mark.parametrize("is_asked", [False, True], ids=["always", "unless told not to"])
def test_an_encoder_that_thinks_before_each_reply_is_refused(folder, is_asked, tmp_path):
    write_encoder(folder.name, tmp_path / "model")
    path = tmp_path / "model" / "chat_template.jinja"
    thinking = "{{ '<think>\n' }}"
    if is_asked:
        thinking = "{% if enable_thinking is not false %}" + thinking + "{% endif %}"
    path.write_text(path.read_text().rstrip() + thinking)
    if is_asked:
        assert Encoder.from_pretrained(tmp_path / "model", "Describe it.")
        return
    with pytest.raises(UsageError, match="begins each reply with thinking"):
        Encoder.from_pretrained(tmp_path / "model", "Describe it.")


@pytest.mark.parametrize("fault", ["missing", "left over", "shape", "another class"])
def test_weights_that_do_not_fit_are_named(folder, fault, tmp_path):
    other = tmp_path / "model"
    write_encoder(folder.name, other)
    path = other / "model.safetensors"
    weights = load_file(path)
    name = next(key for key in sorted(weights) if key.endswith("q_proj.weight"))
    match = rf"lacks 1 weight \(.*{name.split('.', 1)[1]}\)"
    if fault == "missing":
        weights.pop(name)
    elif fault == "left over":
        weights["strange.weight"] = torch.zeros(2)
        match = r"holds 1 weight \(.*strange\.weight\)"
    elif fault == "shape":
        weights[name] = weights[name][:-1].clone()
        match = "have the shape"
    save_file(weights, path, {"format": "pt"})
    if fault == "another class":
        config = json.loads((other / "config.json").read_text())
        others = {"qwen2_5_vl": "qwen3_vl", "qwen3_vl": "qwen3_5", "qwen3_5": "qwen2_5_vl"}
        if config["model_type"] not in others:
            pytest.skip("classes whose configs differ are refused by their configs")
        config["model_type"] = others[config["model_type"]]
        for part in ("text_config", "vision_config"):
            config[part].pop("model_type", None)
        (other / "config.json").write_text(json.dumps(config))
        match = "lacks|have the shape"
    with pytest.raises(UsageError, match=match):
        Encoder.from_pretrained(other, "Describe it.")


OLDER_NAMES = {
    "model.language_model.": "language_model.model.",
    "model.vision_tower.": "vision_tower.",
    "model.multi_modal_projector.": "multi_modal_projector.",
    "lm_head.": "language_model.lm_head.",
}
"""Of InternVL's and Gemma 3's weights on the hub."""
SPARE = {
    "qwen3_5": ("mtp.fc.weight", "mtp.layers.0.mlp.up_proj.weight"),
    "gemma4": ("model.language_model.layers.5.self_attn.k_proj.weight",),
}
"""Weights of the hub that no output depends on: a head for drafts, keys that layers share."""


@pytest.mark.parametrize("folder", ["qwen3_5", "internvl", "gemma3", "gemma4"], indirect=True)
def test_weights_load_as_they_lie_on_the_hub(folder, encoder, images, tmp_path):
    write_encoder(folder.name, tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    weights = load_file(path)
    if folder.name in SPARE:
        weights |= {name: torch.zeros(2, 2) for name in SPARE[folder.name]}
    else:
        for now, then in OLDER_NAMES.items():
            names = [name for name in weights if name.startswith(now)]
            weights |= {then + name.removeprefix(now): weights.pop(name) for name in names}
    save_file(weights, path, {"format": "pt"})
    hub = Encoder.from_pretrained(tmp_path / "model", "Describe it.")
    prompts = encoder.prompts(images)
    assert torch.equal(hub.next_log_probs(prompts), encoder.next_log_probs(prompts))


def test_every_family_has_a_tiny_model():
    assert ENCODERS.keys() == FAMILIES.keys()
