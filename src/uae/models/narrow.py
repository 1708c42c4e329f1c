# bitsandbytes is optional
# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
"""Frozen weights held in fewer bits than the arithmetic has: float8 or 4-bit NormalFloat (nf4).

Narrow are the linear layers of blocks, nearly all of a transformer's weights; norms, embeddings,
heads, vision towers, text encoders and vaes stay bfloat16. Adapters are made afterwards, and are
float32.
"""

import importlib.util
from typing import Literal

import torch
from diffusers import ModelMixin
from diffusers.hooks import apply_layerwise_casting
from torch import nn

from uae.core.errors import EnvironmentFault, UsageError
from uae.models.parts import HALVES
from uae.models.settings import ModelSettings

Narrow = Literal["float8", "nf4"]


def check_narrow(precision: str) -> None:
    """Look for what a precision needs.

    Raises:
        EnvironmentFault: bitsandbytes is not installed.
    """
    if precision == "nf4" and importlib.util.find_spec("bitsandbytes") is None:
        raise EnvironmentFault(
            "placement.frozen: nf4 needs the package bitsandbytes: pip install "
            '"uae[nf4]", or set it to float8'
        )


def check_elsewhere(settings: ModelSettings, what: str) -> None:
    """Refuse a model whose halves lie in its own folder, where each stage writes them anew.

    Raises:
        UsageError: They do.
    """
    if missing := [half for half in HALVES if half not in settings.parts]:
        raise UsageError(
            f"{what} rounds weights that the model's own folder holds ({', '.join(missing)}), and "
            "would be written for them: expected a model that refers to its halves, as `uae join` "
            "makes one without --copy"
        )


def narrow_blocks(model: nn.Module, precision: Narrow) -> None:
    """Hold the blocks of a model in fewer bits, in place; nf4 once they move to their device.

    Args:
        model: A transformer of diffusers, or the list of a language model's blocks.
        precision: How.

    Raises:
        EnvironmentFault: bitsandbytes is not installed.
    """
    check_narrow(precision)
    if precision == "float8":
        if isinstance(model, ModelMixin):
            # which knows its delicate layers
            model.enable_layerwise_casting(torch.float8_e4m3fn, torch.bfloat16)
        else:
            apply_layerwise_casting(model, torch.float8_e4m3fn, torch.bfloat16)
        return
    for part in (model, *model.children()):
        if isinstance(part, nn.ModuleList):
            _to_nf4(part)


def _to_nf4(blocks: nn.ModuleList) -> None:
    from bitsandbytes.nn import Linear4bit, Params4bit

    linears = [(n, m) for n, m in blocks.named_modules() if isinstance(m, nn.Linear)]
    for name, plain in linears:
        narrow = Linear4bit(
            plain.in_features,
            plain.out_features,
            plain.bias is not None,
            compute_dtype=torch.bfloat16,
            quant_type="nf4",
            device="meta",
        )
        narrow.weight = Params4bit(plain.weight.data, requires_grad=False, quant_type="nf4")
        narrow.bias = plain.bias
        blocks.set_submodule(name, narrow)
