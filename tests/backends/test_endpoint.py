"""A client of OpenAI-compatible addresses: what is sent, what is read, and every way to fail."""

import base64
import importlib.util
import io
import json
import math
import traceback

import pytest
from base64_spellings import BARE, SIZE, URLS
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from stub_endpoint import DIE, HANG, fault, refusing, said, stub

from uae.backends.client import Client, EndpointConfig, EndpointFailure, Refusal
from uae.backends.endpoint_messages import reason_of
from uae.backends.first_token import TopToken
from uae.core.errors import EnvironmentFault, UsageError

pytest.importorskip("openai")

RED = Image.new("RGB", (5, 3), (200, 10, 10))
KEY = "sk-secret-1234567890"


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def endpoint_at(url: str, **values) -> Client:
    return Client(EndpointConfig(base_url=url, **{"model": "m", "max_tries": 1, **values}))


def png(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def failure_of(answer, **values) -> EndpointFailure:
    with stub(lambda *_: answer) as server, pytest.raises(EndpointFailure) as caught:
        endpoint_at(server.url, **values).chat(["Hi"], max_tokens=5)
    return caught.value


# -- what is sent and read ------------------------------------------------------------------------


def test_a_chat_sends_texts_and_images_in_order_and_returns_the_reply():
    with stub(lambda *_: said(" Yes. ", finish_reason="length")) as server:
        reply = endpoint_at(server.url).chat([RED, "Red?"], system="Be short.", max_tokens=7)
    assert (reply.text, reply.model, reply.is_cut) == ("Yes.", "judge-2026", True)
    (body,) = server.asked
    assert body.keys() == {"model", "messages", "max_tokens", "temperature"}
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("m", 7, 0)
    system, user = body["messages"]
    assert system == {"role": "system", "content": "Be short."}
    picture, text = user["content"]
    assert text == {"type": "text", "text": "Red?"}
    head, _, data = picture["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    sent = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (sent.size, sent.getpixel((0, 0))) == ((5, 3), (200, 10, 10))
    assert server.keys == [f"Bearer {KEY}"]


def test_logprobs_are_those_of_the_first_token():
    answer = said("", top={"Yes": math.log(0.7), "No": math.log(0.2)})
    with stub(lambda *_: answer) as server:
        reply = endpoint_at(server.url).chat(["Hi"], max_tokens=1, seed=3, logprobs=True)
    assert reply.top_logprobs == (TopToken("Yes", math.log(0.7)), TopToken("No", math.log(0.2)))
    (body,) = server.asked
    assert (body["logprobs"], body["top_logprobs"], body["seed"]) == (True, 20, 3)


def test_an_image_is_opened_as_one_from_a_stranger():
    with stub(lambda *_: {"data": [{"b64_json": png(RED)}]}) as server:
        image = endpoint_at(server.url).image("a red bar", size=(64, 32), seed=5)
    assert (image.size, image.mode, image.getpixel((0, 0))) == ((5, 3), "RGB", (200, 10, 10))
    (body,) = server.asked
    assert (body["size"], body["seed"], body["response_format"]) == ("64x32", 5, "b64_json")


@pytest.mark.parametrize(
    "drawn",
    [{"b64_json": text} for text in [*BARE.values(), *URLS.values()]]
    + [{"url": url} for url in URLS.values()]
    + [{"b64_json": None, "url": URLS["plain"], "revised_prompt": "a bar"}],
)
def test_an_image_comes_in_any_spelling_of_base64(drawn):
    with stub(lambda *_: {"data": [drawn]}) as server:
        assert endpoint_at(server.url).image("a red bar").size == SIZE


@pytest.mark.parametrize(
    "answer",
    [
        {"data": [{}]},
        {"data": [{"url": None, "b64_json": None}]},
        {"data": [{"url": "data:image/svg+xml,<svg/>"}]},
        {"data": [{"b64_json": base64.b64encode(b"GIF89a").decode()}]},
        {"data": [{"b64_json": png(RED)[:40]}]},
        {"data": [{"b64_json": "%%%"}]},
        {"data": [{"url": "http://127.0.0.1/image.png"}]},
        {"data": []},
    ],
)
def test_no_image_is_no_answer(answer):
    with stub(lambda *_: answer) as server, pytest.raises(EndpointFailure) as caught:
        endpoint_at(server.url).image("a red bar")
    assert caught.value.reason == "no answer"


# -- parameters that are refused ------------------------------------------------------------------

ALL = {"model", "messages", "max_tokens", "temperature", "seed", "logprobs", "top_logprobs"}


@pytest.mark.parametrize(
    ("param", "left_out", "said_of_it"),
    [
        ("max_tokens", {"max_tokens"}, "max_completion_tokens is sent instead"),
        ("temperature", {"temperature"}, "not repeatable"),
        ("seed", {"seed"}, "not repeatable"),
        ("logprobs", {"logprobs", "top_logprobs"}, "no log-probabilities are told"),
        ("top_logprobs", {"logprobs", "top_logprobs"}, "no log-probabilities are told"),
    ],
)
def test_a_refused_parameter_of_a_chat_is_left_out_from_then_on(
    param, left_out, said_of_it, caplog
):
    with stub(refusing(param, answer=said("Yes"))) as server:
        endpoint = endpoint_at(server.url)
        for _ in range(2):
            reply = endpoint.chat(["Hi"], max_tokens=7, seed=3, logprobs=True)
            assert (reply.text, reply.top_logprobs) == ("Yes", ())
    first, *others = server.asked
    assert first.keys() == ALL
    instead = {"max_completion_tokens"} if param == "max_tokens" else set()
    assert [body.keys() for body in others] == [ALL - left_out | instead] * 2
    assert {body.get("max_completion_tokens", 7) for body in others} == {7}
    assert endpoint.refuses_logprobs == ("logprobs" in left_out)
    [warning] = caplog.records
    assert warning.levelname == "WARNING"
    assert f"m at {server.url} refuses {param} (" in warning.getMessage()
    assert f"Unsupported parameter: '{param}'" in warning.getMessage()
    assert said_of_it in warning.getMessage()


@pytest.mark.parametrize("param", ["seed", "response_format"])
def test_a_refused_parameter_of_an_image_is_left_out_from_then_on(param, caplog):
    with stub(refusing(param, answer={"data": [{"b64_json": png(RED)}]})) as server:
        endpoint = endpoint_at(server.url)
        for _ in range(2):
            assert endpoint.image("a red bar", size=(64, 32), seed=5).size == (5, 3)
    everything = {"model", "prompt", "n", "size", "seed", "response_format"}
    kept = everything - {param}
    assert [body.keys() for body in server.asked] == [everything, kept, kept]
    [warning] = caplog.records
    assert f"refuses {param} (" in warning.getMessage()


def test_several_refused_parameters_are_left_out_one_after_the_other(caplog):
    params = ("max_tokens", "temperature", "logprobs", "seed")
    with stub(refusing(*params, answer=said("Yes"))) as server:
        endpoint = endpoint_at(server.url)
        for _ in range(2):
            endpoint.chat(["Hi"], max_tokens=7, seed=3, logprobs=True)
    assert len(server.asked) == 6
    assert server.asked[4] == server.asked[5]
    assert server.asked[4].keys() == {"model", "messages", "max_completion_tokens"}
    assert [x.getMessage().split(" (")[0].split()[-1] for x in caplog.records] == list(params)


def test_who_asks_is_told_of_a_refusal_once_and_before_it_is_asked_without(caplog):
    told: list[tuple[Refusal, int]] = []
    with stub(refusing("temperature", "seed", answer=said("Yes"))) as server:
        config = EndpointConfig(base_url=server.url, model="m", max_tries=1)
        endpoint = Client(config, lambda refusal: told.append((refusal, len(server.asked))))
        for _ in range(2):
            endpoint.chat(["Hi"], max_tokens=7, seed=3)
    refusals = [Refusal("m", server.url, param) for param in ("temperature", "seed")]
    assert told == [(refusals[0], 1), (refusals[1], 2)]


@pytest.mark.parametrize("param", ["max_tokens", "temperature"])
def test_a_parameter_that_was_left_out_already_is_not_accepted(param, caplog):
    with stub(lambda *_: fault(400, param=param)) as server:
        endpoint = endpoint_at(server.url)
        for num_asked in (2, 3):
            with pytest.raises(EndpointFailure) as caught:
                endpoint.chat(["Hi"], max_tokens=7)
            assert caught.value.reason == "not accepted"
            assert len(server.asked) == num_asked
    assert len(caplog.records) == 1


def test_the_limit_of_an_answer_is_never_left_out():
    limits = ("max_tokens", "max_completion_tokens")
    with (
        stub(refusing(*limits, answer=said("Yes"))) as server,
        pytest.raises(EndpointFailure, match=r"not accepted: .*max_completion_tokens"),
    ):
        endpoint_at(server.url).chat(["Hi"], max_tokens=7)
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "answer",
    [
        fault(400, param="messages"),
        fault(400, param="model"),
        fault(400, param="max_completion_tokens"),
        fault(400, param="seed"),  # which was not sent
        fault(400, param=["temperature"]),
        fault(400, "temperature"),
        fault(422, param="temperature"),
    ],
)
def test_any_other_request_that_is_not_accepted_is_not_sent_again(answer, caplog):
    with stub(lambda *_: answer) as server, pytest.raises(EndpointFailure) as caught:
        endpoint_at(server.url).chat(["Hi"], max_tokens=7)
    assert caught.value.reason == "not accepted"
    assert len(server.asked) == 1
    assert not caplog.records


def test_the_probe_leaves_nothing_out():
    with stub(lambda *_: fault(400, param="seed")) as server:
        endpoint = endpoint_at(server.url)
        endpoint.probe()
        assert endpoint._left_out == []


# -- failures of one request ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (DIE, "connection lost"),
        (fault(429, "slow down"), "rate limited"),
        (fault(500), "server error"),
        (fault(503), "server error"),
        (fault(400, "too long"), "not accepted"),
        (fault(422, "no logprobs"), "not accepted"),
        (fault(400, code="content_filter"), "refused"),
        (fault(400, code="content_policy_violation"), "refused"),
        (said("x", finish_reason="content_filter"), "refused"),
        (said(None, message={"content": None, "refusal": "I will not."}), "refused"),
        (said(""), "no answer"),
        (said("half of a pair \ud83d"), "no answer"),
        (said(None, finish_reason="length"), "no answer"),
        ({"choices": []}, "no answer"),
        ({"message": "hello"}, "no answer"),
        ([1, 2], "no answer"),
        (b"<html>Welcome</html>", "no answer"),
        (b"", "no answer"),
    ],
)
def test_a_failed_request_has_a_reason(answer, reason):
    assert failure_of(answer).reason == reason


