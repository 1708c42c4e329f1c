"""Compiles the blocks of a model: each kind once, and not the loops around them."""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.compiler.config
from torch import nn

_MAX_GRAPHS = 64
"""Of all kinds of block, each with and without gradients, adapters and masks."""


def compile_blocks(blocks: nn.Module) -> None:
    """Compile what stands in the lists of a module, e.g. the blocks of a transformer, in place.

    One graph serves all shapes: with graphs for some shapes of their own a batch could be scored by
    one and learned from by another.
    """
    torch.compiler.config.recompile_limit = _MAX_GRAPHS
    for part in (blocks, *blocks.children()):
        if isinstance(part, nn.ModuleList):
            for block in part:
                block.compile(dynamic=True)


def uncompiled(is_compiled: bool) -> AbstractContextManager[object]:
    """Within this context compiled blocks run as they are, e.g. with a cache that grows."""
    return torch.compiler.set_stance("force_eager") if is_compiled else nullcontext()
