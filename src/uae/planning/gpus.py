"""GPUs by name: what a plan is measured against.

Rates are the makers' for dense products with sums in float32; float32 is that without TF32, which
torch leaves off. Memory is what programs can have, in GiB.
"""

from dataclasses import dataclass

from uae.core.errors import UsageError

SHARE = 0.4
"""Of the matrix rate that steps reach. Compiled FLUX samples at 0.61, plainly at 0.39; published RL
of flow models at 0.08 to 0.26."""
RESERVED_GIB = 1.0
"""For the driver's context and libraries."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU.

    Attributes:
        name: Of the product.
        memory_gib: For programs.
        bfloat16_tflops: Of matrix products in bfloat16, TFLOP/s.
        float32_tflops: In float32.
        bandwidth_gb_s: Of its memory, 1e9 bytes a second.
    """

    name: str
    memory_gib: float
    bfloat16_tflops: int
    float32_tflops: float
    bandwidth_gb_s: int


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("rtx-3090", 23.6, 71, 35.6, 936),
        Gpu("rtx-4090", 23.5, 165, 82.6, 1008),
        Gpu("rtx-5090", 31.4, 209, 104.8, 1792),
        Gpu("a10", 22.1, 125, 31.2, 600),
        Gpu("l4", 22.0, 121, 30.3, 300),
        Gpu("l40s", 44.4, 362, 91.6, 864),
        Gpu("a6000", 47.5, 155, 38.7, 768),
        Gpu("a100-40gb", 39.4, 312, 19.5, 1555),
        Gpu("a100-80gb", 79.2, 312, 19.5, 2039),
        Gpu("h100", 79.1, 989, 66.9, 3350),
        Gpu("h200", 139.8, 989, 66.9, 4800),
        Gpu("b200", 178.0, 2250, 75.0, 7700),
        Gpu("mi300x", 191.5, 1307, 163.4, 5300),
    )
}


def gpu_of(name: str) -> Gpu:
    """Return a GPU by name.

    Raises:
        UsageError: None is known of that name; names those that are.
    """
    if name not in GPUS:
        raise UsageError(f"--gpu {name!r} is not known: expected one of {', '.join(GPUS)}")
    return GPUS[name]
