"""`uae join`: a pair of two models, used and trained like any model."""

import json
import shutil
from pathlib import Path
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file

from tests.tiny_pipelines import make_pipeline
from uae.backends.uae import encoder_stamp
from uae.core.errors import UsageError
from uae.models.dit.table import FAMILIES
from uae.models.settings import read_settings, resolve
from uae.models.unified import UnifiedAutoEncoder
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image

SIMILARITY = ("--similarity.clip", "uae-tiny/clip", "--similarity.dinov2", "uae-tiny/dinov2")
RECIPE = """
data: {folder: photos, held_out_share: 0.3}
evaluation: {num_images: 2}
placement: {frozen: bfloat16, checkpointing: true}
encoder_rl:
    num_steps: 1
    num_images: 2
    micro_images: 2
    num_redraws: 2
    sampling: {num_steps: 2}
    captioning: {num_captions: 2, max_new_tokens: 8}
decoder_rl:
    num_steps: 1
    num_images: 2
    micro_images: 2
    num_redraws: 2
    num_sampling_steps: 4
    captioning: {num_captions: 1, max_new_tokens: 8}
"""


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pipelines")
    for name in ("ZImagePipeline", "LongCatImagePipeline", "StableDiffusion3Pipeline"):
        make_pipeline(name).save_pretrained(folder / name)
    return folder


@pytest.fixture
def join(run, pipelines, tmp_path):
    """Join uae-tiny's encoder and a tiny pipeline to `pair`."""

    def command(name: str, *options: object, **changed: object):
        flags = {
            "encoder": "uae-tiny/encoder",
            "decoder": pipelines / name,
            "out": tmp_path / "pair",
            "size-px": 64,
            "num-steps": 2,
            **changed,
        }
        given = [token for flag, value in flags.items() for token in (f"--{flag}", value)]
        return run("join", *given, *SIMILARITY, *options)

    return command


def test_a_pair_refers_to_its_models_and_draws(join, run, tmp_path):
    code, out, _ = join("ZImagePipeline", out="my pair")
    assert code == 0
    assert "uae reconstruct IMAGE --model 'my pair', uae train --model 'my pair' --data" in out
    assert [path.name for path in (tmp_path / "my pair").iterdir()] == ["uae.json"]
    code, _, err = run("draw", "a red circle", "--model", "my pair", "--out", "a.png")
    assert code == 0, err
    photo = tmp_path / "photo.png"
    render_image(scene_at(0, "test"), 96).save(photo)
    assert run("caption", photo, "--model", "my pair")[0] == 0


def test_a_pair_that_was_copied_needs_nothing_else(join, run, tmp_path, pipelines):
    assert join("ZImagePipeline", "--copy", "--json")[0] == 0
    assert read_settings(tmp_path / "pair").parts == {}
    assert (tmp_path / "pair" / "decoder" / "text_encoder" / "config.json").is_file()
    assert run("draw", "a red circle", "--model", "pair", "--out", "a.png")[0] == 0


@pytest.mark.parametrize("name", ["ZImagePipeline", "StableDiffusion3Pipeline"])
def test_a_projector_is_made_to_measure(join, tmp_path, name):
    assert join(name, "--condition", "projector")[0] == 0
    model = UnifiedAutoEncoder.from_pretrained(tmp_path / "pair")
    with torch.no_grad():
        assert (
            model.condition(["a red circle"]).embeds.shape[-1]
            == model.projector.linear_2.bias.numel()
        )
        assert model.draw(["a red circle"]).shape == (1, 3, 64, 64)


