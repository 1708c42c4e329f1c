"""Requests as clients of OpenAI and of other servers send them: taken, or refused by name."""

import json
from typing import Any

import pytest

from uae.serve.chat_request import (
    AssistantMessage,
    ChatRequest,
    ImagePart,
    ImageURL,
    RefusalPart,
    StreamOptions,
    SystemMessage,
    TextPart,
    UserMessage,
)
from uae.serve.chatting import prepare_chat
from uae.serve.drawing import ImageRequest
from uae.serve.fields import ApiError, Fields, parse_request

CHAT = "/v1/chat/completions"
HI = {"role": "user", "content": "hi"}
HELLO = {"model": "tiny", "messages": [HI], "max_tokens": 2}


def read(request: dict[str, Any], kind: type[Fields] = ChatRequest) -> Any:
    return parse_request(json.dumps(request).encode(), kind)


def refusal(request: dict[str, Any], kind: type[Fields] = ChatRequest) -> ApiError:
    with pytest.raises(ApiError) as caught:
        read(request, kind)
    assert caught.value.status == 400
    return caught.value


def history(**fields: Any) -> dict[str, Any]:
    return HELLO | {"messages": [HI, {"role": "assistant", "content": "a"} | fields, HI]}


def part(**fields: Any) -> dict[str, Any]:
    return HELLO | {"messages": [HI | {"content": [{"type": "text", "text": "hi"} | fields]}]}


# -- what says nothing here is taken ---------------------------------------------------------------

NULLS = dict.fromkeys(
    (
        "temperature",
        "top_p",
        "stop",
        "n",
        "seed",
        "stream",
        "tools",
        "response_format",
        "logit_bias",
    )
)
EPHEMERAL = {"type": "ephemeral"}
RETURNED = {  # by our own server, vLLM, LiteLLM, SGLang, Ollama, OpenRouter and OpenAI's parse()
    "annotations": [],
    "tool_calls": [],
    "function_call": None,
    "audio": None,
    "refusal": None,
    "parsed": None,
    "reasoning": "x",
    "reasoning_content": "x",
    "reasoning_details": [{"type": "reasoning.text", "text": "x"}],
    "thinking": "x",
    "thinking_blocks": [],
    "provider_specific_fields": {},
    "images": [],
    "name": "bob",
    "cache_control": EPHEMERAL,
}
SAME = [
    HELLO | NULLS,
    HELLO | {"messages": [HI | {"name": "bob"}]},
    HELLO | {"messages": [HI | {"name": None, "cache_control": EPHEMERAL}]},
    part(cache_control=EPHEMERAL),
    part(prompt_cache_breakpoint={"mode": "explicit"}, annotations=[]),
    HELLO | {"prompt_cache_options": {}, "prediction": {"type": "content", "content": "x"}},
    HELLO | {"reasoning_effort": "none", "verbosity": "medium", "metadata": {"a": "b"}},
    HELLO | {"chat_template_kwargs": {"enable_thinking": False}, "min_p": 0, "top_k": -1},
    HELLO | {"repetition_penalty": 1.0, "skip_special_tokens": True, "stop_token_ids": []},
    HELLO | {"stream_options": {"include_usage": True, "continuous_usage_stats": False}},
    HELLO | {"guided_json": None, "extra_body": {}, "cache_prompt": True, "keep_alive": "5m"},
]


@pytest.mark.parametrize("request_", SAME, ids=lambda x: str(sorted(x.keys() - HELLO.keys())))
def test_what_says_nothing_here_changes_nothing(client, request_):
    first, second = (client.post(CHAT, json=x | {"temperature": 0}) for x in (HELLO, request_))
    assert second.status_code == 200, second.text
    assert second.json()["choices"] == first.json()["choices"]
    assert second.json()["usage"] == first.json()["usage"]


