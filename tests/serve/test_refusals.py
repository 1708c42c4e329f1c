"""What is refused: with the right status, by name, and in OpenAI's shape."""

import base64
import io
import json
import struct
import zlib

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from uae.serve import app as app_module
from uae.serve import request as request_module
from uae.serve.app import build_app
from uae.serve.chat_request import ChatRequest
from uae.serve.drawing import ImageRequest
from uae.serve.fields import ApiError, parse_request

CHAT = "/v1/chat/completions"
HELLO = {"model": "tiny", "messages": [{"role": "user", "content": "Hello."}], "max_tokens": 2}


def error_of(response, status: int) -> dict:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def messages(*turns: tuple[str, object]) -> dict:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def showing(url: str) -> dict:
    return messages(("user", [{"type": "image_url", "image_url": {"url": url}}]))


def data_url(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def bomb() -> bytes:
    """A PNG whose header promises 10 gigapixels."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    crc = struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + crc


def truncated() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, format="png")
    return buffer.getvalue()[:-30]


URL = "messages[0].content[0].image_url.url"


@pytest.mark.parametrize(
    ("change", "param", "said"),
    [
        ({"tools": [{"type": "function"}]}, "tools", "not supported: leave it out"),
        ({"response_format": {"type": "json_object"}}, "response_format", "json_object"),
        ({"top_logprobs": 2}, "top_logprobs", "top_logprobs 2 needs logprobs true"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "less than or equal to 20"),
        ({"logprobs": 3}, "logprobs", "3"),
        ({"top_p": 0.5}, "top_p", "or give 1"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "not supported"),
        ({"temprature": 1}, "temprature", "unknown parameter temprature"),
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"temperature": "hot"}, "temperature", "'hot'"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"n": 99}, "n", "less than or equal to"),
        ({"max_tokens": 0}, "max_tokens", "greater than 0"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "at most 4"),
        ({"stop": ""}, "stop", "at least 1"),
        ({"model": None}, "model", "model is required"),
        ({"messages": []}, "messages", "at least 1"),
        (messages(("user", "Hello. " * 2000)), "messages", "shorten the chat"),
        (messages(("user", "Hi."), ("assistant", "Ho.")), "messages", "expected one by 'user'"),
        (messages(("tool", "Hi.")), "messages[0]", "'tool'"),
        (messages(("user", [{"type": "input_audio"}])), "messages[0].content[0]", "input_audio"),
        (messages(("user", [{"type": "text"}])), "messages[0].content[0].text", "is required"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "is required"),
        (showing("https://example.org/a.png"), URL, "this server fetches nothing"),
        (showing("file:///etc/passwd"), URL, "this server fetches nothing"),
        (showing("data:image/png,abc"), URL, "expected data:image/png;base64"),
        (showing("data:image/png;base64,a*b"), URL, "no base64: it holds '*'"),
        (showing(data_url(b"hello, world, no image")), URL, "not an image"),
        (showing(data_url(b"GIF89a" + bytes(20))), URL, "unsupported format"),
        (showing(data_url(b"")), URL, "empty file"),
        (showing(data_url(truncated())), URL, "truncated"),
        (showing(data_url(bomb())), URL, "too many pixels"),
        (
            messages(("user", [{"type": "image_url", "image_url": {"url": "data:,"}}] * 17)),
            "messages",
            "17 images, at most 16",
        ),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "",
)
def test_what_cannot_be_answered_is_a_400_that_names_the_field(client, change, param, said):
    error = error_of(client.post(CHAT, json=HELLO | change), 400)
    assert error["param"] == param
    assert said in error["message"]
    assert error["type"] == "invalid_request_error"
    assert len(error["message"]) < 400, "a long value is shown whole"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[1]", b"\xff", b"[" * 100_000, b'{"n": NaN}', b'{"prompt": "half \\ud83d"}'],
)
def test_no_json_is_a_400(client, body):
    assert error_of(client.post(CHAT, content=body), 400)["code"] == "invalid_json"


def test_another_model_is_a_404(client):
    error = error_of(client.post(CHAT, json=HELLO | {"model": "gpt-9"}), 404)
    assert (error["param"], error["code"]) == ("model", "model_not_found")
    assert "'tiny' is" in error["message"]
    assert error_of(client.get("/v1/models/gpt-9"), 404)["code"] == "model_not_found"


def test_other_routes_and_methods_are_refused_in_the_same_shape(client):
    assert "/v1/embeddings" in error_of(client.post("/v1/embeddings"), 404)["message"]
    assert "GET" in error_of(client.get(CHAT), 405)["message"]


def test_what_is_served(client, model):
    assert client.get("/health").json() == {"status": "ok", "model": "tiny", "num_requests": 0}
    [card] = client.get("/v1/models").json()["data"]
    assert client.get("/v1/models/tiny").json() == card
    assert (card["id"], card["size"]) == ("tiny", "64x64")
    assert card["caption_prompt"] == model.settings.caption_prompt


def test_a_key_is_asked_for(model):
    with TestClient(build_app(model, "tiny", api_key="secret")) as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"}):
            for path in (CHAT, "/v1/images/generations"):
                error = error_of(client.post(path, content=b"{", headers=headers), 401)
                assert error["code"] == "invalid_api_key"
            error_of(client.get("/v1/models", headers=headers), 401)
        headers = {"Authorization": "Bearer secret"}
        assert client.post(CHAT, json=HELLO, headers=headers).status_code == 200
        assert client.get("/v1/models", headers=headers).status_code == 200
        assert client.get("/health").status_code == 200


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_large_body_is_a_413(client, monkeypatch, is_streamed):
    monkeypatch.setattr(request_module, "MAX_BODY_BYTES", 1000)
    pieces = [b'{"model": "tiny", ', b" " * 2000, b"}"]
    content = iter(pieces) if is_streamed else b"".join(pieces)
    assert error_of(client.post(CHAT, content=content), 413)["code"] == "body_too_large"
    assert client.post(CHAT, json=HELLO).status_code == 200


def test_a_fault_of_ours_is_a_500_that_tells_nothing(client, monkeypatch):
    def fail(*_):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(app_module, "draw_pictures", fail)
    request = {"model": "tiny", "prompt": "A red circle."}
    error = error_of(client.post("/v1/images/generations", json=request), 500)
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    assert "secret" not in error["message"]
    assert client.post(CHAT, json=HELLO).status_code == 200, "the queue is stuck"


PLAIN = [None, True, -1, 0, 1, 10**30, 1.5, "", "a", "user", "text", {}, {"type": "text"}]
ODD = st.sampled_from([*PLAIN, [], *([value] for value in PLAIN), [[]], {"role": "user"}])
MESSAGE = st.dictionaries(st.sampled_from(["role", "content", "name", "x"]), ODD, max_size=3)
VALUES = ODD | st.lists(MESSAGE, max_size=2)
NAMES = sorted({*ChatRequest.model_fields, *ChatRequest.neutral, "x", "messages"})


@settings(max_examples=100, deadline=None)
@given(fields=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3))
def test_any_json_is_read_or_refused_by_name(fields):
    for kind in (ChatRequest, ImageRequest):
        refusal = None
        try:
            parse_request(json.dumps(HELLO | fields).encode(), kind)
        except ApiError as error:
            refusal = error
        assert refusal is None or (refusal.status == 400 and refusal.param)
