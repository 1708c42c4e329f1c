"""A server of the random model in this process, and what requests are made of."""

import base64
import io
from typing import Any

import pytest
from fastapi.testclient import TestClient

from uae.models.unified import UnifiedAutoEncoder
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image
from uae.serve.app import build_app


@pytest.fixture(scope="session")
def model(random_model_folder) -> UnifiedAutoEncoder:
    return UnifiedAutoEncoder.from_pretrained(random_model_folder)


@pytest.fixture(scope="session")
def client(model):
    with TestClient(build_app(model, "tiny"), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="session")
def image():
    return render_image(scene_at(0, "train"))


@pytest.fixture(scope="session")
def data_url(image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture(scope="session")
def question(data_url) -> dict[str, Any]:
    """A request about an image, most probable words."""
    parts = [
        {"type": "image_url", "image_url": {"url": data_url}},
        {"type": "text", "text": "Which?"},
    ]
    return {
        "model": "tiny",
        "messages": [{"role": "user", "content": parts}],
        "max_tokens": 6,
        "temperature": 0,
    }
