# transformers types sub-configs as dicts and token ids as unions
# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
"""Rebuilds uae-tiny from nothing: `python -m bases build --out FOLDER`, some hours on two cores.

    FOLDER/parts/       one run: vae, encoder, DINOv2 and CLIP, trained by their own files
    FOLDER/untrained/   they, joined with a decoder and a projector that know nothing
    FOLDER/decoder/     one run for each of `DECODER_PARTS`: stage 1 of the ordinary training code
    FOLDER/uae-tiny/    what ships

Stopped at any moment, the same command goes on. Weights are stored in float16, which keeps the
package small, and computed with in float32.
"""

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from transformers import CLIPModel, Dinov2Model

from bases.decoder import new_decoder, new_projector
from bases.encoder import CAPTION_PROMPT, EncoderBaseConfig, build_encoder
from bases.similarity import ClipBaseConfig, Dinov2BaseConfig, build_clip, build_dinov2
from bases.vae import VaeConfig, build_vae
from uae.core.durable import give_usual_rights
from uae.models.unified import ModelSettings, UnifiedAutoEncoder
from uae.models.vlm.encoder import Encoder
from uae.recipe.keys import recipe_keys
from uae.recipe.loading import Setting, read_file
from uae.recipe.loading import build as build_config
from uae.recipe.recipe import Recipe
from uae.recipe.sampling import SamplingConfig
from uae.runs.run import Run
from uae.scenes.run_images import run_images
from uae.train.run import train_recipe

log = logging.getLogger("uae.bases")  # the command shows what `uae` logs

DECODER_RECIPES = Path(__file__).parent / "recipes" / "uae-tiny-decoder"
DECODER_PARTS = ("1-from-nothing", "2-other-scenes", "3-shapes", "5-guidance")
"""The gate is passed without 4-shapes-longer."""

SETTINGS = ModelSettings(
    caption_prompt=CAPTION_PROMPT,
    max_caption_tokens=128,
    max_new_tokens=64,
    sampling=SamplingConfig(num_steps=6),
    similarity={"clip": "uae-tiny/clip", "dinov2": "uae-tiny/dinov2"},
)


@dataclass(frozen=True, kw_only=True)
class BasesConfig:
    """How the parts are trained that are not the decoder."""

    vae: VaeConfig = field(default_factory=VaeConfig)
    encoder: EncoderBaseConfig = field(default_factory=EncoderBaseConfig)
    dinov2: Dinov2BaseConfig = field(default_factory=Dinov2BaseConfig)
    clip: ClipBaseConfig = field(default_factory=ClipBaseConfig)


def build_all(
    out: Path, config: BasesConfig | None = None, settings: Sequence[Setting] = ()
) -> Path:
    """Train what `out` does not hold yet; return the folder of the whole model.

    Args:
        out: Folder for the parts, the decoder's runs and the model.
        config: How the parts are trained.
        settings: Go before the values of the decoder's recipes.

    Raises:
        UsageError: `out` holds parts of another configuration.
        Stopped: A signal asked for the end; the state is saved.
    """
    out.mkdir(parents=True, exist_ok=True)
    parts, trained = out / "parts", out / "untrained"
    build_parts(parts, config or BasesConfig())
    if not trained.exists():
        join_untrained(parts, trained)
    keys = recipe_keys()
    for name in DECODER_PARTS:
        given = [*settings, Setting("model", str(trained), "bases")]
        file = read_file(DECODER_RECIPES / f"{name}.yaml", keys)
        recipe = build_config(Recipe, file, given)
        trained = train_recipe(recipe, out / "decoder" / name, run_images(recipe)).model
    return pack(trained, parts, out / "uae-tiny")


def build_parts(parts: Path, config: BasesConfig) -> None:
    """Train vae, encoder, DINOv2 and CLIP, each but once."""
    with Run.open(parts, asdict(config), "BasesConfig") as run:
        for name, build in (
            ("vae", lambda folder: build_vae(run, folder, config.vae)),
            ("encoder", lambda folder: build_encoder(run, folder, config.encoder)),
            ("dinov2", lambda folder: build_dinov2(run, folder, config.dinov2)),
            ("clip", lambda folder: build_clip(run, folder, parts / "encoder", config.clip)),
        ):
            if not (parts / name).exists():
                log.info("training %s", name)
                build(parts / f".{name}")
                give_usual_rights(parts / f".{name}")
                (parts / f".{name}").rename(parts / name)


def join_untrained(parts: Path, folder: Path) -> None:
    """Write the model folder that stage 1 starts from."""
    encoder = Encoder.from_pretrained(parts / "encoder", CAPTION_PROMPT)
    vae = AutoencoderKL.from_pretrained(parts / "vae").eval()
    similarity = {name: str((parts / name).resolve()) for name in ("clip", "dinov2")}
    settings = replace(SETTINGS, similarity=similarity)
    hidden = folder.with_name(f".{folder.name}")
    with_new_decoder(encoder, vae, settings).save_pretrained(hidden)
    hidden.rename(folder)


def forget_drawing(out: Path) -> None:
    """Write uae-tiny with a decoder and a projector that have learned nothing."""
    model = UnifiedAutoEncoder.from_pretrained("uae-tiny")
    with_new_decoder(model.encoder, model.decoder.family.vae, model.settings).save_pretrained(out)


def with_new_decoder(
    encoder: Encoder, vae: AutoencoderKL, settings: ModelSettings
) -> UnifiedAutoEncoder:
    """Join trained parts with a new decoder and projector."""
    torch.manual_seed(51)
    decoder = new_decoder(vae)
    projector = new_projector(encoder.model.config.text_config.hidden_size)
    return UnifiedAutoEncoder(encoder, projector, decoder, settings)


def pack(trained: Path, parts: Path, folder: Path) -> Path:
    """Write the trained model and both backbones in float16."""
    shutil.rmtree(folder, ignore_errors=True)
    model = UnifiedAutoEncoder.from_pretrained(trained)
    model.settings = SETTINGS
    model.encoder.model.half()
    model.projector.half()
    model.decoder.transformer.half()
    model.decoder.family.vae.half()
    model.save_pretrained(folder)
    for name, kind in (("clip", CLIPModel), ("dinov2", Dinov2Model)):
        shutil.copytree(parts / name, folder / name)
        kind.from_pretrained(parts / name).half().save_pretrained(folder / name)
    give_usual_rights(folder)
    for path in folder.rglob("*config.json"):
        forget_origin(path)
    return folder


def forget_origin(path: Path) -> None:
    """Drop the folder that diffusers notes in a configuration: it is gone for everyone else."""
    config = json.loads(path.read_text())
    if config.pop("_name_or_path", None) is not None:
        path.write_text(json.dumps(config, indent=2) + "\n")
