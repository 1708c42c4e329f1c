"""The bases from nothing, by the command's own functions, with a few steps of each part."""

import itertools
import json
from pathlib import Path

import pytest
import torch
from documented import documented, expanded

from bases import build, fit
from bases.build import (
    BasesConfig,
    build_all,
    build_parts,
    forget_drawing,
)
from bases.encoder import EncoderBaseConfig
from bases.encoder_tasks import TalkingConfig
from bases.similarity import ClipBaseConfig, Dinov2BaseConfig
from bases.vae import VaeConfig
from uae.core.errors import UsageError
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.loading import Setting
from uae.recipe.recipe import Recipe
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image
from uae.train import run
from uae.train.run import Trained

PARTS = ("vae", "encoder", "dinov2", "clip")
TALKING = TalkingConfig(num_lists=1, num_images=2, num_choices=1)
FEW_STEPS = BasesConfig(
    vae=VaeConfig(num_steps=2, batch_size=2),
    encoder=EncoderBaseConfig(
        num_tokenizer_scenes=50,
        num_steps_seeing=1,
        num_views=4,
        num_steps_reading=1,
        num_texts=4,
        num_steps=2,
        num_steps_talking=1,
        together=TALKING,
        talking=TALKING,
        num_texts_kept=4,
    ),
    dinov2=Dinov2BaseConfig(num_steps=1, batch_size=4),
    clip=ClipBaseConfig(num_steps_seeing=1, num_steps_reading=1, num_steps=2, batch_size=4),
)
SETTINGS = [
    Setting(key, value, "test")
    for key, value in {
        "pretrain.num_steps": 1,
        "pretrain.batch_size": 2,
        "pretrain.micro_batch": 2,
    }.items()
]


class Killed(BaseException):
    """Stands for a process that ends in the middle of a step."""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of a whole build, but for the decoder's later runs."""
    out = tmp_path_factory.mktemp("bases")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "DECODER_PARTS", build.DECODER_PARTS[:1])
        # as after every run, whoever begins it
        patch.setattr(run.Context, "evaluate", lambda *_: None)
        patch.setattr(run, "write_run_report", lambda *_: None)
        build_all(out, FEW_STEPS, SETTINGS)
    return out


def files_of(parts: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(parts)): path.read_bytes()
        for name in PARTS
        for path in sorted((parts / name).rglob("*"))
        if path.is_file()
    }


def test_one_call_builds_a_model_from_nothing(built):
    model = UnifiedAutoEncoder.from_pretrained(built / "uae-tiny")
    captions, pixels = model.reconstruct([render_image(scene_at(0, "test"))], seed=0)
    assert len(captions) == 1
    assert pixels[0].shape == (3, 64, 64)
    assert {p.dtype for p in model.decoder.transformer.parameters()} == {torch.float32}
    shipped = UnifiedAutoEncoder.from_pretrained("uae-tiny")
    assert model.settings == shipped.settings
    shapes = [
        {name: p.shape for name, p in part.named_parameters()}
        for m in (model, shipped)
        for part in (m.projector, m.decoder.transformer, m.decoder.family.vae)
    ]
    assert shapes[:3] == shapes[3:]


def test_each_part_of_the_decoder_begins_where_the_one_before_it_ended(built, monkeypatch):
    runs = []

    def train(recipe: Recipe, out: Path, _images: None) -> Trained:
        runs.append((recipe.model, out))
        return Trained(out / "model", 0)

    monkeypatch.setattr(build, "train_recipe", train)
    monkeypatch.setattr(build, "run_images", lambda _: None)
    monkeypatch.setattr(build, "pack", lambda trained, *_: trained)
    trained = build_all(built, FEW_STEPS, SETTINGS)
    folders = [built / "decoder" / name for name in build.DECODER_PARTS]
    starts = [built / "untrained", *(folder / "model" for folder in folders)]
    assert runs == list(zip(map(str, starts), folders, strict=False))
    assert trained == folders[-1] / "model"


def test_parts_that_are_done_are_left_as_they_are(built):
    lines = (built / "parts" / "metrics.jsonl").read_bytes()
    before = files_of(built / "parts")
    build_parts(built / "parts", FEW_STEPS)
    assert (built / "parts" / "metrics.jsonl").read_bytes() == lines
    assert files_of(built / "parts") == before


def test_parts_killed_every_few_steps_equal_those_of_one_go(built, tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "SAVE_EVERY", 1)
    calls = itertools.count(1)
    check = fit.check_finite

    def fatal(loss: torch.Tensor, what: str) -> None:
        check(loss, what)
        if next(calls) % 3 == 0:
            raise Killed

    monkeypatch.setattr(fit, "check_finite", fatal)
    deaths = 0
    while True:
        try:
            build_parts(tmp_path / "parts", FEW_STEPS)
        except Killed:
            deaths += 1
        else:
            break
    assert deaths == 5
    assert files_of(tmp_path / "parts") == files_of(built / "parts")


def test_parts_of_another_configuration_are_refused(built):
    other = BasesConfig(vae=VaeConfig(num_steps=7))
    with pytest.raises(UsageError, match=r"vae\.num_steps"):
        build_all(built, other, SETTINGS)


def test_each_phase_writes_the_documented_metrics(built):
    text = (built / "parts" / "metrics.jsonl").read_text()
    written: dict[str, set[str]] = {}
    for line in map(json.loads, text.splitlines()):
        names = {name for name in line if "/" in name}
        assert written.setdefault(line["stage"], names) == names
    told: dict[str, set[str]] = {}
    for name, _, _, phases in documented("The bases"):
        for phase in phases.split(", "):
            told.setdefault(phase, set()).update(expanded(name.strip("`")))
    assert written == told


def test_the_untrained_model_differs_in_what_draws_alone(tmp_path):
    forget_drawing(tmp_path / "untrained")
    new = UnifiedAutoEncoder.from_pretrained(tmp_path / "untrained")
    shipped = UnifiedAutoEncoder.from_pretrained("uae-tiny")
    assert new.settings == shipped.settings
    pairs = {
        "encoder": (new.encoder.model, shipped.encoder.model),
        "vae": (new.decoder.family.vae, shipped.decoder.family.vae),
        "projector": (new.projector, shipped.projector),
        "transformer": (new.decoder.transformer, shipped.decoder.transformer),
    }
    kept = {
        name: all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
        for name, (a, b) in pairs.items()
    }
    assert kept == {"encoder": True, "vae": True, "projector": False, "transformer": False}
