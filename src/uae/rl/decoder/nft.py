"""DiffusionNFT: good and bad redraws on the forward process (arXiv 2509.16117).

Two policies are made of the one that learns and the one that drew,
    v+ = (1 - beta) v_old + beta v_theta        v- = (1 + beta) v_old - beta v_theta,
and each image is matched by both, the more by the first the better it is:
    L = [ r |x_0(v+) - x_0|^2 + (1 - r) |x_0(v-) - x_0|^2 ] A_max / beta
    r = 1/2 + A / (2 A_max).
At v_theta = v_old its gradient is that of the advantage times the matching loss, whatever beta.
Each square is divided by its own mean absolute error, without gradient (NVlabs/DiffusionNFT).

Where we leave the paper: v_old is the decoder of the step's rollout, not a running average of older
ones, so that every step is on policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from uae.core.errors import RunFailed
from uae.flow.ode import ode_sample
from uae.flow.path import per_sample, to_x0
from uae.recipe.decoder_rl import DecoderRLConfig, NftConfig
from uae.rl.decoder.noisings import Noisings
from uae.rl.decoder.objective import Feedback, Policy, Start

_MAX_DISTANCE = 1e-4
"""Of velocities computed twice from the same weights, by the precision of the arithmetic."""
_MIN_ERROR = 1e-5


@dataclass(frozen=True, slots=True)
class Drawn:
    """Drawn images with their noisings, and the velocities there of the policy that drew."""

    noisings: Noisings
    velocity: Float32[Tensor, "n w *latent"]


@dataclass(frozen=True, slots=True)
class Distances:
    """Squared distances of velocities, mean over dimensions, for each term of a micro-batch."""

    to_old: Float[Tensor, "n w"]
    to_reference: Float[Tensor, "n w"]


@dataclass(frozen=True, slots=True)
class Nft:
    """Drawn images, matched by a better and by a worse policy."""

    settings: NftConfig
    shared: DecoderRLConfig
    shares_start: bool = False

    def draw(self, policy: Policy, start: Start) -> tuple[Float[Tensor, " n *latent"], Drawn]:
        """Draw by the deterministic sampler, and predict velocities at noisings of the images."""
        latents = ode_sample(policy.velocity, start.noise, start.sigmas)
        noisings = Noisings.draw(start, self.settings, latents)
        velocities = [policy.velocity(x, sigma) for x, _, sigma in noisings]
        return latents, Drawn(noisings, torch.stack(velocities, dim=1))

    def loss(
        self, policy: Policy, rollout: Drawn, feedback: Feedback
    ) -> tuple[Float[Tensor, ""], Distances]:
        """Match the images, good ones by the positive and bad ones by the negative policy."""
        limit, mix, beta = self.shared.max_advantage, self.settings.mix, self.shared.kl_beta
        x_0 = rollout.noisings.x_0
        share = (0.5 + feedback.advantages.to(x_0) / (2 * limit)).clamp(0, 1)
        losses: list[Tensor] = []
        to_old: list[Tensor] = []
        to_reference: list[Tensor] = []
        for k, (x, _, sigma) in enumerate(rollout.noisings):
            old, velocity = rollout.velocity[:, k], policy.velocity(x, sigma)
            good, bad = (
                matching_error(to_x0(x, old + sign * mix * (velocity - old), sigma), x_0)
                for sign in (1, -1)
            )
            loss = (share * good + (1 - share) * bad) * limit / mix
            distance = torch.zeros_like(loss)
            if beta:
                distance = (velocity - policy.reference(x, sigma)).square().flatten(1).mean(1)
            losses.append(loss + beta * distance)
            to_reference.append(distance.detach())
            to_old.append((velocity - old).detach().square().flatten(1).mean(1))
        kept = feedback.kept.to(x_0.device)
        total = torch.stack(losses, dim=1)[kept].sum()
        distances = Distances(torch.stack(to_old, 1)[kept], torch.stack(to_reference, 1)[kept])
        return total / (feedback.num_kept * self.settings.num_noisings), distances

    def metrics(self, measured: Sequence[Distances], *, rounding: float | None) -> dict[str, float]:
        """Return the distances to the policy that drew and to the one before RL.

        Raises:
            RunFailed: The weights that drew do not draw the same again.
        """
        to_old = torch.cat([distances.to_old.flatten() for distances in measured])
        to_reference = torch.cat([distances.to_reference.flatten() for distances in measured])
        if not len(to_old):
            return {"policy/old_distance": 0.0, "kl/reference": 0.0}
        if rounding is not None and to_old.max() > _MAX_DISTANCE:
            raise RunFailed(
                f"the decoder's velocities have moved by {to_old.max():.2g} before the first "
                "update: what was drawn and what is learnt from are not the same model"
            )
        return {
            "policy/old_distance": float(to_old.mean()),
            "kl/reference": float(to_reference.mean()),
        }


def matching_error(
    x_0: Float[Tensor, " n *latent"], target: Float[Tensor, " n *latent"]
) -> Float[Tensor, " n"]:
    """mean_dims (x_0 - target)^2 / sg(mean_dims |x_0 - target|)."""
    error = x_0 - target
    size = error.detach().abs().flatten(1).mean(1).clamp_min(_MIN_ERROR)
    return (error.square() / per_sample(size, error)).flatten(1).mean(1)
