"""What answers multiple-choice questions, as a command line names it: `KIND:NAME`, or NAME alone.

What the answers depend on is told before anything is loaded, so that a folder of another run is
refused at once.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from uae.backends import own as loop
from uae.backends.answers import MAX_NEW_TOKENS, McqModel
from uae.backends.encoder_answers import EncoderAnswers, encoder_stamp
from uae.backends.endpoint_answers import EndpointAnswers
from uae.backends.load import load_vlm
from uae.backends.reference import Given, Spec, stamp_of
from uae.backends.vlm_answers import VlmAnswers
from uae.core.provenance import ModelStamp
from uae.models.hub import found
from uae.models.settings import resolve

MODELS = ("uae", "vlm", "endpoint")


def answers_of(
    spec: Spec, given: Given, max_new_tokens: int = MAX_NEW_TOKENS
) -> Callable[[], McqModel]:
    """Return what loads a model; a folder of ours and an address are checked at once.

    Raises:
        UsageError: There is no such folder or address, or, when loaded, no such model.
    """
    if spec.kind == "endpoint":
        answers = EndpointAnswers(spec.endpoint(given), max_new_tokens)
        return lambda: answers
    if spec.is_ours:
        spec.check()
        return lambda: EncoderAnswers(loop.load(spec.name, given.device).encoder, max_new_tokens)
    return lambda: VlmAnswers(load_vlm(spec, given), max_new_tokens)


def answers_stamp(spec: Spec, given: Given, max_new_tokens: int = MAX_NEW_TOKENS) -> ModelStamp:
    """Say what a model's answers depend on, without loading it.

    Raises:
        UsageError: It is not there.
    """
    if spec.is_ours:
        with found(spec.flag, spec.name):
            return encoder_stamp(spec.name, Path(resolve(spec.name)), max_new_tokens)
    return replace(stamp_of(spec, given), options={"max_new_tokens": max_new_tokens})
