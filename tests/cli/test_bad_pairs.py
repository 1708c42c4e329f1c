"""Pairs that cannot work: each is one message, before anything is drawn or trained."""

import json
import shutil
from pathlib import Path

import pytest

from tests.tiny_encoders import write_encoder
from tests.tiny_pipelines import make_pipeline
from uae.models.projector import Projector
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image

SIMILARITY = ("--similarity.clip", "uae-tiny/clip", "--similarity.dinov2", "uae-tiny/dinov2")
BLIND = "{% for m in messages %}{% for p in m.content %}{{ p.text or '' }}{% endfor %}{% endfor %}"


def only_error(err: str) -> str:
    [said] = [line for line in err.splitlines() if line.startswith("error: ")]
    return said


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    return write_encoder("qwen2_5_vl", tmp_path_factory.mktemp("encoder") / "qwen")


@pytest.fixture
def blind(encoder, tmp_path) -> Path:
    """An encoder whose chat template knows no images."""
    folder = Path(shutil.copytree(encoder, tmp_path / "blind"))
    (folder / "chat_template.jinja").write_text(BLIND)
    return folder


def test_an_encoder_whose_template_drops_images_is_refused(run, blind, photos, tmp_path):
    make_pipeline("ZImagePipeline").save_pretrained(tmp_path / "z")
    flags = ("--decoder", tmp_path / "z", "--size-px", 64, "--out", "pair", *SIMILARITY)
    code, _, err = run("join", "--encoder", blind, *flags)
    assert code == 2
    assert "its chat template writes an image and a question as 'a red circle'" in only_error(err)
    assert not Path("pair").exists()
    (blind / "chat_template.jinja").unlink()
    code, _, err = run("join", "--encoder", blind, *flags)
    assert code == 2
    assert "its chat template cannot be filled" in only_error(err)


def test_a_captioner_whose_template_drops_images_is_refused(run, blind, photos):
    code, _, err = run(
        *("eval", "unified-bench", "photos", "--captioner", f"vlm:{blind}", "--out", "bench"),
        *("--backbone", "clip=uae-tiny/clip"),
    )
    assert code == 2
    assert "its chat template drops images" in only_error(err)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [((99, 144), "has hidden_size 99, and"), ((160, 99), "has condition_size 99, and")],
)
def test_a_projector_of_another_pair_is_refused(run, random_model_folder, tmp_path, sizes, said):
    folder = Path(shutil.copytree(random_model_folder, tmp_path / "model"))
    own = json.loads((folder / "projector/config.json").read_text())
    hidden, width = (
        own[x] if n != 99 else 99
        for x, n in zip(("hidden_size", "condition_size"), sizes, strict=True)
    )
    Projector(hidden, 8, width, own["pooled_size"]).save_pretrained(folder / "projector")
    code, _, err = run("draw", "a red circle", "--model", folder)
    assert code == 2
    assert said in only_error(err)


def test_a_text_encoder_of_another_pipeline_is_refused(run, tmp_path):
    make_pipeline("ZImagePipeline").save_pretrained(tmp_path / "z")
    path = tmp_path / "z/transformer"
    transformer = make_pipeline("ZImagePipeline").transformer
    config = dict(transformer.config) | {"cap_feat_dim": 24}
    type(transformer).from_config(config).save_pretrained(path)
    flags = ("--encoder", "uae-tiny/encoder", "--size-px", 64, "--out", "pair", *SIMILARITY)
    code, _, err = run("join", "--decoder", tmp_path / "z", *flags)
    assert code == 2
    assert "its transformer reads a condition of width 24, and captions are read into 16" in err
    assert not Path("pair").exists()


def test_too_few_images_to_hold_some_out_are_refused_before_a_model_loads(run, monkeypatch):
    Path("few").mkdir()
    for i in range(3):
        render_image(scene_at(i, "train"), 64).save(f"few/{i}.png")
    monkeypatch.setattr("uae.train.run.load_model", lambda *_: pytest.fail("it was loaded"))
    code, _, err = run("train", "--recipe", "demo", "--data", "few", "--out", "run")
    assert code == 2
    assert "data.folder few has 3 images: expected 4 or more, so that some" in only_error(err)
    assert not Path("run").exists()


def test_images_of_several_sizes_and_shapes_are_all_taken(run, tmp_path):
    Path("mixed").mkdir()
    for i, size in enumerate([(64, 64), (96, 40), (33, 130), (8, 8), (200, 64), (64, 65)]):
        render_image(scene_at(i, "train"), 64).resize(size).save(f"mixed/{i}.png")
    code, _, err = run("reconstruct", "mixed", "--out", "again")
    assert code == 0, err
    Path("r.yaml").write_text(
        "data: {folder: mixed, held_out_share: 0.3}\n"
        "evaluation: {num_images: 2}\n"
        "encoder_rl:\n  num_steps: 1\n  num_images: 2\n  micro_images: 2\n  num_redraws: 2\n"
        "  captioning: {num_captions: 2, max_new_tokens: 4}\n"
    )
    code, _, err = run("train", "--recipe", "r.yaml", "--out", "run")
    assert code == 0, err