SERVERS_REASONS = [
    ({"error": {"message": "no room"}}, "no room"),
    ({"error": "no room"}, "no room"),
    ({"error": None, "detail": "no room"}, "no room"),
    ({"error": {"message": "", "code": 3, "detail": "no room"}}, "no room"),
    ({"detail": "no room"}, "no room"),
    ({"detail": [{"loc": ["body", "n"], "msg": "no room", "type": "x"}]}, "body.n: no room"),
    ({"detail": [{"msg": "one"}, {"msg": "two"}]}, "one; two"),
    ({"detail": {"error": {"message": "no room"}}}, "no room"),
    ({"object": "error", "message": "no room", "code": 40001}, "no room"),
    ({"message": "no room", "type": "invalid"}, "no room"),
    ({"type": "about:blank", "title": "no room", "status": 400}, "no room"),
    ({"errors": ["no room", "no light"]}, "no room; no light"),
    ({"status": "bad", "why": "no room"}, '"why": "no room"'),
    (["no room"], "no room"),
    (b'"no room"', "no room"),
    (b"no room", "no room"),
    (b"<html><title>502 Bad Gateway</title></html>", "502 Bad Gateway"),
]


@pytest.mark.parametrize("status", [400, 404, 422, 429, 503])
@pytest.mark.parametrize(("body", "reason"), SERVERS_REASONS)
def test_a_servers_own_reason_is_told_whatever_its_shape(body, reason, status):
    with (
        stub(lambda *_: (status, body)) as server,
        pytest.raises((EndpointFailure, UsageError)) as caught,
    ):
        endpoint_at(server.url).chat(["Hi"], max_tokens=5)
    assert f"Error code: {status} - " in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b"[]", b"[" * 10**5])
