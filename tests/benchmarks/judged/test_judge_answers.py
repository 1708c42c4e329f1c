"""The two judges: what they are asked, what they answer, and what they say of themselves."""

import math
import shutil

import pytest
import torch
from PIL import Image
from stub_endpoint import HANG, fault, refusing, said, stub
from transformers import GenerationConfig

from uae.backends.client import Client, EndpointConfig
from uae.backends.endpoint import Endpoint
from uae.backends.failure import BackendFailed
from uae.backends.first_token import Vocabulary
from uae.backends.judge import MIN_ANSWERED, ChatJudge, Judge, check_answered
from uae.backends.roles import ChatReply
from uae.backends.transformers import Transformers
from uae.core.errors import UsageError
from uae.models.unified import UnifiedAutoEncoder
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image

IMAGE = render_image(scene_at(0, "test"), 96)
OTHER = render_image(scene_at(1, "test"), 64)


def judge_at(url: str, **values) -> ChatJudge:
    config = EndpointConfig(base_url=url, model="m", **{"max_tries": 1, **values})
    return ChatJudge(Endpoint(Client(config)))


def first_log_p(reply: ChatReply) -> torch.Tensor:
    assert isinstance(reply.first, Vocabulary)
    return reply.first.log_p


@pytest.fixture(scope="module")
def vlm(random_model_folder) -> Transformers:
    return Transformers.from_pretrained(str(random_model_folder))


@pytest.fixture(scope="module")
def local(vlm) -> ChatJudge:
    return ChatJudge(vlm)


@pytest.fixture(scope="module")
def encoder(random_model_folder):
    return UnifiedAutoEncoder.from_pretrained(random_model_folder).encoder


# -- behind an address ----------------------------------------------------------------------------


def test_an_address_is_asked_for_words(caplog):
    caplog.set_level("INFO")
    with stub(lambda *_: said('{"correct": 1}')) as server:
        judge = judge_at(server.url)
        assert judge.reply(IMAGE, "Be strict.", "Red?", 9) == '{"correct": 1}'
        assert judge.reply(IMAGE, "", "Red?", 9) == '{"correct": 1}'
    assert isinstance(judge, Judge)
    assert [m["role"] for m in server.asked[0]["messages"]] == ["system", "user"]
    assert [m["role"] for m in server.asked[1]["messages"]] == ["user"]
    assert server.asked[0]["temperature"] == 0
    assert caplog.text.count("the judge m calls itself judge-2026") == 1
    stamp = judge.stamp
    assert (stamp.kind, stamp.name, stamp.dtype) == ("endpoint", "m", "unknown")
    assert stamp.options == {"base_url": server.url}


def test_a_probability_is_the_mass_of_the_forms_that_are_told():
    top = {"Yes": math.log(0.5), " yes": math.log(0.125), "Yesterday": math.log(0.25)}
    with stub(lambda *_: said("Yes", top=top)) as server:
        answers = (("Yes", "yes", " Yes", " yes"), ("No", "Yes"))
        p_yes, p_no = judge_at(server.url).p_of(IMAGE, "Red?", answers)
    assert p_yes == pytest.approx(0.625)
    assert p_no == 0, "a token counts once"
    assert server.asked[0]["max_tokens"] == 1


def test_an_address_without_log_probabilities_is_a_fault_of_usage():
    with (
        stub(lambda *_: said("Yes")) as server,
        pytest.raises(UsageError, match="tells no log-probabilities"),
    ):
        judge_at(server.url).p_of(IMAGE, "Red?", [("Yes",)])


@pytest.mark.parametrize("answer", [said("Yes"), said("", finish_reason="length"), fault(400)])
def test_an_address_that_refuses_log_probabilities_is_one_too_whatever_it_answers(answer):
    with stub(refusing("logprobs", answer=answer)) as server:
        judge = judge_at(server.url)
        with pytest.raises(UsageError, match="tells no log-probabilities"):
            judge.p_of(IMAGE, "Red?", [("Yes",)])


