"""Backends by kind, and what each role makes of `KIND:NAME`."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from uae.backends.answers import MAX_NEW_TOKENS, ChatAnswers, McqModel
from uae.backends.diffusers import Diffusers
from uae.backends.endpoint import Endpoint
from uae.backends.files import CaptionsFile, ImageFolder
from uae.backends.judge import ChatJudge, Judge
from uae.backends.reference import Given, Spec
from uae.backends.roles import Backend, Captioner, Generator
from uae.backends.transformers import Transformers
from uae.backends.uae import Uae, encoder_stamp
from uae.core.provenance import ModelStamp
from uae.models.hub import found
from uae.models.settings import resolve

CAPTIONER, GENERATOR = "--captioner", "--generator"

BACKENDS: dict[str, type[Backend]] = {
    "uae": Uae,
    "vlm": Transformers,
    "diffusers": Diffusers,
    "endpoint": Endpoint,
    "file": CaptionsFile,
    "folder": ImageFolder,
}
"""What stands before the colon, and what it means to every command."""


def kinds(role: type) -> tuple[str, ...]:
    """Return the kinds that can do something: `Captioner`, `Generator`, `Chat` or `Judging`."""
    return tuple(kind for kind, backend in BACKENDS.items() if role in backend.__mro__)


def captioner_of(spec: Spec, given: Given, images: Mapping[str, Path]) -> Callable[[], Captioner]:
    """Return what loads a captioner of these images; raises as `Backend.open`."""
    return BACKENDS[spec.kind].open(spec, replace(given, images=images, draws=False))


def generator_of(spec: Spec, given: Given, images: Mapping[str, Path]) -> Callable[[], Generator]:
    """Return what loads a generator of these images; raises as `Backend.open`."""
    return BACKENDS[spec.kind].open(spec, replace(given, images=images))


def answers_of(
    spec: Spec, given: Given, max_new_tokens: int = MAX_NEW_TOKENS
) -> Callable[[], McqModel]:
    """Return what loads a model that answers questions; raises as `Backend.open`."""
    load = BACKENDS[spec.kind].open(spec, replace(given, draws=False))
    return lambda: ChatAnswers(load(), max_new_tokens)


def judge_of(spec: Spec, given: Given) -> Judge:
    """Load a judge; raises as `Backend.open`. `local` is another name of `vlm`."""
    kind = "vlm" if spec.kind == "local" else spec.kind
    return ChatJudge(BACKENDS[kind].open(spec, given)())


def stamp_of(spec: Spec, given: Given) -> ModelStamp:
    """Say what the results of a model, a file or a folder depend on; raises as its `stamp_of`."""
    return BACKENDS[spec.kind].stamp_of(spec, given)


def answers_stamp(spec: Spec, given: Given, max_new_tokens: int = MAX_NEW_TOKENS) -> ModelStamp:
    """Say what a model's answers depend on, without loading it.

    Raises:
        UsageError: It is not there.
    """
    if spec.is_ours:
        with found(spec.flag, spec.name):
            return encoder_stamp(spec.name, Path(resolve(spec.name)), max_new_tokens)
    return replace(stamp_of(spec, given), options={"max_new_tokens": max_new_tokens})
