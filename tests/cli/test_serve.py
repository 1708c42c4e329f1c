"""`uae serve`: what cannot work ends before a model is loaded."""

import importlib.util
import json
import logging
import socket

import pytest

from uae.backends import own as loop
from uae.cli import serve
from uae.cli.output import Talk
from uae.recipe.keys import recipe_keys
from uae.recipe.loading import read_environment


@pytest.fixture(autouse=True)
def _no_model(monkeypatch):
    def load(*_):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(loop, "load", load)


@pytest.mark.parametrize(
    ("tokens", "key", "said"),
    [
        ((), None, "expected --api"),
        (("--api", "--host", "0.0.0.0"), None, "others can reach this address: set UAE_API_KEY"),
        (("--api",), " ", "UAE_API_KEY is empty"),
        (("--api", "--host", "no such host"), None, "--host no such host"),
        (("--api", "--host", "192.0.2.1", "--port", "0"), "k", "cannot assign requested address"),
        (("--api", "--port", "70000"), None, "--port"),
        (("--api", "--cors-origin", "localhost:3000"), None, "expected the origin of a page"),
        (
            ("--api", "--cors-origin", "http://a", "--cors-origin", "http://b/c"),
            None,
            "'http://b/c'",
        ),
        (("--api", "--cors-origin", "http://me@a"), None, "--cors-origin 'http://me@a'"),
        (("--api", "--cors-origin", ""), None, "--cors-origin ''"),
    ],
)
def test_what_cannot_work_ends_with_2(run, monkeypatch, tokens, key, said):
    if key is not None:
        monkeypatch.setenv("UAE_API_KEY", key)
    code, out, err = run("serve", *tokens)
    assert (code, out) == (2, "")
    assert said in " ".join(err.replace("│", " ").split())


def test_a_port_that_is_taken(run):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, out, err = run("serve", "--api", "--port", port)
    assert (code, out) == (2, "")
    assert f"--port {port}: address already in use: choose another" in err


def test_a_missing_extra_says_what_to_install(run, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name)
    )
    code, out, err = run("serve", "--api")
    assert (code, out) == (3, "")
    assert 'uvicorn is not installed: pip install "uae[serve]"' in err


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_the_address_is_announced_with_a_line_to_try(caplog, capsys, host, shown):
    caplog.set_level(logging.INFO, "uae")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serve._announce(listener, host, "it's", True, Talk(json=True))
        url = f"http://{shown}:{listener.getsockname()[1]}/v1"
    said = json.loads(capsys.readouterr().out)
    assert said == {"url": url, "model": "it's", "needs_key": True}
    assert f"serving it's at {url}" in caplog.text
    assert (
        f'curl {url}/images/generations -H "Authorization: Bearer $UAE_API_KEY" -d' in caplog.text
    )


def test_the_key_is_no_variable_of_recipes():
    assert read_environment({"UAE_API_KEY": "k"}, recipe_keys()) == []