@pytest.mark.parametrize("field", RETURNED)
def test_a_reply_goes_back_as_it_came(client, field):
    plain, told = (
        client.post(CHAT, json=x) for x in (history(), history(**{field: RETURNED[field]}))
    )
    assert told.status_code == 200, told.text
    assert told.json()["usage"]["prompt_tokens"] == plain.json()["usage"]["prompt_tokens"]


def test_our_own_reply_goes_back_as_it_came(client):
    reply = client.post(CHAT, json=HELLO | {"logprobs": True}).json()["choices"][0]["message"]
    turns = [HI, reply | {"content": reply["content"] or "a"}, HI]
    assert client.post(CHAT, json=HELLO | {"messages": turns}).status_code == 200


def test_a_refusal_is_what_the_model_said(model):
    def tokens(*parts: Any, **fields: Any) -> list[int]:
        messages = [HI, {"role": "assistant", "content": list(parts) or None} | fields, HI]
        return prepare_chat(model, read(HELLO | {"messages": messages})).prompts.token_ids.tolist()

    said = {"type": "text", "text": "I will not."}
    assert tokens(refusal="I will not.") == tokens(said)
    assert tokens({"type": "refusal", "refusal": "I will not."}) == tokens(said)
    assert tokens({"type": "text", "text": "No. "}, refusal="I will not.") == tokens(
        {"type": "text", "text": "No. I will not."}
    )


@pytest.mark.parametrize("detail", ["auto", "low", "high", "original", None])
def test_an_image_url_comes_as_an_object_or_bare(client, question, detail):
    url = question["messages"][0]["content"][0]["image_url"]["url"]
    shown = [url, {"url": url, "detail": detail, "format": "image/png"}]
    replies = [
        client.post(
            CHAT,
            json=question
            | {"messages": [HI | {"content": [{"type": "image_url", "image_url": x}]}]},
        )
        for x in shown
    ]
    assert [x.status_code for x in replies] == [200, 200]
    assert replies[0].json()["choices"] == replies[1].json()["choices"]


# -- what would change the reply is refused, by its own path ---------------------------------------


