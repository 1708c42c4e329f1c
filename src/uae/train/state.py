"""Optimizers and random generators as tensors and JSON, so that a resumed run is bitwise the same.

Optimizer state is kept by parameter *name*: an index would silently pair the wrong tensors once a
layer is added. Learning rates and other settings are not kept: they follow from recipe and step.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from uae.errors import UsageError


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, names: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Return an optimizer's state as `{entry}/{parameter name}`, e.g. `exp_avg/layers.0.weight`.

    Args:
        optimizer: One whose state is tensors only: AdamW, Muon, SGD.
        names: At least every parameter of the optimizer.
    """
    result: dict[str, Tensor] = {}
    for name, parameter in _ordered(optimizer, names):
        for entry, value in optimizer.state.get(parameter, {}).items():
            assert isinstance(value, Tensor), f"{entry} of {name} is {type(value).__name__}"
            result[f"{entry}/{name}"] = value
    return result


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    names: Mapping[str, nn.Parameter],
    tensors: Mapping[str, Tensor],
) -> None:
    """Put back what `optimizer_tensors` gave; the tensors are copied.

    Raises:
        UsageError: A tensor belongs to no parameter here, or has another shape.
    """
    order = [name for name, _ in _ordered(optimizer, names)]
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        entry, _, name = key.partition("/")
        if name not in order:
            raise UsageError(
                f"optimizer state {key} of the checkpoint belongs to no trained parameter: it was "
                "saved with another recipe"
            )
        if value.ndim and value.shape != names[name].shape:
            raise UsageError(
                f"optimizer state {key} has shape {tuple(value.shape)}, its parameter "
                f"{tuple(names[name].shape)}: the checkpoint was saved with another recipe"
            )
        states.setdefault(order.index(name), {})[entry] = value.clone()
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})


def _ordered(
    optimizer: torch.optim.Optimizer, names: Mapping[str, nn.Parameter]
) -> list[tuple[str, nn.Parameter]]:
    """List an optimizer's parameters with their names, in the order of its state dict."""
    name_of = {id(parameter): name for name, parameter in names.items()}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return [(name_of[id(p)], p) for p in parameters]


def rng_state(generators: Mapping[str, torch.Generator]) -> dict[str, Tensor]:
    """Return the state of each generator; `torch.default_generator` may be among them."""
    return {name: generator.get_state() for name, generator in generators.items()}


def restore_rng_state(
    generators: Mapping[str, torch.Generator], tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `rng_state` gave."""
    for name, generator in generators.items():
        generator.set_state(tensors[name].clone())


def numpy_rng_state(generators: Mapping[str, np.random.Generator]) -> dict[str, Any]:
    """Return the state of each generator of `np.random.default_rng` (PCG64) as JSON."""
    return {name: dict(generator.bit_generator.state) for name, generator in generators.items()}


def restore_numpy_rng_state(
    generators: Mapping[str, np.random.Generator], state: Mapping[str, Any]
) -> None:
    """Put back what `numpy_rng_state` gave."""
    for name, generator in generators.items():
        generator.bit_generator.state = state[name]
