"""The plug-in of lmms-eval against fakes of its base classes: it is not installed here."""

import abc
import importlib
import importlib.metadata
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch

from uae.benchmarks.lmms import requests as lmms_requests
from uae.core.errors import UsageError
from uae.models.chat import Message, chat_prompts
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image

TASK, SPLIT = "scenes", "test"
GREEDY = {"max_new_tokens": 6, "temperature": 0.0, "until": ["\n\n"], "do_sample": False}


class FakeBase(abc.ABC):
    """lmms_eval.api.model.lmms, what of it a plug-in meets."""

    is_simple = True

    def __init__(self) -> None:
        self.task_dict: dict[str, dict[str, list[Any]]] = {}

    @abc.abstractmethod
    def loglikelihood(self, requests): ...

    @abc.abstractmethod
    def generate_until(self, requests): ...

    @abc.abstractmethod
    def generate_until_multi_round(self, requests): ...


@dataclass(frozen=True)
class FakeManifest:
    """lmms_eval.models.registry_v2.ModelManifest."""

    model_id: str
    simple_class_path: str | None = None
    chat_class_path: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass
class Request:
    args: tuple[Any, ...]


@pytest.fixture(scope="module")
def plugin():
    """The module that holds the models, imported with the fakes in place."""
    names = ("lmms_eval", "lmms_eval.api", "lmms_eval.models")
    fakes = {name: ModuleType(name) for name in names}
    fakes["lmms_eval.api.model"] = ModuleType("lmms_eval.api.model")
    fakes["lmms_eval.api.model"].__dict__["lmms"] = FakeBase
    fakes["lmms_eval.models.registry_v2"] = ModuleType("lmms_eval.models.registry_v2")
    fakes["lmms_eval.models.registry_v2"].__dict__["ModelManifest"] = FakeManifest
    with pytest.MonkeyPatch.context() as patch:
        for name, fake in fakes.items():
            patch.setitem(sys.modules, name, fake)
        yield importlib.import_module("uae.benchmarks.lmms.model")
    sys.modules.pop("uae.benchmarks.lmms.model", None)


@pytest.fixture(scope="module")
def images():
    return [render_image(scene_at(i, "train")) for i in range(2)]


@pytest.fixture(scope="module")
def models(plugin, random_model_folder, images):
    """Both models, with a task of two documents."""
    docs = [{"image": image, "question": f"Which, {i}?"} for i, image in enumerate(images)]
    made = [cls(model=str(random_model_folder)) for cls in (plugin.UaeChat, plugin.UaeSimple)]
    for model in made:
        model.task_dict = {TASK: {SPLIT: docs}}
    return made


@pytest.fixture
def chat_model(models):
    return models[0]


@pytest.fixture
def simple_model(models):
    return models[1]


def to_messages(doc: dict, **_: Any) -> list[dict]:
    parts = [{"type": "image", "url": doc["image"]}, {"type": "text", "text": doc["question"]}]
    return [{"role": "user", "content": parts}]


def to_visual(doc: dict) -> list:
    return [doc["image"]]


def chat_request(doc_id: int, choices: dict | None = None, messages=to_messages) -> Request:
    return Request(("", messages, choices or GREEDY, doc_id, TASK, SPLIT))


def greedy(model, turns: list[Message], num_tokens: int = 6) -> str:
    prompts = chat_prompts(model._encoder, turns)
    return model._encoder.sample(prompts, None, max_new_tokens=num_tokens).texts[0]


def test_the_entry_point_names_classes_that_exist(plugin):
    [entry] = importlib.metadata.entry_points(group="lmms_eval.models", name="uae")
    manifest = entry.load()()
    assert manifest.model_id == "uae"
    for path, is_simple in ((manifest.chat_class_path, False), (manifest.simple_class_path, True)):
        module, _, name = path.rpartition(".")
        found = getattr(importlib.import_module(module), name)
        assert issubclass(found, FakeBase)
        assert found.is_simple is is_simple


def test_a_chat_is_answered_with_the_most_probable_words(chat_model, images):
    replies = chat_model.generate_until([chat_request(1), chat_request(0)])
    for reply, i in zip(replies, (1, 0), strict=True):
        assert reply == greedy(chat_model, [Message("user", (images[i], f"Which, {i}?"))])


def test_a_simple_task_shows_its_images_first(simple_model, images):
    request = Request(("Where?", GREEDY, to_visual, 1, TASK, SPLIT))
    expected = greedy(simple_model, [Message("user", (images[1], "Where?"))])
    assert simple_model.generate_until([request]) == [expected]


def test_a_stop_text_ends_a_reply(chat_model, images):
    whole = greedy(chat_model, [Message("user", (images[0], "Which, 0?"))])
    stop = whole[2:4]
    [reply] = chat_model.generate_until([chat_request(0, GREEDY | {"until": stop})])
    assert reply == whole[: whole.index(stop)]


