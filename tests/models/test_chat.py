"""Chats against plain transformers and against captions; replies that grow."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uae.flow.noise import stream
from uae.models.chat import Message, ReplyConfig, chat_prompts, grow_replies, settled
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
def image():
    return render_image(scene_at(0, "train"))


def last(replies):
    *_, final = replies
    return final


def test_a_question_is_tokenised_as_everywhere(encoder, image):
    ours = chat_prompts(encoder, [Message("user", (image, "Which?"))])
    theirs = encoder.prompts([image], ["Which?"])
    assert torch.equal(ours.token_ids, theirs.token_ids)
    assert torch.equal(ours.pixels["pixel_values"], theirs.pixels["pixel_values"])


@pytest.mark.parametrize("with_image", [True, False])
def test_several_turns_match_one_plain_forward_pass(encoder, image, with_image):
    first = (image, "What is it?") if with_image else ("What is it?",)
    turns = [
        Message("system", ("Be brief.",)),
        Message("user", first),
        Message("assistant", ("A red circle.",)),
        Message("user", ("Where?",)),
    ]
    prompts = chat_prompts(encoder, turns)
    text = encoder.tokenizer.decode(prompts.token_ids[0])
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")
    assert text.endswith("Where?<|im_end|>\n<|im_start|>assistant\n")
    is_image = prompts.token_ids == encoder.model.config.image_token_id
    assert is_image.any() == with_image
    logits = encoder.model(
        input_ids=prompts.token_ids,
        attention_mask=prompts.mask.long(),
        mm_token_type_ids=is_image.int(),
        **prompts.pixels,
    ).logits[:, -1]
    expected = logits.masked_fill(encoder.family.forbidden, float("-inf")).log_softmax(-1)
    assert torch.allclose(encoder.next_log_probs(prompts), expected, atol=TOLERANCE)


def test_a_reply_is_what_is_sampled(encoder, image):
    prompts = chat_prompts(encoder, [Message("user", (image, "Which?"))])
    greedy = encoder.sample(prompts, None, max_new_tokens=8)
    [reply] = last(grow_replies(encoder, prompts, ReplyConfig(max_new_tokens=8)))
    assert reply.text == greedy.texts[0]
    assert reply.num_tokens == greedy.num_tokens[0]
    draws = uniforms([stream(5, "reply", i) for i in range(2)], 12)
    sampled = encoder.sample(prompts, draws, num_captions=2, temperature=0.9, max_new_tokens=12)
    config = ReplyConfig(max_new_tokens=12, temperature=0.9, seed=5, num_replies=2)
    replies = last(grow_replies(encoder, prompts, config))
    assert [reply.text for reply in replies] == sampled.texts
    assert [reply.num_tokens for reply in replies] == sampled.num_tokens.tolist()
    ends = ["length" if truncated else "stop" for truncated in sampled.truncated]
    assert [reply.finish_reason for reply in replies] == ends


def test_each_token_tells_how_likely_it_was_whatever_the_temperature(encoder, image):
    prompts = chat_prompts(encoder, [Message("user", (image, "Which?"))])
    hot = {"max_new_tokens": 6, "temperature": 1.7, "num_replies": 2, "seed": 5}
    plain = last(grow_replies(encoder, prompts, ReplyConfig(**hot)))
    replies = last(grow_replies(encoder, prompts, ReplyConfig(**hot, num_top=3)))
    assert [reply.text for reply in replies] == [reply.text for reply in plain]
    assert all(reply.tokens == () for reply in plain)
    draws = uniforms([stream(5, "reply", i) for i in range(2)], 6)
    sampled = encoder.sample(prompts, draws, num_captions=2, temperature=1.7, max_new_tokens=6)
    raw = encoder.log_probs(prompts, sampled.token_ids, sampled.mask)
    first = encoder.next_log_probs(prompts)[0].topk(3)
    for i, reply in enumerate(replies):
        assert len(reply.tokens) == reply.num_tokens
        told = torch.tensor([token.log_prob for token in reply.tokens])
        assert torch.allclose(told, raw[i][sampled.mask[i]], atol=TOLERANCE)
        ids = sampled.token_ids[i][sampled.mask[i]].tolist()
        assert [token.text for token in reply.tokens] == [
            encoder.tokenizer.decode([x]) for x in ids
        ]
        top = dict(reply.tokens[0].top)
        assert list(top) == [encoder.tokenizer.decode([x]) for x in first.indices.tolist()]
        assert list(top.values()) == pytest.approx(first.values.tolist(), abs=TOLERANCE)


def test_no_alternative_is_one_that_is_never_said(encoder, image):
    prompts = chat_prompts(encoder, [Message("user", (image, "Which?"))])
    everything = len(encoder.tokenizer)
    [reply] = last(
        grow_replies(encoder, prompts, ReplyConfig(max_new_tokens=1, num_top=everything))
    )
    log_probs = [log_prob for _, log_prob in reply.tokens[0].top]
    assert 0 < len(log_probs) < everything
    assert all(map(math.isfinite, log_probs))
    [bare] = last(grow_replies(encoder, prompts, ReplyConfig(max_new_tokens=1, num_top=0)))
    assert bare.tokens[0].top == ()
    assert bare.tokens[0].log_prob == reply.tokens[0].log_prob


def test_what_is_said_stays_said_until_a_stop_text(encoder, image):
    prompts = chat_prompts(encoder, [Message("user", (image, "Which?"))])
    plain = ReplyConfig(max_new_tokens=12, temperature=1.5, seed=1)
    [whole] = last(grow_replies(encoder, prompts, plain))
    assert len(whole.text) > 4, "nothing to cut"
    stop = whole.text[3:5]
    config = ReplyConfig(max_new_tokens=12, temperature=1.5, seed=1, stop=("zzz", stop))
    steps = [reply for [reply] in grow_replies(encoder, prompts, config)]
    assert steps[-1].text == whole.text[: whole.text.index(stop)]
    assert steps[-1].finish_reason == "stop"
    assert steps[-1].num_tokens == len(steps) <= whole.num_tokens
    for before, after in itertools.pairwise(steps):
        assert after.text.startswith(before.text)
        assert before.finish_reason is None


@settings(deadline=None)
@given(text=st.text("ab\ufffd", max_size=12), stop=st.lists(st.text("ab", min_size=1), max_size=3))
def test_nothing_settled_is_taken_back(text: str, stop: list[str]):
    """Whatever arrives when: each state begins with the one before, and none holds a stop text."""
    before, is_stopped = "", False
    for end in range(1, len(text) + 1):
        now, is_stopped = settled(text[:end], stop, is_whole=end == len(text))
        assert now.startswith(before)
        assert text.startswith(now)
        assert not any(s in now for s in stop)
        before = now
        if is_stopped:
            break
    assert is_stopped == any(s in text for s in stop)
    assert is_stopped or before == text