def test_an_answer_without_a_reason_tells_its_status(body):
    assert str(failure_of((400, body))).startswith("not accepted: Error code: 400")


@settings(max_examples=50, deadline=None)
@given(
    body=st.recursive(
        st.none() | st.integers() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(st.sampled_from(["error", "detail", "message", "loc", "x"]), x)
        ),
    )
)
def test_any_body_is_a_reason(body):
    assert isinstance(reason_of(json.dumps(body)), str)


@pytest.mark.parametrize(
    ("key", "said_of_it", "expected"),
    [
        ("a", "a bad parameter", "a bad parameter"),
        ("no", "no model named no", "no model named no"),
        ("test", "testing the key 'test', latest", "testing the key '***', latest"),
        ("secret12", "key=secret12&x", "key=***&x"),
        (KEY, f"%3D{KEY}x", "%3D***x"),
        ("", "as it is", "as it is"),
    ],
)
def test_a_key_is_masked_where_it_is_one(monkeypatch, key, said_of_it, expected):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    assert failure_of(fault(400, said_of_it)).detail == f"Error code: 400 - {expected}"


def test_an_answer_that_does_not_come_is_waited_for_no_longer_than_asked():
    failure = failure_of(HANG, timeout_s=0.2)
    assert str(failure) == "timed out: no answer within 0.2 s"


