"""A vision-language model of no family: captions by the library's `generate`, and no more."""

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig

from tests.tiny_encoders import write_encoder
from uae.core.errors import UsageError
from uae.flow.noise import stream
from uae.models.chat import Message, ReplyConfig, chat_prompts, grow_replies
from uae.models.projector import Projected, Projector
from uae.models.vlm.captioner import Captioner
from uae.models.vlm.encoder import Encoder
from uae.models.vlm.sampling import uniforms

TOLERANCE = 1e-5
LENGTH = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_encoder("llava", tmp_path_factory.mktemp("captioner") / "llava")


@pytest.fixture(scope="module")
def encoder(folder) -> Encoder:
    encoder = Encoder.from_pretrained(folder, "Describe it.")
    assert isinstance(encoder.family, Captioner)
    return encoder


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    sizes = ((32, 32), (64, 16), (24, 48))
    return [Image.effect_noise(size, 90 + 50 * i).convert("RGB") for i, size in enumerate(sizes)]


def draws(num: int, first: int = 0):
    return uniforms([stream(0, first + i) for i in range(num)], LENGTH)


def test_greedy_captions_are_those_of_generate(encoder, folder, images):
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    content = [{"type": "text", "text": encoder.caption_prompt}, {"type": "image"}]
    chat = [{"role": "user", "content": content}]
    text = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    ours = encoder.sample(encoder.prompts(images), None, max_new_tokens=LENGTH)
    for i, image in enumerate(images):
        inputs = processor(images=[image], text=[text], return_tensors="pt")
        theirs = model.generate(
            **inputs,
            generation_config=GenerationConfig(
                max_new_tokens=LENGTH,
                do_sample=False,
                eos_token_id=encoder.family.end_ids.tolist(),
                pad_token_id=encoder.tokenizer.pad_token_id,
                suppress_tokens=encoder.family.forbidden.nonzero().flatten().tolist(),
            ),
        )[0, inputs["input_ids"].shape[1] :]
        assert torch.equal(ours.token_ids[i][ours.mask[i]], theirs)


def test_sampled_log_probs_are_those_of_a_plain_forward_pass(encoder, images):
    """At a temperature, of several captions of each image."""
    prompts = encoder.prompts(images)
    captions = encoder.sample(
        prompts, draws(6), num_captions=2, temperature=0.7, max_new_tokens=LENGTH
    )
    assert len(set(captions.texts)) > 3
    for row in range(6):
        said = captions.token_ids[row][captions.mask[row]]
        inputs = dict(prompts.images[row // 2])
        whole = torch.cat([inputs["input_ids"][0], said])[None]
        pixels = inputs["pixel_values"]
        with torch.no_grad():
            logits = encoder.model(input_ids=whole, pixel_values=pixels).logits[0]
        logits = logits[-len(said) - 1 : -1].masked_fill(encoder.family.forbidden, float("-inf"))
        log_p = (logits / 0.7).log_softmax(-1).gather(1, said[:, None]).squeeze(1)
        assert torch.allclose(log_p, captions.log_probs[row][captions.mask[row]], atol=TOLERANCE)
        ends = torch.isin(said, encoder.family.end_ids)
        assert not ends[:-1].any()
        assert bool(ends[-1]) != bool(captions.truncated[row])
        assert not encoder.family.forbidden[said].any()


def test_a_caption_does_not_depend_on_its_batch(encoder, images):
    together = encoder.sample(encoder.prompts(images), draws(3), max_new_tokens=LENGTH)
    for i, image in enumerate(images):
        alone = encoder.sample(encoder.prompts([image]), draws(1, i), max_new_tokens=LENGTH)
        assert alone.texts == [together.texts[i]]
        part = encoder.sample(
            encoder.prompts(images)[i : i + 1], draws(1, i), max_new_tokens=LENGTH
        )
        assert part.texts == alone.texts


def test_chats_and_first_tokens(encoder, images):
    prompts = chat_prompts(encoder, [Message("user", (images[0], "Which?"))])
    greedy = encoder.sample(prompts, None, max_new_tokens=8)
    *_, [reply] = grow_replies(encoder, prompts, ReplyConfig(max_new_tokens=8, num_top=3))
    assert reply.text == greedy.texts[0]
    log_p = encoder.next_log_probs(prompts)
    assert log_p.argmax() == greedy.token_ids[0, 0]
    assert reply.tokens[0].log_prob == pytest.approx(log_p.max().item(), abs=TOLERANCE)


def test_what_it_cannot_do_is_said(encoder, images):
    message = "writes captions and no more: it neither learns nor reads captions"
    for what in (
        lambda: encoder.read(["a red circle"]),
        lambda: Projected(encoder, Projector(32, 8, 8, 0)),
        lambda: encoder.log_probs(
            encoder.prompts(images[:1]), torch.zeros(1, 1).long(), torch.ones(1, 1) > 0
        ),
    ):
        with pytest.raises(UsageError, match=message):
            what()
    with pytest.raises(UsageError, match=r"max_pixels = 64: a 'llava' model sees images at sizes"):
        encoder.family.limit_pixels(64)
    encoder.keep_no_activations()  # there are none to keep


def test_one_without_a_chat_template_is_refused(folder, tmp_path):
    write_encoder("llava", tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    with pytest.raises(UsageError, match="its processor has no chat template"):
        Encoder.from_pretrained(tmp_path / "model", "Describe it.")
