"""`uae join`: a pair to train, made of a vision-language model and a text-to-image model."""

from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from uae.cli.options import check_new
from uae.cli.output import PLAINLY, Talk
from uae.core.ranks import check_alone

if TYPE_CHECKING:
    from uae.models.join import Pair


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DrawingChoice:
    """How the pair draws."""

    size_px: PositiveInt | None = None
    """Side of a drawn square; by default the decoder's own."""
    shapes: Literal["own", "square"] = "own"
    """own: images are seen whole and redrawn in about their own shapes, with as many pixels as a
    square, at most twice as long as wide. square: they are cut to squares first."""
    num_steps: PositiveInt = 28
    """Steps of drawing an image."""
    guidance_scale: NonNegativeFloat = 1.0
    """Guidance of drawing; 1 is none, at half the time."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CaptionChoice:
    """How the pair describes images."""

    caption_prompt: str = "Describe the image in detail."
    """What the encoder is asked about an image."""
    max_new_tokens: PositiveInt = 512
    """Longest caption it writes."""
    max_pixels: PositiveInt | None = None
    """Most pixels that it sees of an image, whose shape is kept; by default 65536, the paper's
    number, of the Qwen families, one tile (200704) of InternVL, and of others their own."""


DRAWING, CAPTIONS = DrawingChoice(), CaptionChoice()


def join(
    *,
    encoder: str,
    decoder: str,
    out: Path,
    condition: Literal["native", "projector"] = "native",
    drawing: DrawingChoice = DRAWING,
    captions: CaptionChoice = CAPTIONS,
    similarity: Annotated[dict[str, str] | None, Parameter(accepts_keys=True)] = None,
    copy: Annotated[bool, Parameter(negative=())] = False,
    seed: NonNegativeInt = 0,
    talk: Talk = PLAINLY,
) -> int:
    """Join a vision-language model and a text-to-image model to a pair that `uae train` takes.

    Try:
        uae join --encoder Qwen/Qwen2.5-VL-3B-Instruct --decoder Tongyi-MAI/Z-Image --out pair

    OUT refers to both, by commit or digest. Both are loaded once, so what does not fit is said now.

    Args:
        encoder: Folder or hub id of a vision-language model; ID@REVISION for one version.
        decoder: Folder or hub id of a diffusers text-to-image pipeline, likewise.
        out: New folder of the pair.
        condition: native: the decoder reads captions by its own text encoder, and RL can begin at
            once. projector: it reads the encoder's states, as in the paper, after pre-training.
        drawing: How the pair draws.
        captions: How the pair describes images.
        similarity: Similarity backbones, such as --similarity.clip openai/clip-vit-large-patch14;
            by default CLIP and DINOv2.
        copy: Copy the weights into OUT.
        seed: Seed of a new projector's weights.
        talk: Format and verbosity.
    """
    talk.begin()
    check_alone("uae join")
    check_new(out)
    _check_places(encoder, decoder)
    from uae.models.join import join as join_pair

    pair = pair_of(
        encoder=encoder,
        decoder=decoder,
        condition=condition,
        drawing=drawing,
        captions=captions,
        similarity=similarity,
        copy=copy,
        seed=seed,
    )
    parts = {half: asdict(part) for half, part in join_pair(pair, out).parts.items()}
    model = quote(str(out))
    following = f"uae reconstruct IMAGE --model {model}, uae train --model {model} --data FOLDER"
    talk.result(f"{out}\nnext  {following}", {"out": str(out), "parts": parts})
    return 0


def pair_of(
    *,
    encoder: str,
    decoder: str,
    condition: Literal["native", "projector"] = "native",
    drawing: DrawingChoice = DRAWING,
    captions: CaptionChoice = CAPTIONS,
    similarity: dict[str, str] | None = None,
    copy: bool = False,
    seed: int = 0,
) -> "Pair":
    """Return the pair that the arguments of `join` describe."""
    from uae.models.join import Pair
    from uae.recipe.sampling import SamplingConfig

    return Pair(
        encoder=encoder,
        decoder=decoder,
        condition=condition,
        size_px=drawing.size_px,
        shapes=drawing.shapes,
        sampling=SamplingConfig(num_steps=drawing.num_steps, guidance_scale=drawing.guidance_scale),
        similarity=backbones(similarity),
        copied=copy,
        seed=seed,
        **asdict(captions),
    )


def _check_places(encoder: str, decoder: str) -> None:
    from uae.models.hub import check_place

    for flag, name in (("--encoder", encoder), ("--decoder", decoder)):
        check_place(flag, name.partition("@")[0])


def backbones(similarity: dict[str, str] | None) -> dict[str, str]:
    """Return the similarity backbones of a new pair, refusing what they lack."""
    from uae.rewards.places import OFFICIAL, rewarding

    places = similarity or {name: OFFICIAL[name] for name in ("clip", "dinov2")}
    rewarding([], places, "--similarity.")
    return places
