"""The schedule is diffusers', bit for bit."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from uae.flow.schedule import shifted, sigmas


@pytest.mark.parametrize("shift", [0.201, 0.211, 0.5, 1.0, 1.15, 3.0, 5.0, 12.0])
@pytest.mark.parametrize("num_steps", [1, 2, 4, 8, 10, 28, 40, 999])
def test_equals_diffusers(num_steps: int, shift: float):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(num_steps)
    ours = sigmas(num_steps, shift)
    assert ours.dtype == torch.float32
    assert torch.equal(ours, scheduler.sigmas)


@pytest.mark.parametrize("shift", [0.201, 0.211, 1.0, 3.0])
def test_falls_from_one_to_zero(shift: float):
    schedule = sigmas(20, shift)
    assert abs(schedule[0].item() - 1) < 1e-6  # some shifts start a few roundings away
    assert schedule[-1] == 0
    assert (schedule.diff() < 0).all()


def test_shift_is_a_shift_of_the_logit():
    sigma = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    moved = shifted(sigma, 3.0).logit() - sigma.logit()
    torch.testing.assert_close(moved, torch.full_like(moved, 3.0).log())


@pytest.mark.parametrize(
    ("num_steps", "shift", "key"),
    [(0, 3.0, "num_steps"), (-1, 3.0, "num_steps"), (8, 0.0, "shift")],
)
def test_refuses(num_steps: int, shift: float, key: str):
    with pytest.raises(ValueError, match=key):
        sigmas(num_steps, shift)