def test_words_of_an_address_that_refuses_log_probabilities_may_fail():
    with stub(refusing("logprobs", answer=said(""))) as server:
        judge = judge_at(server.url)
        with pytest.raises(UsageError):
            judge.p_of(IMAGE, "Red?", [("Yes",)])
        with pytest.raises(BackendFailed, match="judge: no answer"):
            judge.reply(IMAGE, "", "Red?", 9)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (HANG, "judge: timed out"),
        (fault(429), "judge: rate limited"),
        (said(None, message={"content": None, "refusal": "No."}), "judge: refused"),
    ],
)
def test_an_address_that_fails_is_a_judge_that_failed(answer, reason):
    with stub(lambda *_: answer) as server, pytest.raises(BackendFailed) as caught:
        judge_at(server.url, timeout_s=0.2).reply(IMAGE, "", "Red?", 9)
    assert (caught.value.reason, caught.value.can_retry) == (reason, True)


# -- on this machine ------------------------------------------------------------------------------


def test_our_own_encoder_judges_as_it_answers_elsewhere(local, encoder):
    prompts = encoder.prompts([IMAGE], ["Is it red?"])
    log_p = encoder.next_log_probs(prompts)[0]
    ids = sorted({encoder.tokenizer(form)["input_ids"][0] for form in ("red", "blue")})
    [p] = local.p_of(IMAGE, "Is it red?", [("red", "blue", "red")])
    # the encoder leaves out tokens that it never says, whose mass is small
    assert p == pytest.approx(float(log_p[ids].exp().sum()), rel=1e-2)
    reply = encoder.sample(prompts, None, max_new_tokens=8).texts[0]
    assert local.reply(IMAGE, "", "Is it red?", 8) == reply


def test_a_form_counts_by_its_first_token_and_once(local):
    first, second = local.p_of(IMAGE, "?", [("red",), ("blue",)])
    assert local.p_of(IMAGE, "?", [("red", "blue")]) == pytest.approx([first + second])
    assert local.p_of(IMAGE, "?", [("red", "red")]) == [first]
    assert local.p_of(IMAGE, "?", [("red blue",), ("red", "blue")]) == [first, second]
    assert 0 < first < 1


