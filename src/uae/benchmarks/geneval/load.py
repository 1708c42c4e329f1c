"""The judges of GenEval as a command line names them: a detector and a CLIP."""

from pathlib import Path

from transformers import AutoTokenizer, CLIPModel

from uae.benchmarks.geneval.colors import ColorClassifier
from uae.benchmarks.geneval.detector import Detector, Variant
from uae.benchmarks.geneval.run import Judges
from uae.core.device import device_of
from uae.core.errors import UsageError
from uae.core.provenance import weights_digest
from uae.models.hub import found
from uae.rewards.loading import load_similarity


def load_judges(detector: str, variant: Variant, clip: str, device: str) -> Judges:
    """Load detector and colour classifier.

    Raises:
        UsageError: One is not there, or is another kind of model.
    """
    place = device_of(device)
    with found("--detector", detector):
        if variant == "geneval":
            judge = Detector.from_mmdet(Path(detector), place)
        else:
            judge = Detector.from_pretrained(detector, place)
    with found("--clip", clip):
        similarity = load_similarity(clip, place)
        model = similarity.model
        if not isinstance(model, CLIPModel):
            raise UsageError(f"--clip {clip} is a {type(model).__name__}: expected CLIP")
        tokenizer = AutoTokenizer.from_pretrained(clip)
    return Judges(
        judge,
        ColorClassifier(similarity, model, tokenizer),
        names={"detector": detector, "clip": clip},
        weights={"detector": weights_digest(judge.model), "clip": weights_digest(model)},
    )
