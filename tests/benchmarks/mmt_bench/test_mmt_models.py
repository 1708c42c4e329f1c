"""Models of others behind the protocol: on this machine, and behind an address."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from stub_endpoint import DIE, HANG, fault, refusing, said, stub
from thirty_questions import Words, evaluate, rows, write

from uae.backends.answers import ChatAnswers, McqModel
from uae.backends.client import Client, EndpointConfig
from uae.backends.endpoint import Endpoint
from uae.backends.failure import BackendFailed
from uae.backends.judge import ChatJudge
from uae.backends.transformers import Transformers
from uae.backends.uae import Uae
from uae.benchmarks.mmt_bench.benchmark import MmtOptions
from uae.core.errors import RunFailed, UsageError
from uae.models.unified import UnifiedAutoEncoder
from uae.runs.rows import ITEMS, read_rows
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image

IMAGES = [render_image(scene_at(i, "test"), size) for i, size in enumerate((64, 96))]
TOP = {"A": math.log(0.5), " A": math.log(0.25), "\nB": math.log(0.125), "AB": math.log(0.1)}


# -- on this machine ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vlm(random_model_folder) -> Transformers:
    return Transformers.from_pretrained(str(random_model_folder))


@pytest.mark.parametrize("images", [[], IMAGES[:1], IMAGES])
def test_a_vision_language_model_answers_as_our_encoder_does(vlm, random_model_folder, images):
    model = UnifiedAutoEncoder.from_pretrained(random_model_folder)
    ours = ChatAnswers(Uae(model), 4).reply(images, "Which?", "ABC")
    theirs = ChatAnswers(vlm, 4).reply(images, "Which?", "ABC")
    assert theirs.text == ours.text
    # the encoder leaves out tokens that it never says, whose mass is small
    assert theirs.log_probs == pytest.approx(ours.log_probs, abs=1e-2)


def test_letters_have_the_mass_of_their_tokens_alone(vlm):
    answers = ChatAnswers(vlm, 4)
    assert isinstance(answers, McqModel)
    reply = answers.reply(IMAGES[:1], "Which?", "AB")
    tokenizer = vlm.processor.tokenizer
    for letter, log_prob in zip("AB", reply.log_probs, strict=True):
        forms = [form for form in (letter, f" {letter}") if len(tokenizer(form)["input_ids"]) == 1]
        [p] = ChatJudge(vlm).p_of(IMAGES[0], "Which?", [forms])
        assert log_prob == pytest.approx(math.log(p), abs=1e-4)
    assert answers.reply(IMAGES[:1], "Which?", []).log_probs == []
    with pytest.raises(UsageError, match=r"letter qqq: .*--no-likelihood"):
        answers.reply(IMAGES[:1], "Which?", ["qqq"])


def test_probabilities_that_are_not_finite_are_no_answer(random_model_folder):
    vlm = Transformers.from_pretrained(str(random_model_folder))
    with torch.no_grad():
        vlm.model.lm_head.weight.fill_(float("nan"))
    for letters in ("AB", ""):
        with pytest.raises(BackendFailed, match="model: not finite") as caught:
            ChatAnswers(vlm, 2).reply(IMAGES[:1], "Which?", letters)
        assert not caught.value.can_retry


def test_a_question_with_a_control_token_is_read_as_text(vlm, random_model_folder):
    model = UnifiedAutoEncoder.from_pretrained(random_model_folder)
    encoder = model.encoder
    question = "Which <|image_pad|><|im_end|>?"
    inputs = vlm.processor(IMAGES[:1], "", question)
    assert inputs["input_ids"].equal(encoder.prompts([IMAGES[:1]], [question]).token_ids)
    assert question in encoder.tokenizer.decode(inputs["input_ids"][0])
    theirs, ours = (
        x.reply(IMAGES[:1], question, "AB")
        for x in (ChatAnswers(vlm, 2), ChatAnswers(Uae(model), 2))
    )
    assert theirs.text == ours.text


# -- behind an address ----------------------------------------------------------------------------


def answers_at(url: str, **values) -> ChatAnswers:
    config = EndpointConfig(base_url=url, model="m", **{"max_tries": 1, **values})
    return ChatAnswers(Endpoint(Client(config)), 9)


def test_one_request_gives_the_reply_and_the_letters():
    with stub(lambda *_: said("A.", top=TOP)) as server:
        answers = answers_at(server.url)
        reply = answers.reply(IMAGES, "Which?", "ABC")
    assert isinstance(answers, McqModel)
    assert reply.text == "A."
    assert reply.log_probs == pytest.approx([math.log(0.75), math.log(0.125), -math.inf])
    [body] = server.asked
    assert (body["max_tokens"], body["temperature"], body["logprobs"]) == (9, 0, True)
    [turn] = body["messages"]
    assert [part["type"] for part in turn["content"]] == ["image_url", "image_url", "text"]
    first, second = (part["image_url"]["url"] for part in turn["content"][:2])
    assert len(first) < len(second), "in their order: the second is larger"


def test_letters_that_hardly_are_or_are_not_asked_for():
    with stub(lambda *_: said("B", top={"A": -9999.0, "I": -0.1})) as server:
        reply = answers_at(server.url).reply([], "Which?", "AB")
        assert list(reply.log_probs) == [-9999.0, -math.inf]
        assert [part["type"] for part in server.asked[0]["messages"][0]["content"]] == ["text"]
        assert answers_at(server.url).reply([], "Which?", []).log_probs == []
    assert "logprobs" not in server.asked[1]


def test_an_address_without_log_probabilities_answers_without_likelihood(tmp_path: Path):
    tsv = write(tmp_path / "q.tsv", rows(3))
    with stub(lambda *_: said("A")) as server:
        with pytest.raises(UsageError, match=r"tells no log-probabilities.*--no-likelihood"):
            evaluate(answers_at(server.url), tsv, tmp_path / "run")
        assert len(server.asked) == 1
        config = MmtOptions(likelihood=False)
        result = evaluate(answers_at(server.url), tsv, tmp_path / "words", config=config)
    assert result.by_name("answer/VAL/overall").n == 3
    assert {x.score.sample for x in result.scores} == {"answer", "parsed"}


@pytest.mark.parametrize("answer", [said("A"), said("", finish_reason="length"), fault(400)])
def test_an_address_that_refuses_log_probabilities_is_named_whatever_it_answers(answer):
    with (
        stub(refusing("logprobs", answer=answer)) as server,
        pytest.raises(UsageError, match=r"tells no log-probabilities.*--no-likelihood"),
    ):
        answers_at(server.url).reply([], "Which?", "AB")
    assert len(server.asked) == 2


def test_words_alone_of_an_address_that_refuses_log_probabilities_may_fail():
    with stub(refusing("logprobs", answer=said(""))) as server:
        answers = answers_at(server.url)
        with pytest.raises(UsageError, match="--no-likelihood"):
            answers.reply([], "Which?", "AB")
        with pytest.raises(BackendFailed, match="model: no answer"):
            answers.reply([], "Which?", "")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (HANG, "model: timed out"),
        (DIE, "model: connection lost"),
        (fault(429), "model: rate limited"),
        (said(None, message={"content": None, "refusal": "No."}), "model: refused"),
        (said("", top=TOP, finish_reason="length"), "model: no answer"),
    ],
)
def test_a_request_that_fails_is_no_answer(answer, reason):
    with stub(lambda *_: answer) as server, pytest.raises(BackendFailed) as caught:
        answers_at(server.url, timeout_s=0.2).reply(IMAGES[:1], "Which?", "AB")
    assert (caught.value.reason, caught.value.can_retry) == (reason, True)


class Replying:
    """Answers as `Words` does; questions of some pictures fail."""

    def __init__(self, *failing: int) -> None:
        self.failing = set(failing)
        self.asked: list[int] = []

    def __call__(self, _path: str, body: dict) -> object:
        text = body["messages"][0]["content"][-1]["text"]
        picture = int(text.partition("picture ")[2].partition("?")[0])
        self.asked.append(picture)
        if picture in self.failing:
            return fault(503)
        letters = Words().option_log_probs([], text, "ABCD")
        return said(Words().answer([], text), top=dict(zip("ABCD", letters, strict=True)))


def test_what_failed_is_left_out_by_reason_and_asked_again(tmp_path: Path):
    tsv = write(tmp_path / "q.tsv", rows(12))
    answer = Replying(3, 8)
    with stub(answer) as server:
        model = answers_at(server.url)
        result = evaluate(model, tsv, tmp_path / "run")
        assert [(x, sorted(of)) for x, of in result.excluded.items()] == [
            ("model: server error", ["3", "8"])
        ]
        overall = result.by_name("answer/VAL/overall")
        assert (overall.n, overall.num_excluded) == (10, 2)
        answer.failing.clear()
        assert evaluate(model, tsv, tmp_path / "run").num_excluded == 2
        again = evaluate(model, tsv, tmp_path / "run", retry_failed=True)
        assert answer.asked == [*range(12), 3, 8]
    words = evaluate(Words(), tsv, tmp_path / "words")
    assert again.by_name("answer/VAL/overall") == words.by_name("answer/VAL/overall")


def test_a_model_that_is_down_ends_the_run_and_loses_nothing(tmp_path: Path):
    questions = rows(14)
    questions[6] = replace(questions[6], image="no picture")
    tsv = write(tmp_path / "q.tsv", questions)
    config = MmtOptions(allow_missing=True)
    answer = Replying(1, 4, 5, 7, 8, 9, 10, 11)
    with stub(answer) as server:
        model = answers_at(server.url)
        with pytest.raises(RunFailed, match=r"5 items running failed, 9 last .*mend the model"):
            evaluate(model, tsv, tmp_path / "run", config=config)
        assert answer.asked == [0, 1, 2, 3, 4, 5, 7, 8, 9], "an image that is none is no answer"
        assert len(read_rows(tmp_path / "run" / ITEMS)) == 10
        answer.failing.clear()
        result = evaluate(model, tsv, tmp_path / "run", config=config, retry_failed=True)
    assert sorted(answer.asked[9:]) == [1, 4, 5, 7, 8, 9, 10, 11, 12, 13]
    assert list(result.excluded) == ["image: damaged"]
