"""Advantage-weighted matching: policy optimisation on the forward process (arXiv 2509.25050).

The log-probability of a drawn image is replaced by minus its flow-matching loss,
    log p(x_0) ~ -mean_dims || v_theta(x_sigma, sigma) - (eps - x_0) ||^2,
so that any sampler may have drawn it, and nothing of the sampling path is kept. The clipped ratio
over it is pre-training's loss weighted by advantages. Sampling is deterministic from random starts.

All redraws of a caption share sigma and eps, where the released code draws eps for each: the noise
of the draws then cancels where redraws are compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from uae.flow.ode import ode_sample
from uae.flow.path import flow_matching_loss, velocity_target
from uae.flow.rollout import Rollout
from uae.recipe.decoder_rl import AwmConfig, DecoderRLConfig
from uae.rl.decoder.noisings import Noisings
from uae.rl.decoder.objective import Feedback, Policy, Start
from uae.rl.decoder.ratios import ratio_loss
from uae.rl.objective import Diagnostics, ratio_metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching(Rollout):
    """Drawn images and their noisings: what is needed to score them again."""

    noisings: Noisings


@dataclass(frozen=True, slots=True)
class Awm:
    """Drawn images, scored on the forward process."""

    settings: AwmConfig
    shared: DecoderRLConfig
    shares_start: bool = False

    def draw(self, policy: Policy, start: Start) -> tuple[Float[Tensor, " n *latent"], Matching]:
        """Draw by the deterministic sampler, and score what was drawn."""
        latents = ode_sample(policy.velocity, start.noise, start.sigmas)
        noisings = Noisings.draw(start, self.settings, latents)
        log_probs, _ = matching_scores(policy, noisings, with_kl=False)
        rollout = Matching(
            noisings=noisings,
            log_probs=log_probs,
            group_id=start.group_id,
            policy_version=start.step,
        )
        return latents, rollout

    def loss(
        self, policy: Policy, rollout: Matching, feedback: Feedback
    ) -> tuple[Float[Tensor, ""], Diagnostics]:
        """Compare the images' matching losses with those of the policy that drew."""
        log_probs, kl = matching_scores(policy, rollout.noisings, with_kl=self.shared.kl_beta > 0)
        return ratio_loss(log_probs, kl, rollout, feedback, self.shared)

    def metrics(
        self, measured: Sequence[Diagnostics], *, rounding: float | None
    ) -> dict[str, float]:
        """Return ratio, clipped share and KLs."""
        return ratio_metrics("decoder", measured, clip=self.shared.clip, rounding=rounding)


def matching_scores(
    policy: Policy, noisings: Noisings, *, with_kl: bool
) -> tuple[Float[Tensor, "n w"], Float[Tensor, "n w"] | None]:
    """Minus the matching losses, and with `with_kl` the distances to the reference.

    The distances are measured alone: they carry no gradient, so that beta scales what they add to
    the loss's value and does not hold the policy.
    """
    log_probs: list[Tensor] = []
    kls: list[Tensor] = []
    for x, eps, sigma in noisings:
        velocity = policy.velocity(x, sigma)
        log_probs.append(matching_log_prob(velocity, noisings.x_0, eps))
        if with_kl:
            kls.append(velocity_kl(velocity.detach(), policy.reference(x, sigma)))
    return torch.stack(log_probs, dim=1), torch.stack(kls, dim=1) if kls else None


def matching_log_prob(
    velocity: Float[Tensor, " n *latent"],
    x_0: Float[Tensor, " n *latent"],
    eps: Float[Tensor, " n *latent"],
) -> Float[Tensor, " n"]:
    """-mean_dims || v_theta - (eps - x_0) ||^2, in place of log p(x_0)."""
    return -flow_matching_loss(velocity, velocity_target(x_0, eps), velocity.new_ones(len(x_0)))


def velocity_kl(
    velocity: Float[Tensor, " n *latent"], reference: Float[Tensor, " n *latent"]
) -> Float[Tensor, " n"]:
    """mean_dims || v_theta - v_ref ||^2: distance to the reference in the loss's units."""
    return (velocity - reference).square().flatten(1).mean(1)
