"""The real `openai` client against `uae serve --api`, in processes of their own.

    python tests/integration/openai_client.py [--model uae-tiny]

Chats about an image, streams, draws, meets an error, and ends the server with Ctrl-C's signal.
"""

import argparse
import base64
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest
from PIL import Image

from uae.scenes.graph import scene_at
from uae.scenes.render import render_image

KEY = "a key of this test"
PATIENCE_S = 300
DOCUMENT = Path(__file__).parents[2] / "docs/serve.md"


@dataclass(frozen=True)
class Server:
    """A server that listens."""

    url: str
    model: str


@contextmanager
def server(model: str) -> Iterator[Server]:
    """Start a server at a free port; end it with SIGINT, and check its exit code."""
    command = [sys.executable, "-m", "uae", "serve", "--api", "--json"]
    # where this runs in the background a child would ignore SIGINT, as this process does
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [*command, "--port", "0", "--model", model],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"UAE_API_KEY": KEY},
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, f"the server ended with {process.wait()}"
        yield Server(json.loads(line)["url"], model)
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(PATIENCE_S)
        process.stdout.close()
    assert code == 128 + signal.SIGINT, f"exit code {code}"


def picture() -> tuple[Image.Image, str]:
    """Return an image, and the same as a data: URL."""
    image = render_image(scene_at(0, "test"))
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    return image, "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def check_chat(client: openai.OpenAI, model: str) -> str:
    """Ask for a caption, whole and streamed; return it."""
    [card] = client.models.list().data
    assert card.id == client.models.retrieve(model).id == model
    parts = [
        {"type": "text", "text": card.model_extra["caption_prompt"]},
        {"type": "image_url", "image_url": {"url": picture()[1]}},
    ]
    asked = {"model": model, "messages": [{"role": "user", "content": parts}], "temperature": 0}
    whole = client.chat.completions.create(**asked)
    choice, usage = whole.choices[0], whole.usage
    assert choice.finish_reason in ("stop", "length")
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    said = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(said) == choice.message.content
    assert sum(bool(text) for text in said) > 1, "it came in one piece"
    assert chunks[-1].usage == usage
    return choice.message.content


def check_drawing(client: openai.OpenAI, model: str, prompt: str) -> None:
    """Draw twice with one seed."""
    asked = {"model": model, "prompt": prompt, "n": 2, "extra_body": {"seed": 3}}
    first, again = (client.images.generate(**asked) for _ in range(2))
    assert [item.b64_json for item in first.data] == [item.b64_json for item in again.data]
    for item in first.data:
        image = Image.open(io.BytesIO(base64.b64decode(item.b64_json)))
        assert f"{image.width}x{image.height}" == first.size


def check_document(url: str, model: str) -> None:
    """Run the Python example of docs/serve.md in a folder with a photo."""
    [code] = re.findall(r"^```py\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    for old, new in (("http://127.0.0.1:8000/v1", url), ('"none"', repr(KEY)), ("uae-tiny", model)):
        assert old in code
        code = code.replace(old, new)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        picture()[0].save("photo.png")
        exec(compile(code, str(DOCUMENT), "exec"), {"__name__": "serve"})
        assert Image.open("redraw.png").size == (64, 64)


def check_errors(client: openai.OpenAI, model: str) -> None:
    """Meet a field at fault, an unknown model and a wrong key, as the client names them."""
    hello = [{"role": "user", "content": "Hello."}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=hello, top_p=0.5)
    assert caught.value.param == "top_p"
    with pytest.raises(openai.NotFoundError, match="'gpt-9' is not served"):
        client.chat.completions.create(model="gpt-9", messages=hello)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").chat.completions.create(model=model, messages=hello)


def main(model: str) -> None:
    """Run all checks against one server."""
    with server(model) as running:
        client = openai.OpenAI(base_url=running.url, api_key=KEY, max_retries=0)
        caption = check_chat(client, model)
        check_drawing(client, model, caption or "A red circle.")
        check_errors(client, model)
        check_document(running.url, model)
    sys.stdout.write(f"openai {openai.__version__}: all passed; caption: {caption!r}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="uae-tiny")
    main(parser.parse_args().model)
