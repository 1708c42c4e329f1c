import numpy as np
import pytest
import torch

from bases.encoder import CAPTION_PROMPT, new_encoder
from bases.encoder_tasks import (
    Chooser,
    Held,
    Looker,
    Reader,
    Talker,
    TalkingConfig,
    in_reading_format,
    scenes_of,
    told,
)
from bases.layout import MentionHead
from bases.tokenizer import build_tokenizer
from uae.benchmarks.mmt_bench.prompt import compact_text
from uae.data.questions import LETTERS
from uae.scenes.graph import Scene, SceneObject, scene_at
from uae.scenes.language import inventory
from uae.scenes.questions import questions_for
from uae.scenes.reading import full_claim, read_caption
from uae.scenes.render import render_image

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
    talker, reader = Talker(encoder, 160), Reader(160)
    config = TalkingConfig(num_lists=2, num_images=2, num_choices=2)
    rng = np.random.default_rng(0)
    losses, shown = talker.losses(config, 7, 0, rng)
    read, numbers = reader.loss(encoder, [told(s, rng) for s in scenes_of(1, 0, 3)])
    sum(losses.values(), start=read).backward()
    assert set(losses) == {"list", "look_list", "caption", "look_caption", "answer", "choose"}
    assert 0 <= shown["chosen"] <= 1
    assert all(p.grad is not None for p in talker.parameters())
    assert encoder.model.model.visual.patch_embed.proj.weight.grad.abs().max() > 0
    assert {"next", "mention", "read_shape"} <= set(numbers)
    talker.forget()
    assert [talker.looker.states, talker.chooser.states] == [[], []]


def test_looking_reads_the_pass_of_the_lists(encoder):
    looker = Looker(encoder, 160)
    prompts = encoder.prompts([render_image(s) for s in SCENES])
    with torch.no_grad():
        encoder.sample(prompts, None, max_new_tokens=2)
    assert len(looker.states) == 2
    assert looker.loss(prompts, SCENES).isfinite()


def test_a_choice_is_read_at_the_end_of_its_line(encoder):
    """The right option's state alone holds a one: the head that reads it is sure and right."""
    chooser = Chooser(encoder, 160)
    torch.nn.init.constant_(chooser.head.weight, 1.0)
    rng = np.random.default_rng(3)
    questions = {i: questions_for(scene, rng, 1)[0] for i, scene in enumerate(SCENES)}
    texts = [compact_text(q) for q in questions.values()]
    prompts = encoder.prompts([render_image(s) for s in SCENES], texts)
    for marked, expected in (("answer", 1.0), ("other", 0.0)):
        states = torch.zeros(*prompts.token_ids.shape, 160)
        for row, question in questions.items():
            right = LETTERS.index(question.answer)
            option = right if marked == "answer" else (right + 1) % len(question.options)
            states[row, end_of_option(encoder, prompts.token_ids[row], question, option)] = 1.0
        chooser.states[:] = [states]
        loss, share = chooser.loss(prompts, questions)
        assert share == expected
        assert (loss < 1e-6) == (marked == "answer")


def end_of_option(encoder, token_ids, question, option):
    """The first token at which the text so far holds the option's whole line."""
    line = f"\n{LETTERS[option]}. {question.options[option]}\n"
    for end in range(len(token_ids)):
        if line in encoder.tokenizer.decode(token_ids[: end + 1]):
            return end
    raise AssertionError(f"{line!r} is not in the prompt")
