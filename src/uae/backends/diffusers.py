"""Text-to-image pipelines of diffusers."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from diffusers import AutoPipelineForText2Image
from diffusers.utils.logging import disable_progress_bar
from PIL import Image
from transformers import PreTrainedTokenizerBase

from uae.backends.failure import Failure
from uae.backends.reference import Given, Spec, name_of, weights_stamp
from uae.backends.roles import Caption, Generator
from uae.core.device import device_of
from uae.core.errors import UsageError
from uae.core.provenance import ModelStamp
from uae.models.dit.table import PIPELINES
from uae.models.hub import found
from uae.models.plain_text import BLANK, PlainText, blanked, readers_of
from uae.runs.cut_captions import Reader

_NO_LIMIT = 10**6  # what stands for none is larger


def _reader_of(pipeline: Any, tokenizers: Mapping[str, PreTrainedTokenizerBase]) -> Reader | None:
    """Return the reader of the longest captions, by the family or else by the tokenizers."""
    if spec := PIPELINES.get(type(pipeline).__name__):
        given = inspect.signature(type(pipeline).__call__).parameters.get("max_sequence_length")
        limit = min(spec.max_tokens, given.default) if given else spec.max_tokens
        return _reader(tokenizers[spec.tokenizer], limit)
    limits = {
        n: t.model_max_length for n, t in tokenizers.items() if t.model_max_length < _NO_LIMIT
    }
    if not limits:
        return None
    longest = max(limits, key=lambda name: limits[name])
    return _reader(tokenizers[longest], limits[longest])


def _reader(tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> Reader:
    plain = PlainText(tokenizer)
    return Reader(lambda text: len(plain.token_ids(plain.broken(text, BLANK))), max_tokens)


class Diffusers(Generator):
    """A pipeline, by its own defaults."""

    in_batches = False

    def __init__(
        self,
        pipeline: Callable[..., Any],
        seed: int,
        size: tuple[int, int] | None = None,
        plain: Sequence[PlainText] = (),
        reader: Reader | None = None,
    ) -> None:
        """Hold the pipeline.

        Args:
            pipeline: Draws a prompt.
            seed: Of the noise.
            size: Width and height in pixels, by default its own.
            plain: Of its tokenizers: a blank keeps their control tokens out of captions.
            reader: Its reader of the longest captions.
        """
        self.reader = reader
        self._pipeline = pipeline
        self._plain = plain
        self._seed = seed
        self._size = {} if size is None else {"width": size[0], "height": size[1]}

    @classmethod
    def open(cls, spec: Spec, given: Given) -> "Callable[[], Diffusers]":
        """Return what loads it; see `Backend.open`."""
        return lambda: cls._load(spec, given)

    @classmethod
    def stamp_of(cls, spec: Spec, given: Given) -> ModelStamp:
        """Say what its results depend on; see `Backend.stamp_of`."""
        return weights_stamp(spec, given, name_of(given.dtype))

    @classmethod
    def _load(cls, spec: Spec, given: Given) -> "Diffusers":
        disable_progress_bar()
        try:
            with found(spec.flag, spec.shown):
                pipeline = AutoPipelineForText2Image.from_pretrained(
                    spec.name, dtype=given.dtype, revision=spec.commit
                )
        except UsageError:
            raise
        except ValueError as error:  # diffusers' word for another kind of pipeline
            raise UsageError(
                f"{spec.flag} {spec.shown} is no text-to-image pipeline: {error}"
            ) from error
        pipeline.set_progress_bar_config(disable=True)
        tokenizers = {
            name: part
            for name, part in pipeline.components.items()
            if isinstance(part, PreTrainedTokenizerBase)
        }
        plain = readers_of(tokenizers.values())
        pipeline.to(device_of(given.device))
        return cls(pipeline, given.seed, given.size, plain, _reader_of(pipeline, tokenizers))

    def draw(self, captions: Sequence[Caption]) -> list[Image.Image | Failure]:
        """Return drawings, one at a time; each has a generator of its own, on the CPU."""
        return [self._draw(caption) for caption in captions]

    def _draw(self, caption: Caption) -> Image.Image | Failure:
        noise = caption.noise(self._seed)
        text = blanked(caption.text, self._plain)
        drawn = self._pipeline(prompt=text, generator=noise, **self._size)
        if any(getattr(drawn, "nsfw_content_detected", None) or ()):  # a black image stands for it
            return Failure("generator: refused", "by the pipeline's safety checker")
        return drawn.images[0]