def test_what_may_pass_is_tried_again():
    answers = iter([fault(429), fault(500), said("At last.")])
    with stub(lambda *_: next(answers)) as server:
        assert endpoint_at(server.url, max_tries=3).chat(["Hi"], max_tokens=5).text == "At last."
    assert len(server.asked) == 3
    with stub(lambda *_: fault(429)) as server, pytest.raises(EndpointFailure):
        endpoint_at(server.url, max_tries=2).chat(["Hi"], max_tokens=5)
    assert len(server.asked) == 2


# -- what fails for all requests ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "said_of_it"),
    [
        (fault(401, f"Incorrect API key: {KEY}"), "OPENAI_API_KEY is refused"),
        (fault(403), "OPENAI_API_KEY is refused"),
        (fault(403, "Your organization must be\nverified"), "organization must be verified"),
        (fault(404, "no model m"), "knows no model 'm', or no such route"),
        (fault(400, code="model_not_found"), "knows no model 'm'"),
        (fault(429, code="insufficient_quota"), "no quota left"),
    ],
)
def test_a_refused_key_or_model_is_a_fault_of_usage(answer, said_of_it):
    with stub(lambda *_: answer) as server, pytest.raises(UsageError, match=said_of_it):
        endpoint_at(server.url).chat(["Hi"], max_tokens=5)


def test_a_key_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with stub(lambda *_: fault(401)) as server, pytest.raises(UsageError, match="JUDGE is not set"):
        endpoint_at(server.url, api_key_env="JUDGE").chat(["Hi"], max_tokens=5)


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
def test_the_key_is_in_no_message(status):
    answer = fault(status, f"key {KEY} is not\nwelcome {'x' * 1000}")
    with (
        stub(lambda *_: answer) as server,
        pytest.raises((EndpointFailure, UsageError)) as caught,
    ):
        endpoint_at(server.url).chat(["Hi"], max_tokens=5)
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://x/v1", "http://", "http://x:port/v1", "", "file:///etc"]
)
def test_an_address_is_http(url):
    with pytest.raises(UsageError, match="is no address: expected one such as http"):
        endpoint_at(url)


@pytest.mark.parametrize("url", ["http://me:pw@x/v1", "https://x/v1?api_key=pw", "https://x/v1#pw"])
def test_an_address_holds_no_secret(url):
    with pytest.raises(UsageError, match="by the environment") as caught:
        endpoint_at(url)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("values", [{"max_tries": 0}, {"timeout_s": 0}, {"key": "x"}])
def test_a_config_is_checked(values):
    with pytest.raises(ValidationError):
        EndpointConfig(base_url="http://x/v1", model="m", **values)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EnvironmentFault, match=r'pip install "uae\[endpoint\]"'):
        endpoint_at("http://x/v1")


# -- the probe ------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [{"data": []}, fault(404), fault(500), b"no JSON"])
def test_any_answer_passes_the_probe(answer):
    paths: list[str] = []
    with stub(lambda path, _: paths.append(path) or answer) as server:
        endpoint_at(server.url).probe()
    assert set(paths) == {"/v1/models"}


def test_the_probe_finds_what_cannot_work():
    with stub(lambda *_: fault(401)) as server, pytest.raises(UsageError, match="is refused"):
        endpoint_at(server.url).probe()
    with pytest.raises(UsageError, match="does not answer"):
        endpoint_at(server.url).probe()
