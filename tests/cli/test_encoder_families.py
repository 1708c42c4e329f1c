"""Every encoder family from the user's side: joined, captioning, drawn from, trained, exported."""

import json
from unittest import mock

import pytest
import torch
from transformers import AutoModelForImageTextToText

from tests.tiny_encoders import ENCODERS, write_encoder
from tests.tiny_pipelines import make_pipeline
from uae.core.metrics_file import METRICS, read_metrics
from uae.models.unified import UnifiedAutoEncoder
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image

CLOSE = {"atol": 1e-5, "rtol": 1e-6}
SIMILARITY = ("--similarity.clip", "uae-tiny/clip", "--similarity.dinov2", "uae-tiny/dinov2")
RECIPE = """
gate: 'off'
data: {folder: photos, held_out_share: 0.3}
evaluation: {num_images: 2}
placement: {checkpointing: true}
pretrain: PRETRAIN
cold_start: COLD_START
encoder_rl:
    num_steps: 1
    num_images: 2
    micro_images: 1
    num_redraws: 2
    optimizer: {lr: 0.01}
    sampling: {num_steps: 2}
    captioning: {num_captions: 2, max_new_tokens: 24}
decoder_rl:
    num_steps: 1
    num_images: 2
    micro_images: 2
    num_redraws: 2
    num_sampling_steps: 4
    captioning: {num_captions: 1, max_new_tokens: 24}
"""
SUPERVISED = {
    "PRETRAIN": "{num_steps: 1, batch_size: 2, micro_batch: 2}",
    "COLD_START": "{num_steps: 1, batch_size: 2, micro_batch: 2, sampling: {num_steps: 2}, "
    "captioning: {max_new_tokens: 24}}",
}


@pytest.fixture
def place(tmp_path, run):
    """Photos, an encoder and a decoder, joined to `pair`."""

    def command(encoder: str, condition: str, *flags: object) -> tuple[int, str, str]:
        if not (tmp_path / "vlm").exists():
            path = write_encoder(encoder, tmp_path / "vlm") / "generation_config.json"
            # so many tokens end a caption that those of random weights do end
            ends = {"eos_token_id": [*range(40, 100)]}
            path.write_text(json.dumps(json.loads(path.read_text()) | ends))
        pipeline = "StableDiffusion3Pipeline" if condition == "projector" else "ZImagePipeline"
        make_pipeline(pipeline).save_pretrained(tmp_path / "base")
        (tmp_path / "photos").mkdir(exist_ok=True)
        for i in range(8):
            scene = render_image(scene_at(i, "train"), 64)
            scene.crop((0, 0, 64, 40 + 3 * i)).save(tmp_path / "photos" / f"{i}.png")
        flags = (*flags, "--condition", condition, "--size-px", 64, "--num-steps", 2)
        flags = (*flags, "--max-new-tokens", 12, *SIMILARITY, "--out", "pair")
        return run("join", "--encoder", "vlm", "--decoder", "base", *flags)

    return command


def recipe(condition: str) -> str:
    text = RECIPE
    for stage, steps in SUPERVISED.items():
        text = text.replace(stage, steps if condition == "projector" else "{num_steps: 0}")
    return text


CASES = [
    pytest.param(name, condition, marks=[] if name == "internvl" else pytest.mark.slow)
    for name in ENCODERS
    for condition in ("native", "projector")
]
"""Of all, one family that takes no longer than a short test may."""


@pytest.mark.parametrize(("name", "condition"), CASES)
def test_a_family_from_joining_to_export(name, condition, place, run, tmp_path):
    code, _, err = place(name, condition)
    assert code == 0, err
    code, _, err = run("caption", "photos", "--model", "pair", "--out", "captions.jsonl")
    assert code == 0, err
    code, _, err = run("draw", "a red circle", "--model", "pair", "--out", "a.png")
    assert code == 0, err
    (tmp_path / "r.yaml").write_text(recipe(condition))
    train = ("train", "--recipe", "r.yaml", "--model", "pair", "--out", "run")
    with mock.patch("uae.train.decoder_rl.train", side_effect=KeyboardInterrupt):
        assert run(*train)[0] == 130
    code, _, err = run(*train)
    assert code == 0, err
    stages = ["pretrain", "cold_start"] if condition == "projector" else []
    rows = read_metrics(tmp_path / "run" / METRICS)
    steps = [row["stage"] for row in rows if row["stage"] != "evaluation"]
    assert steps == [*stages, "encoder_rl", "decoder_rl"]
    code, _, err = run("export", "run/model", "--out", "out")
    assert code == 0, err
    models = {name: UnifiedAutoEncoder.from_pretrained(name) for name in ("run/model", "out")}
    trained, exported = models.values()
    prompts = trained.encoder.prompts([render_image(scene_at(0, "test"), 64)])
    base = UnifiedAutoEncoder.from_pretrained("pair")
    log_p, out, before = (
        model.encoder.next_log_probs(prompts).clamp(min=-100) for model in (trained, exported, base)
    )
    torch.testing.assert_close(out, log_p, **CLOSE)
    assert (before - log_p).abs().max() > 1e-4
    drawn = [model.draw(["a red circle"]) for model in models.values()]
    torch.testing.assert_close(*drawn, **CLOSE)
    plain = AutoModelForImageTextToText.from_pretrained("out/encoder")
    assert type(plain) is type(trained.encoder.model)


def test_a_captioner_draws_and_trains_the_decoder(place, run, tmp_path):
    """It stays as it is; what would train it is refused before anything is made."""
    code, _, err = place("llava", "projector")
    assert code == 2
    assert "is a 'llava' model, which writes captions here and no more: with condition" in err
    code, _, err = place("llava", "native", "--max-pixels", 4096)
    assert code == 2
    assert "max_pixels = 4096: a 'llava' model sees images at sizes of its own" in err
    code, _, err = place("llava", "native")
    assert code == 0, err
    (tmp_path / "r.yaml").write_text(recipe("native"))
    train = ("train", "--recipe", "r.yaml", "--model", "pair", "--out", "run")
    code, _, err = run(*train)
    assert code == 2
    assert "encoder_rl trains the encoder, and " in err
    assert "expected schedule: decoder, or an encoder of qwen2_5_vl, " in err
    assert not (tmp_path / "run").exists()
    code, _, err = run(*train, "--schedule", "decoder")
    assert code == 0, err
    code, _, err = run("caption", "photos", "--model", "run/model", "--out", "captions.jsonl")
    assert code == 0, err
    flags = ("--captioner", "uae:run/model", "--generator", "uae:run/model", "--out", "bench")
    code, _, err = run("eval", "unified-bench", "photos", *flags)
    assert code == 0, err
    code, _, err = run("export", "run/model", "--out", "out")
    assert code == 0, err
    assert AutoModelForImageTextToText.from_pretrained("out/encoder")
