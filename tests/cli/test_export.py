"""`uae export`: plain libraries load what was trained, and give what this package gives."""

import json
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusion3Pipeline, ZImagePipeline
from huggingface_hub import ModelCard
from peft import PeftConfig, PeftModel
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from tests.tiny_pipelines import make_pipeline
from uae.models.settings import resolve
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.optimizer import FineTuneConfig
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
    captioning: {num_captions: 2, max_new_tokens: 64}
decoder_rl:
    num_steps: 1
    num_images: 2
    num_redraws: 2
    micro_images: 2
    optimizer: {lr: 0.01}
    num_sampling_steps: 4
    captioning: {num_captions: 1, max_new_tokens: 64}
"""
CLOSE = {"atol": 1e-5, "rtol": 1e-6}  # float32: log-probabilities go down to -25


def train(run, tmp_path: Path, model: str, dtype: str) -> Path:
    (tmp_path / "photos").mkdir(exist_ok=True)
    for i in range(8):
        render_image(scene_at(i, "train"), 64).save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "r.yaml").write_text(RECIPE.replace("DTYPE", dtype))
    code, _, err = run("train", "--recipe", "r.yaml", "--model", model, "--out", "run")
    assert code == 0, err
    return tmp_path / "run/model"


@pytest.fixture
def pair(run, tmp_path):
    """A pair over references to models of one precision."""

    def command(dtype: torch.dtype = torch.float32) -> None:
        source = resolve("uae-tiny/encoder")
        make_pipeline("ZImagePipeline").to(dtype=dtype).save_pretrained(tmp_path / "base")
        AutoModelForImageTextToText.from_pretrained(source, dtype=dtype).save_pretrained("vlm")
        for kind in (AutoTokenizer, AutoImageProcessor):
            kind.from_pretrained(source).save_pretrained("vlm")
        flags = ("--size-px", 64, "--num-steps", 2, "--similarity.clip", "uae-tiny/clip")
        flags = (*flags, "--similarity.dinov2", "uae-tiny/dinov2", "--out", "pair")
        code, _, err = run("join", "--encoder", "vlm", "--decoder", "base", *flags)
        assert code == 0, err

    return command


def tuned(name: str, out: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> None:
    """Save a model with new adapters, of which all weights matter."""
    model = UnifiedAutoEncoder.from_pretrained(name, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    for tune in (model.tune_encoder, model.tune_decoder):
        for weight in tune(FineTuneConfig(rank=4, alpha=8), seed).parameters().values():
            weight.data.normal_(std=0.05, generator=generator)
    model.save_pretrained(out)


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


def test_a_native_pair_by_plain_libraries(pair, run, tmp_path):
    pair()
    model_folder = train(run, tmp_path, "pair", "float32")
    code, out, err = run("export", model_folder, "--out", "out")
    assert code == 0, err
    assert "hard links" in out
    model = UnifiedAutoEncoder.from_pretrained(model_folder)
    base = UnifiedAutoEncoder.from_pretrained("pair")
    theirs, ours = captions_by_transformers(tmp_path / "out/encoder", model)
    torch.testing.assert_close(theirs, ours, **CLOSE)
    _, before = captions_by_transformers(tmp_path / "out/encoder", base)
    assert (before - ours).abs().max() > 1e-3
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


def test_uae_tiny_by_plain_libraries(run, tmp_path):
    """Of weights of its own; its decoder reads the encoder's states through the projector."""
    tuned("uae-tiny", "model")
    assert run("export", "model", "--out", "out")[0] == 0
    model = UnifiedAutoEncoder.from_pretrained("model")
    theirs, ours = captions_by_transformers(tmp_path / "out/encoder", model)
    torch.testing.assert_close(theirs, ours, **CLOSE)
    absent = [f"{part}{n}" for part in ("text_encoder", "tokenizer") for n in ("", "_2", "_3")]
    pipe = StableDiffusion3Pipeline.from_pretrained("out/decoder", **dict.fromkeys(absent))
    conditions = model.condition(["a red circle"])
    noise = model.decoder.noise([torch.Generator().manual_seed(0)])
    drawn = pipe(
        prompt_embeds=conditions.embeds,
        pooled_prompt_embeds=conditions.pooled,
        latents=noise.clone(),
        height=model.decoder.size_px,
        width=model.decoder.size_px,
        num_inference_steps=6,
        guidance_scale=1.0,
        output_type="pt",
    ).images
    ours = model.draw_conditions(conditions, noise, model.settings.sampling)
    torch.testing.assert_close(drawn, ours, **CLOSE)
    again = UnifiedAutoEncoder.from_pretrained("out")
    assert torch.equal(again.draw(["a red circle"]), model.draw(["a red circle"]))