def test_rounds_go_on_until_the_task_has_enough(chat_model, images):
    seen = []

    def rounds(doc, round_idx=None, previous_output=None, previous_round_info=None):
        if round_idx is None:
            return to_messages(doc)
        seen.append((round_idx, list(previous_output), previous_round_info))
        parts = [{"type": "text", "text": f"Round {round_idx}?"}]
        return [{"role": "user", "content": parts}], round_idx == 2, previous_output, "info"

    [replies] = chat_model.generate_until_multi_round([chat_request(0, messages=rounds)])
    assert len(replies) == 2
    assert replies[1] == greedy(chat_model, [Message("user", ("Round 1?",))])
    assert seen == [(1, replies[:1], None), (2, replies, "info")]
    [once] = chat_model.generate_until_multi_round([chat_request(0)])
    assert once == chat_model.generate_until([chat_request(0)])


def test_rounds_of_a_simple_task_are_refused(simple_model):
    with pytest.raises(UsageError, match="leave out --force_simple"):
        simple_model.generate_until_multi_round([])


def test_a_continuation_has_the_probability_of_its_tokens(simple_model, images):
    """Against the next-token distribution, one token after the other."""
    encoder = simple_model._encoder
    turns = [Message("user", (images[0], "Which?"))]
    best = encoder.sample(chat_prompts(encoder, turns), None, max_new_tokens=3)
    texts = [encoder.tokenizer.decode(best.token_ids[0]), " A", " red circle", ""]
    requests = [
        Request(("Which?", lambda _, text=text: text, to_visual, 0, TASK, SPLIT)) for text in texts
    ]
    results = simple_model.loglikelihood(requests)
    assert results[3] == (0.0, True)
    for (log_prob, is_greedy), text in zip(results[:3], texts[:3], strict=True):
        ids = encoder.tokenizer(text)["input_ids"]
        assert log_prob == pytest.approx(plain_log_prob(encoder, turns, ids), abs=1e-4)
        assert is_greedy == (ids == best.token_ids[0, : len(ids)].tolist())
    assert [is_greedy for _, is_greedy in results].count(True) >= 2
    options = [Request(("Which?", text, to_visual, 0, TASK, SPLIT)) for text in texts]
    losses = [loss for loss, _ in simple_model.loglikelihood(options)]
    assert losses == [-log_prob for log_prob, _ in results], "lmms-eval takes the smallest"


def plain_log_prob(encoder, turns: list[Message], ids: list[int]) -> float:
    prompts = chat_prompts(encoder, turns)
    token_ids = torch.cat([prompts.token_ids, torch.tensor([ids])], dim=1)
    logits = encoder.model(
        input_ids=token_ids,
        attention_mask=torch.ones_like(token_ids),
        **prompts.pixels,
        mm_token_type_ids=(token_ids == encoder.model.config.image_token_id).int(),
    ).logits[0, prompts.token_ids.shape[1] - 1 : -1]
    log_p = logits.masked_fill(encoder.family.forbidden, float("-inf")).log_softmax(-1)
    return sum(log_p[i, token].item() for i, token in enumerate(ids))


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"num_beams": 4}, "num_beams 4 is not supported"),
        ({"temperature": 0.7, "top_p": 0.9}, "top_p 0.9 is not supported"),
        ({"repetition_penalty": 1.1}, "repetition_penalty 1.1 is not supported"),
    ],
)
def test_choices_that_would_change_the_result_are_refused(choices, said):
    with pytest.raises(UsageError, match=said):
        lmms_requests.reply_config(choices, 0, 100)


def test_choices_are_translated():
    config = lmms_requests.reply_config(
        {"temperature": 0.7, "do_sample": True, "until": "Q:", "image_aspect_ratio": "pad"}, 3, 100
    )
    assert (config.temperature, config.stop, config.seed) == (0.7, ("Q:",), 3)
    assert config.max_new_tokens == 100  # the context ends before the default
    cold = {"temperature": 0.7, "do_sample": False, "top_p": 0.9, "max_new_tokens": 5}
    assert lmms_requests.reply_config(cold, 0, 100).temperature == 0
    assert lmms_requests.reply_config(cold, 0, 100).max_new_tokens == 5


def test_what_is_no_text_or_image_is_refused():
    with pytest.raises(UsageError, match="shows video"):
        lmms_requests.chat([{"role": "user", "content": [{"type": "video", "url": "a.mp4"}]}])
    with pytest.raises(UsageError, match="a str as image"):
        lmms_requests.turn("Which?", ["a.png"])


def test_a_question_longer_than_the_context_is_refused(chat_model):
    def endless(doc):
        return [{"role": "user", "content": [{"type": "text", "text": "red " * 3000}]}]

    with pytest.raises(UsageError, match="longer than the encoder's context"):
        chat_model.generate_until([chat_request(0, messages=endless)])
