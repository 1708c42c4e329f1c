"""What writes the captions: our encoder, a model behind an address, or a file of captions."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from uae.backends.endpoint import Endpoint, EndpointFailure
from uae.backends.local_vlm import LocalVlm
from uae.core.errors import UsageError
from uae.core.identity import file_digest
from uae.core.memory import OUT_OF_MEMORY, is_out_of_memory, wanted
from uae.core.provenance import ModelStamp
from uae.data.folder import NamedImage, fit_square
from uae.data.folder_captions import coverage
from uae.data.given_captions import read_given_captions
from uae.data.image_names import ImageNames, rows_by_image
from uae.models.unified import UnifiedAutoEncoder
from uae.models.vlm.sampling import caption_stream, uniforms

MAX_NEW_TOKENS = 1024
"""Longest caption of a model that is not ours."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an image has no caption or no redraw: a reason that many share, and this one's own."""

    reason: str
    detail: str = ""
    can_retry: bool = False

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


@dataclass(frozen=True, slots=True)
class Written:
    """A caption. It is truncated when it reached the captioner's limit without an end."""

    text: str
    is_truncated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of a captioner.

    Attributes:
        instruction: Added to the prompt, "" for the plain one.
        temperature: 0 takes the most probable words.
        draw: Which of several captions of an image; each has words of its own.
    """

    instruction: str = ""
    temperature: float = 0.0
    draw: int = 0


@runtime_checkable
class Captioner(Protocol):
    """Describes images."""

    in_batches: bool
    """Whether images are described together, so that a caption's last digits, and now and then a
    word, depend on which."""

    def write(self, items: Sequence[NamedImage], request: Request) -> Sequence[Written | Failure]:
        """Return a caption of each image, or why there is none."""
        ...


class EncoderCaptioner:
    """Our encoder. A caption depends on the image and its name, not on its batch."""

    in_batches = True

    def __init__(self, model: UnifiedAutoEncoder, seed: int) -> None:
        """Hold the model; images are cropped to its square, as in training."""
        self._encoder = model.encoder
        self._size_px = model.decoder.size_px
        self._max_new_tokens = model.settings.max_new_tokens
        self._seed = seed

    @torch.no_grad()
    def write(self, items: Sequence[NamedImage], request: Request) -> list[Written | Failure]:
        """Return captions; a caption without words is a failure."""
        prompt = f"{self._encoder.caption_prompt} {request.instruction}"
        questions = [prompt] * len(items) if request.instruction else None
        draws = [caption_stream(self._seed, item.name, request.draw) for item in items]
        captions = self._encoder.sample(
            self._encoder.prompts(
                [fit_square(item.image, self._size_px) for item in items], questions
            ),
            uniforms(draws, self._max_new_tokens) if request.temperature else None,
            temperature=request.temperature or 1.0,
            max_new_tokens=self._max_new_tokens,
        )
        cut = captions.truncated.tolist()
        return [written(*caption) for caption in zip(captions.texts, cut, strict=True)]


class EndpointCaptioner:
    """A model behind an OpenAI-compatible address."""

    in_batches = False

    def __init__(self, endpoint: Endpoint, prompt: str, seed: int) -> None:
        self._endpoint = endpoint
        self._prompt = prompt
        self._seed = seed

    def write(self, items: Sequence[NamedImage], request: Request) -> list[Written | Failure]:
        """Return captions, one request each; a cut one is kept as it is."""
        return [self._write(item, request) for item in items]

    def _write(self, item: NamedImage, request: Request) -> Written | Failure:
        prompt = f"{self._prompt} {request.instruction}".strip()
        try:
            reply = self._endpoint.chat(
                [prompt, item.image],
                max_tokens=MAX_NEW_TOKENS,
                temperature=request.temperature,
                seed=self._seed + request.draw if request.temperature else None,
            )
            return written(reply.text, reply.is_cut)
        except EndpointFailure as failure:
            return Failure(f"captioner: {failure.reason}", failure.detail, can_retry=True)


class VlmCaptioner:
    """A vision-language model of transformers."""

    in_batches = False

    def __init__(self, vlm: LocalVlm, prompt: str, seed: int) -> None:
        self._vlm = vlm
        self._prompt = prompt
        self._seed = seed

    def write(self, items: Sequence[NamedImage], request: Request) -> list[Written | Failure]:
        """Return captions, one image at a time; the prompt stands after the image."""
        return [self._write_or_fail(item, request) for item in items]

    def _write_or_fail(self, item: NamedImage, request: Request) -> Written | Failure:
        try:
            return written(*self._write(item, request))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return Failure(f"captioner: {OUT_OF_MEMORY}", wanted(error), can_retry=True)

    def _write(self, item: NamedImage, request: Request) -> tuple[str, bool]:
        prompt = f"{self._prompt} {request.instruction}".strip()
        seed = caption_stream(self._seed, item.name, request.draw).initial_seed()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self._vlm.generate(
                [item.image], "", prompt, MAX_NEW_TOKENS, temperature=request.temperature
            )


class CaptionsFile:
    """Captions that are there already.

    Attributes:
        path: The file.
        texts: Of each image that has one.
        extra: Names in the file that belong to no image.
    """

    in_batches = False

    def __init__(self, path: Path, images: Mapping[str, Path]) -> None:
        """Read a file, and find the image of each caption, see `ImageNames`.

        Args:
            path: The file, see `given_captions`.
            images: Path of each image by its name.

        Raises:
            UsageError: It is wrong, or two captions may be meant for one image.
            EnvironmentFault: The package that reads it is not installed.
        """
        self.path = path
        names, root = ImageNames.of_paths(images)
        inside = Path(os.path.abspath(path.parent))
        beside = inside.relative_to(root).as_posix() if inside.is_relative_to(root) else ""
        found, unused = rows_by_image(names, read_given_captions(path), beside)
        for image, rows in found.items():
            if len(rows) > 1:
                raise UsageError(
                    f"{path} has two captions that may be meant for {image}, of {rows[0].name} and "
                    f"{rows[1].name}: expected one, or one of just that name"
                )
        self.texts = {image: text for image, [row] in found.items() if (text := row.caption)}
        self.extra = [row.name for row in unused]
        self._num_images = len(images)

    @property
    def summary(self) -> str:
        """Say how many images have a caption in it."""
        return coverage(len(self.texts), self._num_images, {str(self.path): len(self.texts)})

    def write(self, items: Sequence[NamedImage], request: Request) -> list[Written | Failure]:
        """Return the captions.

        Raises:
            UsageError: Something else than the one caption of each image is asked.
        """
        if request.instruction or request.draw:
            raise UsageError(
                f"{self.path} holds one caption an image: a budget can only cut it, not ask for "
                "another"
            )
        missing = Failure("the captions file has no caption for it")
        texts = self.texts
        return [Written(texts[item.name]) if item.name in texts else missing for item in items]


def written(text: str, is_truncated: bool) -> Written | Failure:
    """Return a caption; one without words is a failure."""
    return Written(text, is_truncated) if text else Failure("the caption is empty")


def captions_stamp(path: Path) -> ModelStamp:
    """Say what captions from a file depend on."""
    return ModelStamp(
        name=str(path), dtype="none", backend="captions", files={"captions": file_digest(path)}
    )
