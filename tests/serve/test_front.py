"""Other spellings of a request, and pages of other origins."""

import pytest
from fastapi.testclient import TestClient

from uae.serve import app as app_module
from uae.serve.app import build_app

CHAT = "/v1/chat/completions"
HELLO = {"model": "tiny", "messages": [{"role": "user", "content": "Hello."}], "max_tokens": 2}
PAGE = "http://localhost:3000"
ALLOWED = "access-control-allow-origin"


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/v1/models/tiny"])
def test_a_slash_at_the_end_says_nothing_and_head_is_answered(client, path):
    plain = client.get(path)
    assert plain.status_code == 200
    for other in (path, f"{path}/"):
        assert client.get(other).content == plain.content
        head = client.head(other)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == plain.headers["content-type"]
        assert head.headers["content-length"] == plain.headers["content-length"]


def test_so_it_is_for_what_is_posted_and_for_what_is_not_there(client):
    response = client.post(f"{CHAT}/", json=HELLO, follow_redirects=False)
    assert response.status_code == 200
    drawn = {"model": "tiny", "prompt": "A red circle."}
    assert client.post("/v1/images/generations//", json=drawn).status_code == 200
    assert client.head(CHAT).status_code == 405
    assert client.head("/v1/nothing").status_code == 404
    assert client.get("/").status_code == 404


@pytest.mark.parametrize("name", ["runs/demo/model", "runs/demo/model/", "/data/model"])
def test_a_model_that_is_a_folder_is_found_with_and_without_a_slash(model, name):
    with TestClient(build_app(model, name)) as client:
        for spelling in (name.rstrip("/"), name.rstrip("/") + "/"):
            assert client.get(f"/v1/models/{spelling}").json()["id"] == name
            response = client.post(CHAT, json=HELLO | {"model": spelling})
            assert response.status_code == 200


def test_a_key_is_asked_of_head_too(model):
    with TestClient(build_app(model, "tiny", api_key="secret")) as client:
        assert client.head("/health").status_code == 200
        assert client.head("/v1/models/").status_code == 401


def preflight(client: TestClient, origin: str):
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    headers = {"Access-Control-Request-Headers": "authorization, content-type, x-stainless-os"}
    return client.options(CHAT, headers=asked | headers)


def test_by_default_no_page_may_ask(client):
    assert preflight(client, PAGE).status_code == 405
    assert ALLOWED not in client.get("/health", headers={"Origin": PAGE}).headers


def test_a_page_may_ask_whose_origin_is_given(model, monkeypatch):
    app = build_app(model, "tiny", api_key="secret", cors_origins=[PAGE, "https://example.org"])
    key = {"Authorization": "Bearer secret", "Origin": PAGE}
    with TestClient(app, raise_server_exceptions=False) as client:
        asked = preflight(client, PAGE)
        assert (asked.status_code, asked.headers[ALLOWED]) == (200, PAGE)
        assert "authorization" in asked.headers["access-control-allow-headers"]
        assert ALLOWED not in preflight(client, "http://evil.example").headers
        for stream in (False, True):
            answer = client.post(CHAT, json=HELLO | {"stream": stream}, headers=key)
            assert (answer.status_code, answer.headers[ALLOWED]) == (200, PAGE)
        refused = client.post(CHAT, json=HELLO, headers={"Origin": PAGE})
        assert (refused.status_code, refused.headers[ALLOWED]) == (401, PAGE)
        monkeypatch.setattr(app_module, "prepare_chat", None)
        failed = client.post(CHAT, json=HELLO, headers=key)
        assert (failed.status_code, failed.headers[ALLOWED]) == (500, PAGE)


def test_any_page_may_ask_where_the_star_is_given(model):
    with TestClient(build_app(model, "tiny", cors_origins=["*"])) as client:
        assert preflight(client, "null").headers[ALLOWED] == "*"
        assert client.get("/health", headers={"Origin": PAGE}).headers[ALLOWED] == "*"