@pytest.mark.parametrize(
    ("request_", "path", "said"),
    [
        (HELLO | {"x": 1}, "x", "unknown parameter x"),
        (HELLO | {"messages": [HI | {"x": 1}]}, "messages[0].x", "unknown"),
        (part(cache_controll=1), "messages[0].content[0].cache_controll", "unknown"),
        (part(text=3), "messages[0].content[0].text", "3"),
        (
            HELLO | {"messages": [HI | {"content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0].image_url.url",
            "is required",
        ),
        (
            HELLO
            | {
                "messages": [
                    HI,
                    HI
                    | {"content": [{"type": "image_url", "image_url": {"url": "data:,", "x": 1}}]},
                ]
            },
            "messages[1].content[0].image_url.x",
            "unknown",
        ),
        (
            HELLO | {"messages": [{"role": "system", "content": [{"type": "text"}]}, HI]},
            "messages[0].content[0].text",
            "is required",
        ),
        (
            HELLO
            | {
                "messages": [{"role": "system", "content": [{"type": "text", "text": "a", "x": 1}]}]
            },
            "messages[0].content[0].x",
            "unknown",
        ),
        (
            HELLO | {"messages": [{"role": "system", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0]",
            "'image_url'",
        ),
        (HELLO | {"messages": [None]}, "messages[0]", "None"),
        (HELLO | {"messages": [{"content": "hi"}]}, "messages[0]", "role"),
        (history(content=None), "messages[1].content", "is required"),
        (history(x=1), "messages[1].x", "unknown"),
        (history(tool_calls=[{"id": "1"}]), "messages[1].tool_calls", "or give []"),
        (history(function_call={"name": "f"}), "messages[1].function_call", "leave it out"),
        (history(audio={"id": "1"}), "messages[1].audio", "leave it out"),
        (history(prefix=True), "messages[1].prefix", "or give False"),
        (history(refusal=3), "messages[1].refusal", "3"),
        (HELLO | {"stream_options": {"x": 1}}, "stream_options.x", "unknown"),
        (
            HELLO | {"stream_options": {"continuous_usage_stats": True}},
            "stream_options.continuous_usage_stats",
            "or give False",
        ),
        (HELLO | {"chat_template_kwargs": {"enable_thinking": True}}, "chat_template_kwargs", "{}"),
        (HELLO | {"guided_json": {}}, "guided_json", "leave it out"),
        (HELLO | {"min_p": 0.1}, "min_p", "or give 0"),
        (HELLO | {"top_k": 20}, "top_k", "or give -1 or 0"),
        (HELLO | {"repetition_penalty": 1.1}, "repetition_penalty", "or give 1"),
        (HELLO | {"reasoning_effort": "high"}, "reasoning_effort", "or give 'none'"),
        (HELLO | {"stop": ["a", 3]}, "stop[1]", "3"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_would_change_the_reply_is_refused_by_its_own_path(request_, path, said):
    error = refusal(request_)
    assert error.param == path
    assert said in str(error)
    assert path in str(error)


@pytest.mark.parametrize("type_", ["text", "image_url", "refusal"])
@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
def test_an_unknown_field_has_its_own_path_whatever_stands_around(role, type_):
    text = {"type": "text", "text": "a"}
    last = {"type": type_, type_: {"url": "data:,"} if type_ == "image_url" else "a", "x": 1}
    messages = [HI, {"role": role, "content": [text, last]}]
    path = "messages[1].content[1]"
    is_known = (type_ == "text") or (type_ == "image_url") == (role == "user")
    assert refusal(HELLO | {"messages": messages}).param == (f"{path}.x" if is_known else path)


# -- OpenAI's own types ----------------------------------------------------------------------------


def fields_of(params: Any) -> set[str]:
    return set(params.__required_keys__ | params.__optional_keys__)


def names_of(kind: type[Fields]) -> set[str]:
    return {*kind.model_fields, *kind.neutral, *kind.harmless}


def test_every_field_that_openai_documents_is_known():
    chat = pytest.importorskip("openai.types.chat")
    from openai.types.chat import completion_create_params as completion
    from openai.types.image_generate_params import ImageGenerateParamsBase

    pairs: list[tuple[Any, type[Fields]]] = [
        (completion.CompletionCreateParamsNonStreaming, ChatRequest),
        (ImageGenerateParamsBase, ImageRequest),
        (chat.ChatCompletionStreamOptionsParam, StreamOptions),
        (chat.ChatCompletionSystemMessageParam, SystemMessage),
        (chat.ChatCompletionDeveloperMessageParam, SystemMessage),
        (chat.ChatCompletionUserMessageParam, UserMessage),
        (chat.ChatCompletionAssistantMessageParam, AssistantMessage),
        (chat.ChatCompletionContentPartTextParam, TextPart),
        (chat.ChatCompletionContentPartImageParam, ImagePart),
        (chat.ChatCompletionContentPartRefusalParam, RefusalPart),
        (chat.chat_completion_content_part_image_param.ImageURL, ImageURL),
    ]
    for theirs, ours in pairs:
        assert fields_of(theirs) <= names_of(ours), theirs.__name__
    message = set(chat.ChatCompletionMessage.model_fields)  # what a client has and sends back
    assert message <= names_of(AssistantMessage)


@pytest.mark.parametrize(
    ("kind", "start"), [(ChatRequest, HELLO), (ImageRequest, {"model": "tiny", "prompt": "a"})]
)
def test_each_parameter_that_we_lack_is_refused_by_name_but_for_its_neutral_values(kind, start):
    for name, neutral in kind.neutral.items():
        assert refusal(start | {name: "something else"}, kind).param == name
        for value in (*neutral, None):
            read(start | {name: value}, kind)
    for name in kind.harmless:
        read(start | {name: {"any": "value"}}, kind)
