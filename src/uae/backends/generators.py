"""What draws the captions: our decoder, a diffusers pipeline, an address, or a folder of images.

A generator gets words alone. Only `HiddenStates`, whose runs have a name of their own, looks at the
image.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image

from uae.backends.captioners import Failure
from uae.backends.endpoint import Endpoint, EndpointFailure
from uae.core.errors import UsageError
from uae.data.folder import fit_square, list_images
from uae.data.opening import open_image
from uae.data.sources import to_images
from uae.data.untrusted.file import UnreadableImage
from uae.flow.noise import stream
from uae.models.plain_text import BLANK, PlainText
from uae.models.unified import UnifiedAutoEncoder

log = logging.getLogger(__name__)

PREFIX = "recon_"
"""What the upstream repository writes before a redraw's name."""


@dataclass(frozen=True, slots=True)
class Caption:
    """What a generator sees: the words, and what its noise hangs on besides the seed.

    Attributes:
        name: Of the image that the words describe, or of a sample of them.
        text: The words.
        key: Of the sample's noise; by default that of the image's redraws.
    """

    name: str
    text: str
    key: tuple[int | str, ...] = ()

    def noise(self, seed: int) -> torch.Generator:
        """Return where the noise comes from."""
        return stream(seed, *(self.key or ("draw", self.name)))


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
        self.model = model
        self._seed = seed

    @torch.no_grad()
    def draw(self, captions: Sequence[Caption]) -> list[Image.Image | Failure]:
        """Return drawings; captions of one key share their noise, without one those of an image."""
        model = self.model
        noise = model.decoder.noise([caption.noise(self._seed) for caption in captions])
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
        ids = [*encoder.token_ids(caption.text), encoder.end_id]
        tokens = torch.tensor([ids], device=encoder.device)
        hidden = encoder.caption_states(encoder.prompts([image]), tokens)
        conditions = model.projector(hidden, torch.ones_like(tokens, dtype=torch.bool))
        noise = model.decoder.noise([caption.noise(self._seed)])
        return to_images(model.draw_conditions(conditions, noise, model.settings.sampling))[0]


class PipelineGenerator:
    """A text-to-image pipeline of diffusers, by its own defaults."""

    in_batches = False

    def __init__(
        self,
        pipeline: Callable[..., Any],
        seed: int,
        size: tuple[int, int] | None = None,
        plain: Sequence[PlainText] = (),
    ) -> None:
        """Hold the pipeline.

        Args:
            pipeline: Draws a prompt.
            seed: Of the noise.
            size: Width and height in pixels, by default its own.
            plain: Of its tokenizers: a blank keeps their control tokens out of captions.
        """
        self._pipeline = pipeline
        self._plain = plain
        self._seed = seed
        self._size = {} if size is None else {"width": size[0], "height": size[1]}

    def draw(self, captions: Sequence[Caption]) -> list[Image.Image | Failure]:
        """Return drawings, one at a time; each has a generator of its own, on the CPU."""
        return [self._draw(caption) for caption in captions]

    def _draw(self, caption: Caption) -> Image.Image | Failure:
        noise = caption.noise(self._seed)
        text = reduce(lambda text, plain: plain.broken(text, BLANK), self._plain, caption.text)
        drawn = self._pipeline(prompt=text, generator=noise, **self._size)
        if any(getattr(drawn, "nsfw_content_detected", None) or ()):  # a black image stands for it
            return Failure("generator: refused", "by the pipeline's safety checker")
        return drawn.images[0]


class EndpointGenerator:
    """A model behind an OpenAI-compatible address."""

    in_batches = False

    def __init__(self, endpoint: Endpoint, seed: int, size: tuple[int, int] | None = None) -> None:
        """Hold the endpoint; `size` is width and height in pixels, by default the model's own."""
        self._endpoint = endpoint
        self._seed = seed
        self._size = size

    def draw(self, captions: Sequence[Caption]) -> list[Image.Image | Failure]:
        """Return drawings, one request each; the seed of each follows its name."""
        return [self._draw(caption) for caption in captions]

    def _draw(self, caption: Caption) -> Image.Image | Failure:
        name = caption.name.encode(errors="surrogateescape")  # of files: any bytes
        digest = hashlib.sha256(f"{self._seed} ".encode() + name).digest()
        seed = int.from_bytes(digest[:4], "big") >> 1
        try:
            return self._endpoint.image(caption.text, size=self._size, seed=seed)
        except EndpointFailure as failure:
            return Failure(f"generator: {failure.reason}", failure.detail, can_retry=True)


class ImageFolder:
    """Images that are there already, each at its image's relative path but for the suffix.

    `recon_` may stand before the file's name. Where no image is found so, those folders below are
    looked through that hold such paths: RUN/images/plain/0.png is found below RUN/images.
    """

    in_batches = False

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        """Look for the redraw of each image.

        Args:
            folder: Where the redraws lie.
            names: Images, by relative paths.

        Raises:
            UsageError: There is no such folder, it holds no images, or two are of one image.
        """
        if not folder.is_dir():
            raise UsageError(f"{folder} is no folder: expected one with redrawn images")
        listing = list_images(folder)
        for fault in listing.skipped:
            log.warning("%s", fault)
        self.folder = folder
        self._files = listing.names
        self._found = _by_name(folder, names, listing.names, below=False)
        self._found = self._found or _by_name(folder, names, listing.names, below=True)

    @property
    def found(self) -> Mapping[str, str]:
        """The file of each image that has one, relative to the folder."""
        return self._found

    @property
    def extra(self) -> list[str]:
        """Files that belong to no image."""
        used = set(self._found.values())
        return [file for file in self._files if file not in used]

    def draw(self, captions: Sequence[Caption]) -> list[Image.Image | Failure]:
        """Return the images, opened."""
        return [self._open(caption.name) for caption in captions]

    def _open(self, name: str) -> Image.Image | Failure:
        if name not in self._found:
            return Failure("the folder has no redraw of it")
        try:
            return open_image(self.folder / self._found[name])
        except UnreadableImage as error:
            return Failure("unreadable redraw", str(error))


def _by_name(
    folder: Path, names: Sequence[str], files: Sequence[str], *, below: bool
) -> dict[str, str]:
    """Return each image's file; `below` the folder its path may begin with other folders."""
    by_path: dict[str, list[str]] = {}
    for file in files:
        for path in _paths_meant(file, below=below):
            by_path.setdefault(path, []).append(file)
    found: dict[str, str] = {}
    for name in names:
        fitting = by_path.get(PurePosixPath(name).with_suffix("").as_posix(), [])
        if len(fitting) > 1:
            raise UsageError(
                f"{folder} has {len(fitting)} redraws of {name}, {fitting[0]} and {fitting[1]} "
                "among them: expected one file for each image"
            )
        if fitting:
            found[name] = fitting[0]
    return found


def _paths_meant(file: str, *, below: bool) -> set[str]:
    """Return the paths, without suffix, of images whose redraw a file may be."""
    path = PurePosixPath(file).with_suffix("")
    paths = {path, path.with_name(path.name.removeprefix(PREFIX) or path.name)}
    starts = range(len(path.parts)) if below else (0,)
    return {PurePosixPath(*x.parts[i:]).as_posix() for x in paths for i in starts}