def test_the_pooled_vector_is_that_of_the_empty_text(join, tmp_path, pipelines):
    """The paper's constant (PKU-YuanGroup/UAE), by the pipeline's own CLIP encoders."""
    assert join("StableDiffusion3Pipeline", "--condition", "projector")[0] == 0
    projector = UnifiedAutoEncoder.from_pretrained(tmp_path / "pair").projector
    assert projector is not None
    encoders = make_pipeline("StableDiffusion3Pipeline")
    with torch.no_grad():
        *_, pooled, _ = encoders.encode_prompt("", "", "", do_classifier_free_guidance=False)
    assert torch.allclose(projector.pooled, pooled[0], atol=1e-6)
    assert projector.pooled.abs().sum() > 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size-px": 66}, "size_px = 66: ZImageTransformer2DModel draws multiples of 4 pixels"),
        ({"encoder": "nowhere/model"}, "--encoder nowhere/model cannot be loaded"),
        ({"out": "."}, "--out . exists already"),
        ({"decoder": "uae-tiny/encoder"}, "does not say which pipeline the folder holds"),
        (
            {"encoder": "uae-tiny/clip"},
            "is a 'clip' model, which describes no images: an encoder is one of",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    join, tmp_path, monkeypatch, changed, message
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, _, err = join("ZImagePipeline", **changed)
    assert code in (2, 3)
    assert message in err
    assert not [path for path in tmp_path.iterdir() if "pair" in path.name]


def test_a_projector_before_a_decoder_without_a_mask_is_refused(join):
    code, _, err = join("LongCatImagePipeline", "--condition", "projector")
    assert code == 2
    assert "with condition projector a decoder is one of" in err


def test_a_family_of_ones_own_is_not_joined_by_command(join, pipelines, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(pipelines / "ZImagePipeline", mine)
    index = json.loads((mine / "model_index.json").read_text())
    (mine / "model_index.json").write_text(json.dumps(index | {"_class_name": "Mine"}))
    with mock.patch.dict(FAMILIES, {"Mine": FAMILIES["ZImagePipeline"]}):
        code, _, err = join("ZImagePipeline", decoder=mine)
    assert code == 2
    assert "is a Mine: only QwenImagePipeline, " in err


def test_a_model_that_changed_since_is_refused(join, tmp_path, pipelines):
    shutil.copytree(pipelines / "ZImagePipeline", tmp_path / "z")
    assert join("ZImagePipeline", decoder=tmp_path / "z")[0] == 0
    (tmp_path / "z" / "vae" / "config.json").open("a").write(" ")
    with pytest.raises(UsageError, match=r"its decoder .*z is another than was joined"):
        UnifiedAutoEncoder.from_pretrained(tmp_path / "pair")
    shutil.rmtree(tmp_path / "z")
    with pytest.raises(UsageError, match=r"its decoder .*z is not there: put it back"):
        UnifiedAutoEncoder.from_pretrained(tmp_path / "pair")


def test_stages_over_a_pair_add_adapters_and_copy_no_weights(join, run, tmp_path):
    """In bfloat16, where merged adapters would lose what they learned to rounding."""
    assert join("ZImagePipeline")[0] == 0
    (tmp_path / "photos").mkdir()
    for i in range(8):
        render_image(scene_at(i, "train"), 64).save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "r.yaml").write_text(RECIPE)
    before = "pair"
    for number, out in enumerate(("first", "second"), start=1):
        code, _, err = run("train", "--recipe", "r.yaml", "--model", before, "--out", out)
        assert code == 0, err
        before = f"{out}/model"
        names = sorted(path.name for path in Path(before).iterdir() if path.is_dir())
        assert len(names) == 2 * number
    assert names == ["decoder_lora", "decoder_lora_2", "encoder_lora", "encoder_lora_2"]
    models = {
        name: UnifiedAutoEncoder.from_pretrained(name, dtype=torch.bfloat16)
        for name in ("pair", "first/model", "second/model")
    }
    drawn = [model.draw(["a red circle"]) for model in models.values()]
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])
    for captioner in ("uae", "vlm"):  # benchmarks take pairs as they take any model
        flags = ("--captioner", f"{captioner}:second/model", "--generator", "uae:second/model")
        code, _, err = run("eval", "unified-bench", "photos/0.png", *flags, "--out", captioner)
        assert code == 0, err
    stamps = [encoder_stamp(x, Path(x)).files for x in ("pair", "first/model", "second/model")]
    assert len({json.dumps(stamp, sort_keys=True) for stamp in stamps}) == 3
    values = json.loads(Path("second/model/uae.json").read_text())
    assert values["parts"]["encoder"]["source"] == str(resolve("uae-tiny/encoder"))


def test_a_native_condition_reads_no_hidden_states(join, run, tmp_path):
    assert join("ZImagePipeline")[0] == 0
    flags = ("--cold_start.num_steps", 1, "--cold_start.condition", "image")
    code, _, err = run("train", "--recipe", "demo", "--model", "pair", "--out", "run", *flags)
    assert code == 2
    assert "cold_start.condition is image: the model reads captions natively" in err
    assert not (tmp_path / "run").exists()


NARROW = "{frozen: float8, checkpointing: true, vae_batch: 1, offload: [encoder, decoder, rewards]}"


def test_narrow_weights_train_adapters_that_the_base_takes_as_it_is(join, run, tmp_path):
    assert join("ZImagePipeline")[0] == 0
    (tmp_path / "photos").mkdir()
    for i in range(8):
        render_image(scene_at(i, "train"), 64).save(tmp_path / "photos" / f"{i}.png")
    recipe = RECIPE.replace("{frozen: bfloat16, checkpointing: true}", NARROW)
    (tmp_path / "r.yaml").write_text(recipe)
    code, _, err = run("train", "--recipe", "r.yaml", "--model", "pair", "--out", "run")
    assert code == 0, err
    names = {path.name for path in Path("run/model").iterdir() if path.is_dir()}
    assert names == {"encoder_lora", "decoder_lora"}
    adapter = load_file("run/model/decoder_lora/adapter_model.safetensors")
    assert {weight.dtype for weight in adapter.values()} == {torch.float32}
    assert any("lora_B" in name and weight.any() for name, weight in adapter.items())
    code, _, err = run("export", "run/model", "--out", "out", "--decoder")
    assert code == 0, err
    base_folder = Path(read_settings(Path("run/model")).parts["decoder"].source)
    file = Path("transformer/diffusion_pytorch_model.safetensors")
    base, there = (load_file(folder / file) for folder in (base_folder, Path("out/decoder")))
    assert {name: x.dtype for name, x in there.items()} == {n: x.dtype for n, x in base.items()}
    assert not all(torch.equal(base[name], there[name]) for name in base)


@pytest.mark.parametrize("precision", ["float8", "nf4"])
def test_narrow_weights_of_a_models_own_folder_are_refused(run, precision, tmp_path):
    flags = ("--recipe", "demo", "--out", "run", "--placement.frozen", precision)
    code, _, err = run("train", *flags)
    assert code == 2
    assert f"placement.frozen: {precision} rounds weights that the model's own folder holds" in err
    assert not (tmp_path / "run").exists()


def test_nf4_names_the_package_that_it_needs(join, run, tmp_path, monkeypatch):
    assert join("ZImagePipeline")[0] == 0
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    flags = ("--recipe", "demo", "--model", "pair", "--out", "run", "--placement.frozen", "nf4")
    code, _, err = run("train", *flags)
    assert code == 3
    assert 'nf4 needs the package bitsandbytes: pip install "uae[nf4]"' in err
    assert not (tmp_path / "run").exists()
