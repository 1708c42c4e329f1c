"""Every encoder family from the user's side: joined, captioning, drawn from, trained, exported."""

import pytest
import torch
from transformers import AutoModelForImageTextToText

from tests.tiny_encoders import ENCODERS, write_encoder
from tests.tiny_pipelines import make_pipeline
from uae.models.unified import UnifiedAutoEncoder
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image

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
    captioning: {num_captions: 2, max_new_tokens: 12}
decoder_rl:
    num_steps: 1
    num_images: 2
    micro_images: 2
    num_redraws: 2
    num_sampling_steps: 4
    captioning: {num_captions: 1, max_new_tokens: 12}
"""
SUPERVISED = {
    "PRETRAIN": "{num_steps: 1, batch_size: 2, micro_batch: 2}",
    "COLD_START": "{num_steps: 1, batch_size: 2, micro_batch: 2, sampling: {num_steps: 2}, "
    "captioning: {max_new_tokens: 12}}",
}


@pytest.fixture
def place(tmp_path, run):
    """Photos, an encoder and a decoder, joined to `pair`."""

    def command(encoder: str, condition: str, *flags: object) -> tuple[int, str, str]:
        write_encoder(encoder, tmp_path / "vlm")
        pipeline = "StableDiffusion3Pipeline" if condition == "projector" else "ZImagePipeline"
        make_pipeline(pipeline).save_pretrained(tmp_path / "base")
        (tmp_path / "photos").mkdir()
        for i in range(8):
            scene = render_image(scene_at(i, "train"), 64)
            scene.crop((0, 0, 64, 40 + 3 * i)).save(tmp_path / "photos" / f"{i}.png")
            (tmp_path / "photos" / f"{i}.txt").write_text("a red circle")
        flags = (*flags, "--condition", condition, "--size-px", 64, "--num-steps", 2)
        flags = (*flags, "--max-new-tokens", 12, *SIMILARITY, "--out", "pair")
        return run("join", "--encoder", "vlm", "--decoder", "base", *flags)

    return command


@pytest.mark.parametrize("condition", ["native", "projector"])
@pytest.mark.parametrize("name", ENCODERS)
def test_a_family_from_joining_to_export(name, condition, place, run, tmp_path):
    code, _, err = place(name, condition)
    assert code == 0, err
    code, _, err = run("caption", "photos", "--model", "pair", "--temperature", 0, "--json")
    assert code == 0, err
    code, _, err = run("draw", "a red circle", "--model", "pair", "--out", "a.png")
    assert code == 0, err
    stages = SUPERVISED if condition == "projector" else dict.fromkeys(SUPERVISED, "{num_steps: 0}")
    recipe = RECIPE
    for stage, steps in stages.items():
        recipe = recipe.replace(stage, steps)
    (tmp_path / "r.yaml").write_text(recipe)
    code, _, err = run("train", "--recipe", "r.yaml", "--model", "pair", "--out", "run")
    assert code == 0, err
    code, _, err = run("train", "--recipe", "r.yaml", "--model", "pair", "--out", "run", "--resume")
    assert code == 0, err
    code, _, err = run("export", "run/model", "--out", "out")
    assert code == 0, err
    model = UnifiedAutoEncoder.from_pretrained("run/model")
    plain = AutoModelForImageTextToText.from_pretrained("out/encoder").eval()
    again = UnifiedAutoEncoder.from_pretrained("out")
    prompts = model.encoder.prompts([render_image(scene_at(0, "test"), 64)])
    log_p = model.encoder.next_log_probs(prompts)
    torch.testing.assert_close(again.encoder.next_log_probs(prompts), log_p, atol=1e-5, rtol=1e-6)
    before = UnifiedAutoEncoder.from_pretrained("pair").encoder.next_log_probs(prompts)
    assert (before - log_p).abs().max() > 1e-4
    assert type(plain) is type(model.encoder.model)
