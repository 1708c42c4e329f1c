"""`uae join`: a pair to train, made of a vision-language model and a text-to-image model."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from uae.cli.output import PLAINLY, Talk
from uae.core.ranks import check_alone


def join(
    *,
    encoder: str,
    decoder: str,
    out: Path,
    condition: Literal["native", "projector"] = "native",
    size_px: PositiveInt | None = None,
    max_pixels: PositiveInt | None = 65_536,
    caption_prompt: str = "Describe the image in detail.",
    max_new_tokens: PositiveInt = 512,
    num_steps: PositiveInt = 28,
    guidance_scale: NonNegativeFloat = 1.0,
    similarity: Annotated[dict[str, str] | None, Parameter(accepts_keys=True)] = None,
    copy: Annotated[bool, Parameter(negative=())] = False,
    seed: NonNegativeInt = 0,
    talk: Talk = PLAINLY,
) -> int:
    """Join a vision-language model and a text-to-image model to a pair that `uae train` takes.

    Try:
        uae join --encoder Qwen/Qwen2.5-VL-3B-Instruct --decoder Tongyi-MAI/Z-Image --out pair

    OUT refers to both models, by commit or by digest, and copies no weights. Both are loaded once,
    so that what does not fit is said now.

    Args:
        encoder: Folder or hub id of a vision-language model; ID@REVISION for one version.
        decoder: Folder or hub id of a diffusers text-to-image pipeline, likewise.
        out: New folder of the pair.
        condition: native: the decoder reads captions by its own text encoder, and RL can begin at
            once. projector: it reads the encoder's states, as in the paper, after pre-training.
        size_px: Height and width of drawn images; by default the decoder's own.
        max_pixels: Most pixels that the encoder sees of an image, its shape kept; by default the
            paper's number.
        caption_prompt: What the encoder is asked about an image.
        max_new_tokens: Longest caption it writes.
        num_steps: Steps of drawing an image.
        guidance_scale: Guidance of drawing; 1 is none, at half the time.
        similarity: Similarity backbones, such as --similarity.clip openai/clip-vit-large-patch14;
            by default CLIP and DINOv2.
        copy: Copy the weights into OUT.
        seed: Seed of a new projector's weights.
        talk: Format and verbosity.
    """
    talk.begin()
    check_alone("uae join")
    from uae.models.join import Pair
    from uae.models.join import join as join_pair
    from uae.recipe.sampling import SamplingConfig
    from uae.rewards.places import OFFICIAL, rewarding

    places = similarity or {name: OFFICIAL[name] for name in ("clip", "dinov2")}
    rewarding([], places, "--similarity.")
    pair = Pair(
        encoder=encoder,
        decoder=decoder,
        condition=condition,
        caption_prompt=caption_prompt,
        max_new_tokens=max_new_tokens,
        size_px=size_px,
        max_pixels=max_pixels,
        sampling=SamplingConfig(num_steps=num_steps, guidance_scale=guidance_scale),
        similarity=places,
        copied=copy,
        seed=seed,
    )
    settings = join_pair(pair, out)
    talk.result(
        f"{out}\nnext  uae reconstruct IMAGE --model {out}, uae train --model {out} --data FOLDER",
        {"out": str(out), "parts": {k: v.__dict__ for k, v in settings.parts.items()}},
    )
    return 0
