"""Captioners and generators as a command line names them, loaded by kind."""

from collections.abc import Callable, Mapping
from pathlib import Path

from diffusers import AutoPipelineForText2Image
from diffusers.utils.logging import disable_progress_bar
from transformers import PreTrainedTokenizerBase

from uae.backends import loading as judges
from uae.backends.captioners import (
    Captioner,
    CaptionsFile,
    EncoderCaptioner,
    EndpointCaptioner,
    VlmCaptioner,
)
from uae.backends.generators import (
    DecoderGenerator,
    EndpointGenerator,
    Generator,
    ImageFolder,
    PipelineGenerator,
)
from uae.backends.local_vlm import LocalVlm
from uae.backends.own import load
from uae.backends.reference import Given, Spec
from uae.core.device import device_of
from uae.core.errors import UsageError
from uae.models.hub import found
from uae.models.plain_text import PlainText

CAPTIONER, GENERATOR = "--captioner", "--generator"
CAPTIONERS = ("uae", "vlm", "endpoint", "file")
GENERATORS = ("uae", "diffusers", "endpoint", "folder")


def captioner_of(spec: Spec, given: Given, images: Mapping[str, Path]) -> Callable[[], Captioner]:
    """Return what loads a captioner of these images; file and address are checked at once.

    Raises:
        UsageError: There is no such file or address, or, when loaded, no such model.
    """
    if spec.kind == "file":
        if not Path(spec.name).is_file():
            raise UsageError(f"{spec.flag} file:{spec.name} does not exist")
        captions = CaptionsFile(Path(spec.name), images)
        return lambda: captions
    if spec.kind == "endpoint":
        described = EndpointCaptioner(spec.endpoint(given), given.prompt, given.seed)
        return lambda: described
    if spec.kind == "uae":
        spec.check()
        return lambda: EncoderCaptioner(load(spec.name, given.device), given.seed)
    return lambda: VlmCaptioner(load_vlm(spec, given), given.prompt, given.seed)


def load_vlm(spec: Spec, given: Given) -> LocalVlm:
    """Load a vision-language model of transformers.

    Raises:
        UsageError: There is none, or it is another kind of model.
    """
    revision = spec.commit or "main"
    return judges.load_vlm(spec.flag, spec.shown, spec.name, given.device, given.dtype, revision)


def generator_of(spec: Spec, given: Given, images: Mapping[str, Path]) -> Callable[[], Generator]:
    """Return what loads a generator of these images; folder and address are checked at once.

    Raises:
        UsageError: There is no such folder or address, or, when loaded, no such model.
    """
    if spec.kind == "folder":
        redraws = ImageFolder(Path(spec.name), list(images))
        return lambda: redraws
    if spec.kind == "endpoint":
        drawn = EndpointGenerator(spec.endpoint(given), given.seed, given.size)
        return lambda: drawn
    if spec.kind == "uae":
        spec.check()
        return lambda: DecoderGenerator(load(spec.name, given.device), given.seed)

    def load_pipeline() -> Generator:
        disable_progress_bar()
        try:
            with found(spec.flag, spec.shown):
                pipeline = AutoPipelineForText2Image.from_pretrained(
                    spec.name, torch_dtype=given.dtype, revision=spec.commit
                )
        except UsageError:
            raise
        except ValueError as error:  # diffusers' word for another kind of pipeline
            raise UsageError(
                f"{spec.flag} {spec.shown} is no text-to-image pipeline: {error}"
            ) from error
        pipeline.set_progress_bar_config(disable=True)
        tokenizers = [
            PlainText(part)
            for part in pipeline.components.values()
            if isinstance(part, PreTrainedTokenizerBase)
        ]
        pipeline.to(device_of(given.device))
        return PipelineGenerator(pipeline, given.seed, given.size, tokenizers)

    return load_pipeline
