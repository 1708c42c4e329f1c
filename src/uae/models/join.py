# pipelines of diffusers are told apart by their names alone
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportAttributeAccessIssue=false
"""A pair made of two models: a vision-language model and a text-to-image model."""

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from transformers import AutoTokenizer, CLIPTextModelWithProjection

from uae.core.errors import UsageError
from uae.flow.noise import stream
from uae.models.dit.loading import read_config_of, read_index
from uae.models.dit.pipeline import PipelineSpec
from uae.models.dit.table import PIPELINES, dit_loader
from uae.models.folders import new_folder
from uae.models.loading import load_whole, read_config
from uae.models.parts import HALVES, locate, reference_to
from uae.models.projector import Projector
from uae.models.settings import ModelSettings, write_settings
from uae.models.unified import UnifiedAutoEncoder
from uae.models.vlm.table import SEEN_PIXELS, vlm_loader
from uae.models.weightless import is_weightless
from uae.recipe.sampling import SamplingConfig


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two models, and how they work together.

    Attributes:
        encoder: Folder or hub id of a vision-language model; "@" and a revision may follow an id.
        decoder: Folder or hub id of a text-to-image pipeline, likewise.
        condition: What the decoder reads, see `ModelSettings`.
        caption_prompt: User turn that asks for a caption.
        max_new_tokens: Longest caption the encoder writes.
        size_px: Side of a drawn square; None for the decoder's own.
        shapes: Whether images are cut to squares, see `ModelSettings`.
        max_pixels: Most pixels that the encoder sees of an image; None for those of its family.
        sampling: How images are drawn.
        similarity: Similarity backbones, name to place.
        copied: Whether the weights are copied into the pair's folder.
        seed: Of a new projector's weights.
    """

    encoder: str
    decoder: str
    condition: Literal["projector", "native"]
    caption_prompt: str = "Describe the image in detail."
    max_new_tokens: int = 512
    size_px: int | None = None
    shapes: Literal["square", "own"] = "own"
    max_pixels: int | None = None
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    similarity: dict[str, str] = field(default_factory=dict)
    copied: bool = False
    seed: int = 0


def join(pair: Pair, out: Path) -> ModelSettings:
    """Write a model folder that refers to both models, and load it to see that they fit.

    Args:
        pair: The models.
        out: New folder.

    Raises:
        UsageError: `out` is there already, a model is not there or of no family there is, or its
            weights, its template or the size do not fit.
        EnvironmentFault: The hub cannot be reached, or the disk refuses.
    """
    with new_folder(out) as draft:
        settings = write_pair(pair, draft)
        model = UnifiedAutoEncoder.from_pretrained(draft, dtype=torch.bfloat16)
        _check_width(pair, model, locate(draft, "decoder", settings.parts.get("decoder")))
    return settings


def _check_width(pair: Pair, model: UnifiedAutoEncoder, decoder: Path) -> None:
    """Read a caption, and compare its width with what the transformer takes.

    Raises:
        UsageError: They differ.
    """
    expected = read_config_of(decoder / "transformer").get(_spec_of(decoder).width)
    with torch.no_grad():
        width = model.condition(["a red circle"]).embeds.shape[-1]
    if expected not in (None, width):
        raise UsageError(
            f"--decoder {pair.decoder}: its transformer reads a condition of width {expected}, "
            f"and captions are read into {width}: expected the text encoder it was trained with"
        )


def write_pair(pair: Pair, draft: Path) -> ModelSettings:
    """Write the model folder alone, as `join` does before it loads both models."""
    parts = {
        "encoder": reference_to("--encoder", pair.encoder, "encoder"),
        "decoder": reference_to("--decoder", pair.decoder, "decoder"),
    }
    places = {half: locate(draft, half, parts[half]) for half in HALVES}
    vlm_loader(places["encoder"], pair.condition)
    dit_loader(places["decoder"], pair.condition)
    spec = _spec_of(places["decoder"])
    settings = ModelSettings(
        caption_prompt=pair.caption_prompt,
        max_new_tokens=pair.max_new_tokens,
        max_caption_tokens=spec.max_tokens if pair.condition == "native" else pair.max_new_tokens,
        sampling=pair.sampling,
        similarity=pair.similarity,
        condition=pair.condition,
        size_px=pair.size_px,
        shapes=pair.shapes,
        max_pixels=pair.max_pixels or SEEN_PIXELS.get(read_config(places["encoder"]).model_type),
        parts=parts,
    )
    if pair.condition == "projector":
        projector = new_projector(places["encoder"], places["decoder"], pair.seed)
        save = projector.save_config if is_weightless() else projector.save_pretrained
        save(draft / "projector")
    if pair.copied:
        for half, place in places.items():
            shutil.copytree(place, draft / half)
        settings = replace(settings, parts={})
    write_settings(draft, settings)
    return settings


def _spec_of(decoder: Path) -> PipelineSpec:
    """Return what is known of a pipeline.

    Raises:
        UsageError: Nothing is: it is a family of the user's own.
    """
    name = read_index(decoder)["_class_name"]
    if name not in PIPELINES:
        raise UsageError(
            f"--decoder {decoder} is a {name}: only {', '.join(PIPELINES)} are joined by command; "
            "for a family of your own call UnifiedAutoEncoder(...).save_pretrained"
        )
    return PIPELINES[name]


def new_projector(encoder: Path, decoder: Path, seed: int) -> Projector:
    """Make a projector from an encoder's states to a decoder's condition, with random weights."""
    spec = _spec_of(decoder)
    hidden_size = read_config(encoder).get_text_config().hidden_size
    width = read_config_of(decoder / "transformer")[spec.width]
    pooled = pooled_of_nothing(decoder) if spec.pooled else torch.zeros(0)
    place = torch.device("meta" if is_weightless() else "cpu")
    with torch.random.fork_rng(devices=[]), place:
        torch.manual_seed(stream(seed, "projector").initial_seed())
        projector = Projector(hidden_size, 4 * hidden_size, width, len(pooled))
    projector.pooled.copy_(pooled)
    return projector


def pooled_of_nothing(decoder: Path) -> Tensor:
    """Return the pooled embedding of the empty text by a pipeline's CLIP encoders.

    The paper's constant (PKU-YuanGroup/UAE); zeros where the folder has no text encoders.
    """
    clips = [decoder / part for part in ("text_encoder", "text_encoder_2")]
    if not all(clip.is_dir() for clip in clips):
        return torch.zeros(read_config_of(decoder / "transformer")["pooled_projection_dim"])
    pooled = []
    for clip in clips:
        tokenizer = AutoTokenizer.from_pretrained(
            decoder / clip.name.replace("text_encoder", "tokenizer")
        )
        encoder = load_whole(CLIPTextModelWithProjection, clip)
        tokens = tokenizer("", padding="max_length", max_length=77, return_tensors="pt")
        pooled.append(encoder(tokens["input_ids"]).text_embeds[0].detach())
    return torch.cat(pooled)
