"""Compilation as in `placement.compile`, up to the graphs: no C++ compiler takes part."""

import pytest
import torch

quiet = pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf Tensor:UserWarning"  # torch's own
)


def compile_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let blocks be compiled by graphs of torch's own operations, forward and backward."""
    plain = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **given: plain(self, backend="aot_eager", **given)
    )
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
