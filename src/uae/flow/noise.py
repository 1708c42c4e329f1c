"""Random numbers that belong to a sample, not to a batch.

One generator per sample makes a rollout independent of how samples are split into micro-batches,
ordered, or spread over ranks: 1 x 8 and 8 x 1 draw the same noise. Generators live on the CPU, so
that the noise does not depend on the device either.
"""

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Float32
from torch import Tensor


def stream(*key: int | str) -> torch.Generator:
    """A CPU generator that is a function of its key alone.

    Samples that share a key share their noise: leave the caption's index out of the key to give all
    captions of an image the same starting noise (common random numbers).

    Args:
        *key: What names the draw, e.g. stream(seed, "redraw", step, image_index, redraw_index).
    """
    name = repr([str(part) for part in key])  # numpy's integers have a repr of their own
    digest = hashlib.blake2b(name.encode(), digest_size=4).digest()
    # torch seeds its Mersenne twister with 32 bits, whatever the size of the integer
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


def gaussian(
    generators: Sequence[torch.Generator], shape: Sequence[int]
) -> Float32[Tensor, " n *latent"]:
    """Draw N(0, 1) of `shape` from each generator, one row per generator.

    Args:
        generators: On the CPU; each moves on by one draw. A generator that stands in the list twice
            gives different rows.
        shape: Of one sample.
    """
    return torch.stack([torch.randn(*shape, generator=generator) for generator in generators])
