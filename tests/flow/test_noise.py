"""Noise belongs to its key: not to a batch, an order or a process."""

import torch

from uae.flow.noise import gaussian, stream


def test_a_stream_is_a_function_of_its_key():
    keys = [(0, "redraw", 1), (1, "redraw", 0), (0, "sde", 1), (0, "redraw", 11), (0, "redraw1", 1)]
    draws = [torch.randn(4, generator=stream(*key)) for key in keys]
    again = [torch.randn(4, generator=stream(*key)) for key in keys]
    assert all(torch.equal(a, b) for a, b in zip(draws, again, strict=True))
    assert len({tuple(draw.tolist()) for draw in draws}) == len(keys)


def test_a_stream_is_the_same_everywhere():
    """A recorded value: resuming on another machine must go on with the same noise."""
    assert stream(3, "sde", 7).initial_seed() == 1871278423


def test_rows_do_not_depend_on_the_batch():
    def generators() -> list[torch.Generator]:
        return [stream(0, i) for i in range(8)]

    together = gaussian(generators(), (2, 3))
    apart = torch.cat([gaussian([generator], (2, 3)) for generator in generators()])
    assert torch.equal(together, apart)
    assert together.shape == (8, 2, 3)
