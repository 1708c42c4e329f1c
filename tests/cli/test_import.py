"""`uae import authors`: the checkpoint that the paper's authors released as a pair."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import SD3Transformer2DModel
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn

from tests.released import RANK, write_released
from tests.tiny_encoders import write_encoder
from uae.models.unified import UnifiedAutoEncoder
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image

SIMILARITY = ("--similarity.clip", "uae-tiny/clip", "--similarity.dinov2", "uae-tiny/dinov2")


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    return write_released(tmp_path_factory.mktemp("released") / "uae")


@pytest.fixture
def checkpoint(released, tmp_path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(released, tmp_path / "uae"))


@pytest.fixture
def import_authors(run):
    def command(folder: Path, *options: object):
        flags = ("--decoder", folder / "sd3", "--out", "pair", *SIMILARITY)
        return run("import", "authors", folder, *flags, *options)

    return command


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = {}
    for path in folder.glob("*.safetensors"):
        state |= load_file(path)
    return state


def change(folder: Path, edit) -> None:
    """Change the weights of a folder, which are one file then."""
    state = state_of(folder)
    for path in [*folder.glob("*.safetensors*")]:
        path.unlink()
    edit(state)
    save_file(state, folder / "model.safetensors")


def test_the_encoder_is_that_merged_by_hand(import_authors, released, tmp_path):
    code, out, err = import_authors(released)
    assert code == 0, err
    model = UnifiedAutoEncoder.from_pretrained("pair")
    lora, plain = state_of(released / "llm_lora"), state_of(released / "llm")
    merged = model.encoder.model.state_dict()
    num_adapted = 0
    for name, value in merged.items():
        old = name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")
        expected = plain[old]
        key = "model.base_model." + old.removesuffix(".weight")
        if f"{key}.lora_A.default.weight" in lora:
            num_adapted += 1
            down, up = (lora[f"{key}.lora_{x}.default.weight"] for x in "AB")
            expected = expected + up @ down * (64 / RANK)
        assert (value - expected).abs().max() == 0.0, name
    assert num_adapted == 21
    assert "llm_lora  42 adapter, 4 projector, 69 as in llm" in out
    assert "padding is masked here" in out


def test_projector_and_decoder_are_those_of_training(import_authors, released):
    assert import_authors(released)[0] == 0
    model = UnifiedAutoEncoder.from_pretrained("pair")
    lora = state_of(released / "llm_lora")  # it learned after that of llm
    theirs = nn.Sequential(nn.Linear(32, 96), nn.GELU(), nn.Linear(96, 24))
    name = "denoise_projector."
    theirs.load_state_dict({k[len(name) :]: v for k, v in lora.items() if k.startswith(name)})
    hidden = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(0))
    assert model.projector is not None
    with torch.no_grad():
        mask = torch.ones(1, 5, dtype=torch.bool)
        assert torch.equal(model.projector(hidden, mask).embeds, theirs(hidden))
    assert model.projector.pooled.abs().sum() > 0
    transformer = SD3Transformer2DModel.from_pretrained(released / "dit")
    merged = PeftModel.from_pretrained(transformer, str(released / "dit_lora")).merge_and_unload()
    for key, value in merged.state_dict().items():
        assert torch.equal(model.decoder.transformer.state_dict()[key], value), key


def test_the_pair_refers_captions_draws_and_is_exported(import_authors, released, run, tmp_path):
    assert import_authors(released)[0] == 0
    settings = json.loads((tmp_path / "pair/uae.json").read_text())
    assert settings["sampling"] == {"num_steps": 40, "guidance_scale": 5.0}
    assert settings["max_pixels"] == 65536
    assert settings["negative_caption"].startswith("Generate a random, low quality")
    weights = [*(tmp_path / "pair/.links").rglob("*.safetensors")]
    assert weights
    assert all(path.is_symlink() for path in weights)
    photo = tmp_path / "photo.png"
    render_image(scene_at(0, "test"), 96).save(photo)
    assert run("caption", photo, "--model", "pair")[0] == 0
    code, _, err = run("draw", "a red circle", "--model", "pair", "--out", "a.png")
    assert code == 0, err
    code, _, err = run("export", "pair", "--out", "exported")
    assert code == 0, err
    first, second = (
        UnifiedAutoEncoder.from_pretrained(x).draw(["a red circle"]) for x in ("pair", "exported")
    )
    assert torch.allclose(first, second, atol=1e-4)


def test_a_copied_pair_needs_nothing_else(import_authors, checkpoint, run, tmp_path):
    assert import_authors(checkpoint, "--copy")[0] == 0
    shutil.rmtree(checkpoint)
    assert not [path for path in (tmp_path / "pair").rglob("*") if path.is_symlink()]
    assert run("draw", "a red circle", "--model", "pair", "--out", "a.png")[0] == 0


def _drop(folder: str, key: str):
    return lambda root: change(root / folder, lambda state: state.pop(key))


def _put(folder: str, key: str, *shape: int):
    return lambda root: change(root / folder, lambda state: state.update({key: torch.ones(shape)}))


def _remove(*names: str):
    def edit(root: Path) -> None:
        for name in names:
            place = root / name
            shutil.rmtree(place) if place.is_dir() else place.unlink()

    return edit


def _more_of_a_base(root: Path) -> None:
    name = "model.base_model.model.layers.0.self_attn.q_proj.base_layer.weight"
    change(root / "llm_lora", lambda state: state[name].add_(1))


A = "model.base_model.model.layers.1.self_attn.q_proj.lora_A.default.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_remove("llm_lora", "dit"), "lacks the folders llm_lora, dit: expected those that"),
        (_remove("llm_model_preprocessor"), "lacks tokenizer_config.json: expected it in llm or"),
        (_remove("dit/config.json"), "dit/config.json cannot be read"),
        (_remove("dit_lora/adapter_config.json"), "dit_lora: its adapter_config.json cannot be"),
        (_remove("dit_lora/adapter_model.safetensors"), "dit_lora holds no weights"),
        (_remove("sd3/text_encoder"), "sd3 lacks text_encoder or text_encoder_2"),
        (_drop("llm", "model.norm.weight"), "llm lacks 1 weight (model.language_model.norm.weight"),
        (_put("llm", "model.extra", 1), "llm holds 1 weight (model.extra) that have no place"),
        (_put("llm", "visual.merger.ln_q.weight", 3), "have the shape (3,): expected (16,)"),
        (_drop("llm_lora", A), "llm_lora lacks 1 weight (model.language_model.layers.1."),
        (_put("llm_lora", A, 3, 32), "have the shape (3, 32): expected (4, 32)"),
        (_put("llm_lora", "value_head.weight", 1), "llm_lora holds 1 weight (value_head.weight)"),
        (_more_of_a_base, "llm_lora: 1 weight (model.base_model.model.layers.0.self_attn.q_proj"),
        (_drop("llm_lora", "denoise_projector.2.bias"), "lacks 1 weight (linear_2.bias)"),
        (_put("llm_lora", "denoise_projector.2.bias", 7), "have the shape (7,): expected (24,)"),
        (_put("llm_lora", "denoise_projector.4.bias", 7), "holds 1 weight (denoise_projector.4"),
        (_put("dit", "extra", 1), "dit holds 1 weight (extra)"),
        (_drop("dit", "proj_out.bias"), "dit lacks 1 weight (proj_out.bias)"),
        (
            _put("dit_lora", "base_model.model.extra.lora_A.weight", 2, 32),
            "dit_lora holds 1 weight",
        ),
    ],
)
def test_what_does_not_fit_is_one_message_and_leaves_nothing(
    import_authors, checkpoint, tmp_path, damage, message
):
    damage(checkpoint)
    code, _, err = import_authors(checkpoint)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not [path for path in tmp_path.iterdir() if "pair" in path.name]


def test_without_a_projector_there_is_no_pair(import_authors, checkpoint):
    def drop(state):
        for key in [key for key in state if "denoise_projector" in key]:
            del state[key]

    change(checkpoint / "llm_lora", drop)
    assert import_authors(checkpoint, "--json")[0] == 0  # that of llm is taken
    shutil.rmtree("pair")
    change(checkpoint / "llm", drop)
    code, _, err = import_authors(checkpoint)
    assert code == 2
    assert "llm lacks 4 weights (linear_1.bias" in err


def test_another_encoder_or_decoder_is_refused(import_authors, checkpoint, run):
    code, _, err = run(
        *("import", "authors", checkpoint, "--out", "pair", *SIMILARITY),
        *("--decoder", "uae-tiny/encoder"),
    )
    assert code == 2
    assert "does not say which pipeline the folder holds" in err
    code, _, err = run("import", "authors", checkpoint, "--out", "pair", *SIMILARITY)
    assert code == 3
    assert "--decoder stabilityai/stable-diffusion-3.5-large cannot be loaded" in err
    shutil.rmtree(checkpoint / "llm")
    write_encoder("qwen3_vl", checkpoint / "llm")
    code, _, err = import_authors(checkpoint)
    assert code == 2
    assert "llm is a 'qwen3_vl' model: expected qwen2_5_vl" in err
