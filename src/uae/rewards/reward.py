"""A reward, and the weighted mean of several."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Reward(Protocol):
    """Scores redraws; a higher one is better.

    scores = reward(originals, redraws, captions)
    """

    def __call__(
        self,
        originals: Float[Tensor, "p 3 h w"],
        redraws: Float[Tensor, "n 3 y x"],
        captions: Sequence[str],
    ) -> Float[Tensor, " n"]:
        """Return a number for each redraw; NaN excludes it. Pixels are in [0, 1].

        Args:
            originals: n is a multiple of p, and redraws of one image stand together.
            redraws: Gradients may be asked for: the cold start does.
            captions: One for each redraw.
        """
        ...


LoadReward = Callable[[str, str], Reward]
"""Loads a reward from its place, to a device."""


class Rewarder:
    """The reward of a run: a weighted mean of rewards, by name."""

    def __init__(self, rewards: Mapping[str, tuple[Reward, float]]) -> None:
        self._rewards = rewards
        self._total = sum(weight for _, weight in rewards.values())

    def mean(
        self,
        originals: Float[Tensor, "p 3 h w"],
        redraws: Float[Tensor, "n 3 y x"],
        captions: Sequence[str],
    ) -> Float[Tensor, " n"]:
        """Return the weighted mean; gradients reach the redraws. See `Reward`.

        There may be fewer captions than redraws, as long as those of one stand together.
        """
        repeats = len(redraws) // len(captions)
        captions = [caption for caption in captions for _ in range(repeats)]
        total = torch.zeros(len(redraws), device=redraws.device)
        for reward, weight in self._rewards.values():
            total = total + weight / self._total * reward(originals, redraws, captions)
        return total

    @torch.no_grad()
    def __call__(
        self,
        originals: Float[Tensor, "p 3 h w"],
        redraws: Float[Tensor, "n 3 y x"],
        captions: Sequence[str],
    ) -> Float[Tensor, " n"]:
        """Score redraws. One that is not finite gets NaN, which excludes it: never 0."""
        failed = ~torch.isfinite(redraws.flatten(1)).all(1)
        rewards = self.mean(originals.to(redraws.device), redraws, captions)
        return rewards.masked_fill(failed, float("nan")).cpu()