def test_merged_weights_are_rounded_once(pair, run):
    """Over bfloat16: those of the export are the rounded sums, of both adapters at once."""
    pair(torch.bfloat16)
    tuned("pair", "first", torch.bfloat16)
    tuned("first", "second", torch.bfloat16, seed=1)
    assert run("export", "second", "--out", "out")[0] == 0
    for half, base, layer in (
        ("encoder", "vlm", "model.language_model.layers.0.self_attn.q_proj"),
        ("decoder", "base/transformer", "layers.0.attention.to_q"),
    ):
        place = "out/encoder" if half == "encoder" else "out/decoder/transformer"
        before, after = weights(base), weights(place)
        assert before.keys() == after.keys()
        key = next(key for key in before if key.endswith(f"{layer.split('model.')[-1]}.weight"))
        change = 0
        for name in (f"{half}_lora", f"{half}_lora_2"):
            adapter = weights(Path("second", name))
            a, b = (adapter[f"base_model.model.{layer}.lora_{x}.weight"] for x in "AB")
            change = change + 2 * (b @ a)
        assert after[key].dtype == torch.bfloat16
        assert torch.equal(after[key], (before[key].float() + change).bfloat16())
        assert not torch.equal(after[key], before[key])


def weights(folder: str | Path) -> dict[str, torch.Tensor]:
    files = [x for x in Path(folder).glob("*.safetensors") if "pytorch_lora" not in x.name]
    return {key: value for file in files for key, value in load_file(file).items()}


def test_one_half(pair, run):
    pair()
    tuned("pair", "model")
    for half in ("encoder", "decoder"):
        assert run("export", "model", "--out", half, f"--{half}")[0] == 0
        names = {path.name for path in Path(half).iterdir()}
        assert names == {half, "README.md"}
    DiffusionPipeline.from_pretrained("decoder/decoder")


def test_what_the_encoder_sees_is_bounded_in_plain_transformers(run, tmp_path):
    make_pipeline("ZImagePipeline").save_pretrained(tmp_path / "base")
    flags = ("--size-px", 64, "--max-pixels", 3136, "--similarity.clip", "uae-tiny/clip")
    code, _, err = run(
        "join", "--encoder", "uae-tiny/encoder", "--decoder", "base", "--out", "pair", *flags
    )
    assert code == 0, err
    assert run("export", "pair", "--out", "out", "--encoder")[0] == 0
    image = render_image(scene_at(0, "test"), 128)
    sizes = []
    for folder in (resolve("uae-tiny/encoder"), "out/encoder"):
        processor = AutoImageProcessor.from_pretrained(folder)
        sizes.append(int(processor([image], return_tensors="pt")["image_grid_thw"].prod()))
    patch = processor.patch_size
    assert sizes[1] * patch**2 <= 3136 < sizes[0] * patch**2


