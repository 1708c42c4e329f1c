# pyright: reportMissingImports=false
"""lmms-eval's model plug-in (EvolvingLMMs-Lab/lmms-eval, entry-point group `lmms_eval.models`).

lmms-eval is no dependency: it finds this module by its entry point, and is imported only then.
"""

from typing import Any

MODEL = "uae.benchmarks.lmms.model"


def manifests() -> Any:
    """Return lmms-eval's description of the model `uae`.

    Chat tasks generate only, so those that compare log-likelihoods need `--force_simple`.
    """
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(
        model_id="uae",
        chat_class_path=f"{MODEL}.UaeChat",
        simple_class_path=f"{MODEL}.UaeSimple",
    )
