"""`uae export`: plain libraries load what was trained, and give what this package gives."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusion3Pipeline, ZImagePipeline
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from tests.tiny_pipelines import make_pipeline
from uae.models.settings import resolve
from uae.models.unified import UnifiedAutoEncoder
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image

RECIPE = """
data: {folder: photos, held_out_share: 0.3}
evaluation: {num_images: 2}
placement: {frozen: DTYPE}
encoder_rl:
    num_steps: 1
    num_images: 2
    num_redraws: 2
    micro_images: 2
    optimizer: {lr: 0.01}
    sampling: {num_steps: 2}
    captioning: {num_captions: 2, max_new_tokens: 8}
decoder_rl:
    num_steps: 1
    num_images: 2
    num_redraws: 2
    micro_images: 2
    optimizer: {lr: 0.01}
    num_sampling_steps: 4
    captioning: {num_captions: 1, max_new_tokens: 8}
"""
CLOSE = {"atol": 1e-5, "rtol": 0}  # of float32; a caption's logits are about 10


def train(run, tmp_path: Path, model: str, dtype: str) -> Path:
    (tmp_path / "photos").mkdir(exist_ok=True)
    for i in range(8):
        render_image(scene_at(i, "train"), 64).save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "r.yaml").write_text(RECIPE.replace("DTYPE", dtype))
    code, _, err = run("train", "--recipe", "r.yaml", "--model", model, "--out", "run")
    assert code == 0, err
    return tmp_path / "run/model"


@pytest.fixture
def trained(run, tmp_path):
    """A pair over references to float32 models, both halves trained for a step."""

    def command(dtype: str = "float32", name: str = "ZImagePipeline", condition: str = "native"):
        torch_dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
        make_pipeline(name).to(dtype=torch_dtype).save_pretrained(tmp_path / "base")
        encoder = AutoModelForImageTextToText.from_pretrained(
            resolve("uae-tiny/encoder"), dtype=torch_dtype
        )
        encoder.save_pretrained(tmp_path / "vlm")
        for kind in (AutoTokenizer, AutoImageProcessor):
            kind.from_pretrained(resolve("uae-tiny/encoder")).save_pretrained(tmp_path / "vlm")
        flags = ("--size-px", 64, "--num-steps", 2, "--condition", condition)
        similarity = ("--similarity.clip", "uae-tiny/clip", "--similarity.dinov2", "uae-tiny/dinov2")
        code, _, err = run(
            "join", "--encoder", "vlm", "--decoder", "base", "--out", "pair", *flags, *similarity
        )
        assert code == 0, err
        return train(run, tmp_path, "pair", dtype)

    return command


def captions_by_transformers(folder: Path, model: UnifiedAutoEncoder):
    """Return logits of a prompt with an image by plain transformers, and by our encoder."""
    plain = AutoModelForImageTextToText.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = AutoImageProcessor.from_pretrained(folder)
    image = render_image(scene_at(0, "test"), 64)
    content = [{"type": "text", "text": model.encoder.caption_prompt}, {"type": "image"}]
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    pixels = processor([image], return_tensors="pt")
    pad = tokenizer.convert_ids_to_tokens(plain.config.image_token_id)
    num = int(pixels["image_grid_thw"].prod()) // plain.config.vision_config.spatial_merge_size**2
    tokens = tokenizer(chat.replace(pad, pad * num), add_special_tokens=False, return_tensors="pt")
    tokens["mm_token_type_ids"] = (tokens["input_ids"] == plain.config.image_token_id).int()
    with torch.no_grad():
        theirs = plain(**tokens, **pixels).logits[:, -1].float().log_softmax(-1)
    ours = model.encoder.next_log_probs(model.encoder.prompts([image]))
    said = ours[0] > -1e4  # control tokens are never said here
    return theirs[0][said].log_softmax(-1), ours[0][said].log_softmax(-1)


def test_a_native_pair_by_plain_libraries(trained, run, tmp_path):
    model_folder = trained()
    code, out, err = run("export", model_folder, "--out", "out")
    assert code == 0, err
    assert "hard links" in out
    model = UnifiedAutoEncoder.from_pretrained(model_folder)
    base = UnifiedAutoEncoder.from_pretrained("pair")
    torch.testing.assert_close(*captions_by_transformers(tmp_path / "out/encoder", model), **CLOSE)
    pipe = ZImagePipeline.from_pretrained("out/decoder")
    noise = model.decoder.noise([torch.Generator().manual_seed(0)])
    drawn = pipe(
        "a red circle",
        latents=noise.clone(),
        height=64,
        width=64,
        num_inference_steps=2,
        guidance_scale=0.0,
        output_type="pt",
    ).images
    sampling = model.settings.sampling
    ours = model.draw_conditions(model.condition(["a red circle"]), noise, sampling)
    torch.testing.assert_close(drawn, ours, **CLOSE)
    untrained = base.draw_conditions(base.condition(["a red circle"]), noise, sampling)
    assert (untrained - ours).abs().max() > 1e-4
    again = UnifiedAutoEncoder.from_pretrained("out")
    assert torch.equal(again.draw(["a red circle"]), model.draw(["a red circle"]))
    card = Path("out/README.md").read_text()
    assert card.startswith("---\n")
    assert "license: unknown" in card
    assert "| `reconstruction/held_out` |" in card
