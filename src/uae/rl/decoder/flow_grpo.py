"""Flow-GRPO: the clipped ratio of stochastic sampling steps (arXiv 2505.05470).

Sampling is random inside a window of steps and deterministic outside it, and the window alone is
trained (MixGRPO, arXiv 2507.21802).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from uae.flow.noise import stream
from uae.flow.sde import TRANSITIONS, Trajectory, log_prob, sde_rollout
from uae.recipe.decoder_rl import DecoderRLConfig, FlowGrpoConfig
from uae.rl.decoder.objective import Feedback, Policy, Start
from uae.rl.decoder.ratios import ratio_loss
from uae.rl.kl import transition_kl
from uae.rl.objective import Diagnostics, ratio_metrics


@dataclass(frozen=True, slots=True)
class FlowGrpo:
    """Stochastic steps of the sampler, scored again."""

    settings: FlowGrpoConfig
    shared: DecoderRLConfig

    @property
    def shares_start(self) -> bool:
        """Whether redraws differ by the window alone, which is all that the loss can explain."""
        return self.settings.start == "group"

    def draw(self, policy: Policy, start: Start) -> tuple[Float[Tensor, " n *latent"], Trajectory]:
        """Draw with noise in the window."""
        seed, step = start.seed, start.step
        return sde_rollout(
            policy.velocity,
            start.noise,
            start.sigmas,
            window_at(self.settings, seed, step),
            self.settings.noise_level,
            [stream(seed, "explore", step, row) for row in start.rows],
            group_id=start.group_id,
            policy_version=step,
            rule=TRANSITIONS[self.settings.rule],
            reduction=self.settings.reduction,
        )

    def loss(
        self, policy: Policy, rollout: Trajectory, feedback: Feedback
    ) -> tuple[Float[Tensor, ""], Diagnostics]:
        """Compare the steps' likelihood with that of the policy that drew."""
        log_probs, kl = self.score(policy, rollout)
        return ratio_loss(log_probs, kl, rollout, feedback, self.shared)

    def metrics(
        self, measured: Sequence[Diagnostics], *, rounding: float | None
    ) -> dict[str, float]:
        """Return ratio, clipped share and KLs."""
        return ratio_metrics("decoder", measured, clip=self.shared.clip, rounding=rounding)

    def score(
        self, policy: Policy, trajectory: Trajectory
    ) -> tuple[Float[Tensor, "n w"], Float[Tensor, "n w"] | None]:
        """Log-probabilities of the window's steps; where beta asks, their KL to the reference."""
        settings, rule = self.settings, TRANSITIONS[self.settings.rule]
        is_scaled = settings.kl_weighting == "flow_grpo" and settings.rule == "sde"
        log_probs: list[Tensor] = []
        kls: list[Tensor] = []
        for k in range(settings.window):
            x, x_next = trajectory.latents_before[:, k], trajectory.latents_after[:, k]
            sigma, sigma_next = trajectory.sigma[:, k], trajectory.sigma_next[:, k]
            v = policy.velocity(x, sigma)
            transition = rule(x, v, sigma, sigma_next, settings.noise_level)
            log_probs.append(log_prob(transition, x_next, settings.reduction))
            if self.shared.kl_beta:
                v_ref = policy.reference(x, sigma)
                reference = rule(x, v_ref, sigma, sigma_next, settings.noise_level)
                kl = transition_kl(transition, reference, settings.reduction)
                kls.append(kl * (sigma - sigma_next) if is_scaled else kl)
        return torch.stack(log_probs, dim=1), torch.stack(kls, dim=1) if kls else None


def window_at(settings: FlowGrpoConfig, seed: int, step: int) -> range:
    """Return the stochastic steps of a training step: the same for every redraw of it."""
    start = int(torch.randint(settings.window_starts, (), generator=stream(seed, "window", step)))
    return range(start, start + settings.window)
