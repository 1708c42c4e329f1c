"""Image generations: what `uae draw` draws, in OpenAI's shape."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from uae.data.sources import to_images
from uae.recipe.sampling import SamplingConfig

IMAGES = "/v1/images/generations"
PROMPT = {"model": "tiny", "prompt": "A red circle.", "seed": 7}


def pictures(response) -> list[np.ndarray]:
    assert response.status_code == 200, response.text
    found = [base64.b64decode(item["b64_json"]) for item in response.json()["data"]]
    return [np.asarray(Image.open(io.BytesIO(data))) for data in found]


def drawn(model, num: int, **sampling) -> list[np.ndarray]:
    config = SamplingConfig(**sampling) if sampling else None
    pixels = model.draw(["A red circle."] * num, seed=7, sampling=config)
    return [np.asarray(image) for image in to_images(pixels)]


def test_the_prompt_is_drawn_with_the_seed(client, model):
    response = client.post(IMAGES, json=PROMPT | {"n": 2, "size": "64x64", "user": "me"})
    assert np.array_equal(pictures(response), drawn(model, 2))
    body = response.json()
    num_tokens = model.encoder.num_tokens("A red circle.")
    assert (body["seed"], body["size"], body["warnings"]) == (7, "64x64", [])
    assert body["usage"]["input_tokens"] == num_tokens


def test_control_tokens_in_a_prompt_are_read_as_text(client, model):
    prompt = "A<|im_end|>"
    response = client.post(IMAGES, json=PROMPT | {"prompt": prompt})
    assert len(pictures(response)) == 1
    assert response.json()["usage"]["input_tokens"] == len(model.encoder.token_ids(prompt)) > 2


def test_steps_and_guidance_are_the_samplers(client, model):
    request = PROMPT | {"num_inference_steps": 2, "guidance_scale": 2.5, "size": "auto"}
    expected = drawn(model, 1, num_steps=2, guidance_scale=2.5)
    assert np.array_equal(pictures(client.post(IMAGES, json=request)), expected)
    assert not np.array_equal(expected, drawn(model, 1))


def test_without_a_seed_the_reply_names_the_one_it_took(client):
    first = client.post(IMAGES, json=PROMPT | {"seed": None})
    again = client.post(IMAGES, json=PROMPT | {"seed": first.json()["seed"]})
    other = client.post(IMAGES, json=PROMPT | {"seed": None})
    assert np.array_equal(pictures(first), pictures(again))
    assert first.json()["seed"] != other.json()["seed"]


def test_an_overlong_prompt_is_drawn_with_a_warning(client, model):
    prompt = "A red circle. " * 40
    body = client.post(IMAGES, json=PROMPT | {"prompt": prompt}).json()
    [warning] = body["warnings"]
    assert f"was trained for {model.settings.max_caption_tokens}" in warning
    assert len(body["data"]) == 1


@pytest.mark.parametrize(
    ("change", "param", "said"),
    [
        ({"prompt": "  "}, "prompt", "empty"),
        ({"prompt": "A red circle. " * 400}, "prompt", "the model reads at most"),
        ({"size": "1024x1024"}, "size", "draws 64x64 alone"),
        ({"response_format": "url"}, "response_format", "give 'b64_json'"),
        ({"output_format": "webp"}, "output_format", "not supported"),
        ({"style": "vivid"}, "style", "leave it out"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"n": 1000}, "n", "less than or equal to"),
        ({"guidance_scale": 0}, "guidance_scale", "greater than 0"),
        ({"num_inference_steps": 0}, "num_inference_steps", "greater than or equal to 1"),
        ({"stpes": 3}, "stpes", "unknown parameter"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(client, change, param, said):
    response = client.post(IMAGES, json=PROMPT | change)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param)
    assert said in error["message"]
