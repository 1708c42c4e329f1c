"""Flow-GRPO: the clipped ratio of stochastic sampling steps (arXiv 2505.05470).

Sampling is random inside a window of steps and deterministic outside it, and the window alone is
trained (MixGRPO, arXiv 2507.21802).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from uae.flow.noise import stream
from uae.flow.sde import TRANSITIONS, Trajectory, log_prob, sde_rollout
from uae.recipe.decoder_rl import DecoderRLConfig, FlowGrpoConfig
from uae.rl.decoder.objective import Policy
from uae.rl.decoder.ratios import ratio_loss
from uae.rl.kl import transition_kl
from uae.rl.objective import Diagnostics, ratio_metrics


@dataclass(frozen=True, slots=True)
class FlowGrpo:
    """Stochastic steps of the sampler, scored again."""

    settings: FlowGrpoConfig
    shared: DecoderRLConfig

    def draw(
        self,
        policy: Policy,
        noise: Float[Tensor, " n *latent"],
        group_id: Int[Tensor, " n"],
        rows: range,
        seed: int,
        step: int,
    ) -> tuple[Float[Tensor, " n *latent"], Trajectory]:
        """Draw with noise in the window."""
        return sde_rollout(
            policy.velocity,
            noise,
            policy.sigmas,
            window_at(self.settings, seed, step),
            self.settings.noise_level,
            [stream(seed, "explore", step, row) for row in rows],
            group_id=group_id,
            policy_version=step,
            rule=TRANSITIONS[self.settings.rule],
            reduction=self.settings.reduction,
        )

    def loss(
        self,
        policy: Policy,
        rollout: Trajectory,
        advantages: Float[Tensor, " n"],
        kept: Bool[Tensor, " n"],
        num_kept: int,
    ) -> tuple[Float[Tensor, ""], Diagnostics]:
        """Compare the steps' likelihood with that of the policy that drew."""
        log_probs, kl = self.score(policy, rollout)
        return ratio_loss(log_probs, kl, rollout, advantages, kept, num_kept, self.shared)

    def metrics(self, measured: Sequence[Diagnostics], *, is_first: bool) -> dict[str, float]:
        """Return ratio, clipped share and KLs."""
        return ratio_metrics("decoder", measured, is_first=is_first)

    def score(
        self, policy: Policy, trajectory: Trajectory
    ) -> tuple[Float[Tensor, "n w"], Float[Tensor, "n w"] | None]:
        """Log-probabilities of the window's steps; where beta asks, their KL to the reference."""
        settings, rule = self.settings, TRANSITIONS[self.settings.rule]
        log_probs: list[Tensor] = []
        kls: list[Tensor] = []
        for k in range(settings.window):
            x, sigma, sigma_next = (
                values[:, k]
                for values in (trajectory.latents_before, trajectory.sigma, trajectory.sigma_next)
            )
            velocity = policy.velocity(x, sigma)
            transition = rule(x, velocity, sigma, sigma_next, settings.noise_level)
            after = trajectory.latents_after[:, k]
            log_probs.append(log_prob(transition, after, settings.reduction))
            if self.shared.kl_beta:
                before = policy.reference(x, sigma)
                reference = rule(x, before, sigma, sigma_next, settings.noise_level)
                kl = transition_kl(transition, reference, settings.reduction)
                is_scaled = settings.kl_weighting == "flow_grpo" and settings.rule == "sde"
                kls.append(kl * (sigma - sigma_next) if is_scaled else kl)
        return torch.stack(log_probs, dim=1), torch.stack(kls, dim=1) if kls else None


def window_at(settings: FlowGrpoConfig, seed: int, step: int) -> range:
    """Return the stochastic steps of a training step: the same for every redraw of it."""
    start = int(torch.randint(settings.window_starts, (), generator=stream(seed, "window", step)))
    return range(start, start + settings.window)
