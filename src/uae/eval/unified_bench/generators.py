"""What draws the captions: our decoder, a diffusers pipeline, an address, or a folder of images.

A generator gets words alone. Only `HiddenStates`, whose runs have a name of their own, looks at the
image.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image

from uae.data.images import SUFFIXES, fit_square
from uae.data.opening import open_image
from uae.data.sources import to_images
from uae.data.untrusted.file import UnreadableImage
from uae.endpoint import Endpoint, EndpointFailure
from uae.errors import UsageError
from uae.eval.unified_bench.captioners import Failure
from uae.flow.noise import stream
from uae.models.unified import UnifiedAutoEncoder


@dataclass(frozen=True, slots=True)
class Caption:
    """What a generator sees: the words, and the image's name, which its noise hangs on."""

    name: str
    text: str


@runtime_checkable
class Generator(Protocol):
    """Draws captions."""

    in_batches: bool
    """Whether captions are drawn together, so that a pixel's last digit depends on which."""

    def draw(self, captions: Sequence[Caption]) -> Sequence[Image.Image | Failure]:
        """Return an image of each caption, or why there is none."""
        ...


class DecoderGenerator:
    """Our decoder, by the model's own sampling settings."""

    in_batches = True

    def __init__(self, model: UnifiedAutoEncoder, seed: int) -> None:
        self._model = model
        self._seed = seed

    @torch.no_grad()
    def draw(self, captions: Sequence[Caption]) -> list[Image.Image | Failure]:
        """Return drawings; noise hangs on (seed, name), so that all budgets share it."""
        model = self._model
        noise = model.decoder.noise([stream(self._seed, "draw", x.name) for x in captions])
        conditions = model.condition([x.text for x in captions])
        return list(to_images(model.draw_conditions(conditions, noise, model.settings.sampling)))


class HiddenStates:
    """Our decoder on the hidden states of the caption as it was written, with the image in sight.

    No text bottleneck: what the words leave out may still reach the decoder. The paper's cold start
    trains this way (PKU-YuanGroup/UAE).
    """

    in_batches = False

    def __init__(self, model: UnifiedAutoEncoder, paths: Mapping[str, Path], seed: int) -> None:
        self._model = model
        self._paths = paths
        self._seed = seed

    @torch.no_grad()
    def draw(self, captions: Sequence[Caption]) -> list[Image.Image | Failure]:
        """Return drawings, one caption at a time: their lengths differ."""
        return [self._draw(caption) for caption in captions]

    def _draw(self, caption: Caption) -> Image.Image | Failure:
        model, encoder = self._model, self._model.encoder
        try:
            image = fit_square(open_image(self._paths[caption.name]), model.decoder.size_px)
        except UnreadableImage as error:
            return Failure("unreadable image", str(error))
        ids = [*encoder.tokenizer(caption.text)["input_ids"], encoder.end_id]
        tokens = torch.tensor([ids], device=encoder.device)
        hidden = encoder.caption_states(encoder.prompts([image]), tokens)
        conditions = model.projector(hidden, torch.ones_like(tokens, dtype=torch.bool))
        noise = model.decoder.noise([stream(self._seed, "draw", caption.name)])
        return to_images(model.draw_conditions(conditions, noise, model.settings.sampling))[0]


class PipelineGenerator:
    """A text-to-image pipeline of diffusers, by its own defaults."""

    in_batches = False

    def __init__(self, pipeline: Callable[..., Any], seed: int) -> None:
        self._pipeline = pipeline
        self._seed = seed

    def draw(self, captions: Sequence[Caption]) -> list[Image.Image | Failure]:
        """Return drawings, one at a time; each has a generator of its own, on the CPU."""
        return [
            self._pipeline(
                prompt=caption.text, generator=stream(self._seed, "draw", caption.name)
            ).images[0]
            for caption in captions
        ]


class EndpointGenerator:
    """A model behind an OpenAI-compatible address."""

    in_batches = False

    def __init__(self, endpoint: Endpoint, seed: int) -> None:
        self._endpoint = endpoint
        self._seed = seed

    def draw(self, captions: Sequence[Caption]) -> list[Image.Image | Failure]:
        """Return drawings, one request each; the seed of each follows its name."""
        return [self._draw(caption) for caption in captions]

    def _draw(self, caption: Caption) -> Image.Image | Failure:
        digest = hashlib.sha256(f"{self._seed} {caption.name}".encode()).digest()
        try:
            return self._endpoint.image(caption.text, seed=int.from_bytes(digest[:4], "big") >> 1)
        except EndpointFailure as failure:
            return Failure(f"generator: {failure.reason}", failure.detail, can_retry=True)


class ImageFolder:
    """Images that are there already: of the same name, the same stem, or `recon_` before it."""

    in_batches = False

    def __init__(self, folder: Path) -> None:
        """Hold the folder.

        Raises:
            UsageError: There is no such folder.
        """
        if not folder.is_dir():
            raise UsageError(f"{folder} is no folder: expected one with redrawn images")
        self.folder = folder

    def draw(self, captions: Sequence[Caption]) -> list[Image.Image | Failure]:
        """Return the images, opened."""
        return [self._find(caption.name) for caption in captions]

    def _find(self, name: str) -> Image.Image | Failure:
        place = self.folder / name
        stems = [f"{prefix}{place.stem}" for prefix in ("", "recon_")]
        same_stem = [place.with_name(f"{stem}{s}") for stem in stems for s in sorted(SUFFIXES)]
        for path in [place, *same_stem]:
            if path.is_file():
                try:
                    return open_image(path)
                except UnreadableImage as error:
                    return Failure("unreadable redraw", str(error))
        return Failure("the folder has no redraw of it")