def test_adapters_alone_by_peft_and_diffusers(pair, run, tmp_path):
    pair()
    tuned("pair", "model")
    assert run("export", "model", "--out", "out", "--adapters")[0] == 0
    model = UnifiedAutoEncoder.from_pretrained("model")
    config = PeftConfig.from_pretrained("out/encoder_lora")
    assert config.base_model_name_or_path == str(tmp_path / "vlm")
    base = AutoModelForImageTextToText.from_pretrained(config.base_model_name_or_path)
    merged = PeftModel.from_pretrained(base, "out/encoder_lora").merge_and_unload()
    ours = dict(model.encoder.model.named_parameters())
    for name, value in merged.named_parameters():
        torch.testing.assert_close(value, ours[name], **CLOSE)
    pipe = ZImagePipeline.from_pretrained("base")
    pipe.load_lora_weights("out/decoder_lora", weight_name="pytorch_lora_weights.safetensors")
    pipe.fuse_lora()
    key = "layers.0.attention.to_q"
    theirs = pipe.transformer.get_submodule(key).weight
    torch.testing.assert_close(theirs, model.decoder.transformer.get_submodule(key).weight, **CLOSE)
    again = UnifiedAutoEncoder.from_pretrained("out")  # both bases lie elsewhere
    assert torch.equal(again.draw(["a red circle"]), model.draw(["a red circle"]))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (("photos", "--out", "out"), "no uae.json in photos"),
        (("uae-tiny", "--out", "."), "--out . exists already"),
        (("uae-tiny", "--out", "out", "--adapters"), "it has no adapters of encoder or decoder"),
        (("uae-tiny", "--out", "out", "--push-to", "a/b/c"), "--push-to a/b/c: Repo id must"),
        (("uae-tiny", "--out", "out", "--push-to", "me/it"), "log in first, by `hf auth login`"),
        (
            ("uae-tiny", "--out", "out", "--adapters", "--push-to", "me/it"),
            "--push-to me/it: the base of its encoder lies in the model's folder",
        ),
    ],
)
def test_what_cannot_be_exported_is_refused_at_once(run, tmp_path, monkeypatch, tokens, message):
    monkeypatch.setattr("huggingface_hub.utils._auth._get_token_from_file", lambda: None)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (tmp_path / "photos").mkdir()
    code, _, err = run("export", *tokens)
    assert code == 2
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_base_that_is_gone_is_named_and_leaves_nothing(pair, run, tmp_path):
    pair()
    tuned("pair", "model")
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    code, _, err = run("export", "model", "--out", "out")
    assert code == 2
    assert "its decoder" in err
    assert "is not there: put it back" in err
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


class Hub:
    """Stands for `HfApi`: keeps what is uploaded, or fails."""

    uploads: ClassVar[dict[str, list[str]]] = {}
    repositories: ClassVar[dict[str, bool]] = {}
    fails = False

    def whoami(self) -> dict[str, str]:
        return {"name": "me"}

    def create_repo(self, repo_id: str, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        self.repositories[repo_id] = private

    def upload_folder(self, repo_id: str, folder_path: Path) -> str:
        if self.fails:
            raise ConnectionError("connection reset")
        files = sorted(x.relative_to(folder_path).as_posix() for x in folder_path.rglob("*.*"))
        self.uploads[repo_id] = files
        return f"https://huggingface.co/{repo_id}"


def test_a_model_is_pushed_with_its_card(run, tmp_path, monkeypatch):
    monkeypatch.setattr("uae.models.card.HfApi", Hub)
    code, out, err = run("export", "uae-tiny", "--out", "out", "--push-to", "me/it", "--json")
    assert code == 0, err
    assert json.loads(out)["url"] == "https://huggingface.co/me/it"
    assert Hub.repositories == {"me/it": True}
    assert {"README.md", "uae.json", "encoder/config.json"} <= {*Hub.uploads["me/it"]}
    card = ModelCard.load("out/README.md")
    assert card.data.to_dict() == {
        "library_name": "uae",
        "license": "unknown",
        "tags": ["uae", "encoder", "decoder"],
    }
    monkeypatch.setattr(Hub, "fails", True)
    code, _, err = run("export", "uae-tiny", "--out", "out2", "--push-to", "me/it")
    assert code == 3
    assert "`hf upload me/it out2` goes on" in err
    assert (tmp_path / "out2/decoder/model_index.json").is_file()