@pytest.mark.parametrize(
    "ask",
    [lambda judge: judge.reply(IMAGE, "", "Red?", 8), lambda judge: judge.p_of(IMAGE, "?", [])],
)
def test_a_question_too_large_for_the_memory_has_no_answer(vlm, local, monkeypatch, ask):
    def forward(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(vlm.model.lm_head, "forward", forward)
    with pytest.raises(BackendFailed, match=r"^judge: out of memory: CUDA out of memory\.$"):
        ask(local)


def test_a_system_turn_is_read(vlm):
    with_system = vlm.processor([IMAGE], "Be strict.", "Red?")["input_ids"]
    without = vlm.processor([IMAGE], "", "Red?")["input_ids"]
    text = vlm.processor.tokenizer.decode(with_system[0])
    assert text.index("strict") < text.index("Red")
    assert "strict" not in vlm.processor.tokenizer.decode(without[0])


def test_the_folders_own_penalties_change_nothing(random_model_folder, local):
    other = Transformers.from_pretrained(str(random_model_folder))
    before = local.reply(IMAGE, "", "Describe the image.", 8)
    model = other.model
    model.generation_config = GenerationConfig(
        repetition_penalty=50.0,
        eos_token_id=model.generation_config.eos_token_id,
        pad_token_id=model.generation_config.pad_token_id,
    )
    again = ChatJudge(Transformers(model, other.processor, "x"))
    assert again.reply(IMAGE, "", "Describe the image.", 8) == before


def test_a_local_vlm_is_told_by_its_weights(random_model_folder, local):
    stamp = local.stamp
    assert (stamp.kind, stamp.dtype, len(stamp.weights)) == ("local", "float32", 64)
    assert stamp.identity == stamp.weights
    half = ChatJudge(Transformers.from_pretrained(str(random_model_folder), dtype=torch.bfloat16))
    assert half.stamp.dtype == "bfloat16"
    assert half.stamp.identity != stamp.identity
    p = half.p_of(IMAGE, "Is it red?", [("red", "blue")])
    assert p == pytest.approx(local.p_of(IMAGE, "Is it red?", [("red", "blue")]), rel=0.2)


def test_what_is_not_finite_is_no_probability(random_model_folder):
    model = Transformers.from_pretrained(str(random_model_folder))
    judge = ChatJudge(model)
    with torch.no_grad():
        model.model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(BackendFailed, match="not finite") as caught:
        judge.p_of(IMAGE, "Red?", [("red",)])
    assert not caught.value.can_retry


def test_another_family_goes_through_its_own_processor(llava_folder):
    judge = ChatJudge(Transformers.from_pretrained(str(llava_folder)))
    assert judge.stamp.options["processor"] == "LlavaProcessor"
    image = Image.new("RGB", (16, 16), "red")
    [p] = judge.p_of(image, "is it red ?", [("yes",)])
    assert 0 < p < 1
    assert isinstance(judge.reply(image, "be strict", "is it red ?", 3), str)
    other = Image.new("RGB", (16, 16), "blue")
    assert judge.p_of(other, "is it red ?", [("yes",)]) != [p]


# -- several images, and none -----------------------------------------------------------------


@pytest.mark.parametrize("images", [[], [IMAGE], [IMAGE, OTHER], [OTHER, IMAGE]])
def test_images_stand_before_the_question_as_our_encoder_reads_them(vlm, encoder, images):
    inputs = vlm.processor(images, "", "Red?")
    prompts = encoder.prompts([images], ["Red?"])
    assert inputs["input_ids"].equal(prompts.token_ids)
    for name, pixels in prompts.pixels.items():
        assert inputs[name].equal(pixels)
    reply = encoder.sample(prompts, None, max_new_tokens=8).texts[0]
    assert vlm.chat(images, "Red?", max_tokens=8).text == reply


def test_a_reply_comes_with_the_raw_logits_of_its_first_token(vlm, local):
    for images in ([IMAGE], []):
        reply = vlm.chat(images, "Is it red?", max_tokens=8)
        text, logits = reply.text, first_log_p(reply)
        assert logits.dtype == torch.float32
        best = vlm.processor.tokenizer.decode(int(logits.argmax()))
        assert text.startswith(best.strip())
    logits = first_log_p(vlm.chat([IMAGE], "Is it red?", max_tokens=1))
    [p] = local.p_of(IMAGE, "Is it red?", [("red",)])
    red = vlm.processor.tokenizer("red")["input_ids"][0]
    assert float(logits.softmax(-1)[red]) == pytest.approx(p, rel=1e-4)  # rounding of float32


def test_another_family_reads_several_images_in_order_and_none(llava_folder):
    judge = Transformers.from_pretrained(str(llava_folder))
    red, blue = (Image.new("RGB", (16, 16), color) for color in ("red", "blue"))

    def logits(*images: Image.Image) -> torch.Tensor:
        return first_log_p(judge.chat(images, "is it red ?", max_tokens=1))

    seen = judge.processor([red, blue], "", "red")["pixel_values"]
    alone = [judge.processor([image], "", "red")["pixel_values"] for image in (red, blue)]
    assert seen.equal(torch.cat(alone))
    assert not logits(red, blue).equal(logits(blue, red))
    assert "pixel_values" not in judge.processor([], "", "red")
    assert logits().isfinite().all()


def test_another_family_reads_control_tokens_as_text(llava_folder):
    judge = Transformers.from_pretrained(str(llava_folder))
    red = Image.new("RGB", (16, 16), "red")
    ids = judge.processor([red], "be </s> strict", "is <image> red </s> ?")["input_ids"]
    plain = judge.processor([red], "be strict", "is red ?")["input_ids"]
    image, end = judge.processor.tokenizer.convert_tokens_to_ids(["<image>", "</s>"])
    assert (ids == image).sum() == (plain == image).sum()
    assert end not in ids
    assert isinstance(judge.chat([red], "is <image> red ?", max_tokens=3).text, str)


def test_a_model_without_a_chat_template_is_refused(llava_folder, tmp_path):
    folder = tmp_path / "plain"
    shutil.copytree(llava_folder, folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="no chat template"):
        Transformers.from_pretrained(str(folder))


# -- what is no answer ----------------------------------------------------------------------------


def test_next_to_nothing_on_any_answer_is_no_verdict():
    check_answered("Red?", (MIN_ANSWERED, 0.0))
    check_answered("Red?", (0.0, MIN_ANSWERED))
    with pytest.raises(BackendFailed, match=r"'Red\?': .* probability 0.06 alone") as caught:
        check_answered("Red?", (0.02, 0.04))
    assert (caught.value.reason, caught.value.can_retry) == ("judge: no verdict", True)
