"""Noise levels that a sampler visits: SD3's static shift, exactly as diffusers computes it.

Source: SD3, arXiv 2403.03206, equation 23; diffusers `FlowMatchEulerDiscreteScheduler`, whose
`set_timesteps` shifts *twice*: it spaces sigmas evenly between the ends of the shifted training
schedule and shifts the result again. Released models are tuned to that, so we do the same.
"""

import torch
from jaxtyping import Float
from torch import Tensor

NUM_TRAIN_SIGMAS = 1000
"""Sigmas of the training schedule; its smallest, 1 / 1000, is where sampling stops before 0."""


def shifted(sigma: Float[Tensor, "*n"], shift: float) -> Float[Tensor, "*n"]:
    """shift sigma / (1 + (shift - 1) sigma): more time at high noise for shift > 1."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def sigmas(num_steps: int, shift: float) -> Float[Tensor, " {num_steps+1}"]:
    """The decreasing sigmas of `num_steps` sampling steps, float32: first 1, last 0.

    For a few shifts the first value is some roundings away from 1, as it is in diffusers.

    Raises:
        ValueError: For fewer than one step or a shift that is not positive.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps = {num_steps}: a sampler needs at least 1 step")
    if shift <= 0:
        raise ValueError(f"shift = {shift}: must be positive (1 for none, 3 for SD3)")
    ends = shifted(torch.tensor([NUM_TRAIN_SIGMAS, 1]) / NUM_TRAIN_SIGMAS, shift)
    start, stop = (float(end) * NUM_TRAIN_SIGMAS for end in ends)  # float64 from here, as there
    timesteps = torch.linspace(start, stop, num_steps, dtype=torch.float64)
    return torch.cat([shifted(timesteps / NUM_TRAIN_SIGMAS, shift).float(), torch.zeros(1)])
