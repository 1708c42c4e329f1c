"""The device that the models compute on."""

import torch

from uae.core.errors import EnvironmentFault, UsageError
from uae.core.ranks import current


def device_of(name: str) -> str:
    """Resolve `auto`: a GPU if there is one, for each process where several share the work.

    Raises:
        UsageError: There is no such kind of device.
        EnvironmentFault: The device is not there.
    """
    if name == "auto":
        return _own_gpu() if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device {name!r}: expected auto, cpu, cuda or cuda:1") from error
    num_gpus = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= num_gpus:
        there = f"{num_gpus} GPUs" if num_gpus else "no GPU"
        raise EnvironmentFault(f"device {name}: torch finds {there}; expected cpu, or auto")
    return name


def _own_gpu() -> str:
    ranks, num_gpus = current(), torch.cuda.device_count()
    if ranks.size == 1:
        return "cuda"
    if ranks.local >= num_gpus:
        raise EnvironmentFault(
            f"LOCAL_RANK is {ranks.local} and torch finds {num_gpus} GPUs: start torchrun with "
            f"--nproc-per-node {num_gpus}, or give --device cuda to let the processes share one"
        )
    return f"cuda:{ranks.local}"
