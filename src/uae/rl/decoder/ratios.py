"""The clipped ratio over redraws, for objectives that have a log-probability per term."""

from jaxtyping import Float
from torch import Tensor

from uae.flow.rollout import Rollout
from uae.recipe.decoder_rl import DecoderRLConfig
from uae.rl.decoder.objective import Feedback
from uae.rl.objective import Diagnostics, flow_loss


def ratio_loss(
    log_probs: Float[Tensor, "n w"],
    kl: Float[Tensor, "n w"] | None,
    rollout: Rollout,
    feedback: Feedback,
    shared: DecoderRLConfig,
) -> tuple[Float[Tensor, ""], Diagnostics]:
    """Loss of a micro-batch whose terms have been scored again.

    Args:
        log_probs: Of each term under the policy that learns.
        kl: Of each term to the reference; needed where beta > 0.
        rollout: Holds the log-probabilities of the policy that drew.
        feedback: Of the redraws; one that is not kept adds no KL either.
        shared: Clip range and beta.
    """
    return flow_loss(
        log_probs,
        rollout.log_probs,
        feedback.advantages.to(log_probs.device),
        feedback.num_kept * log_probs.shape[1],
        clip_low=shared.clip,
        clip_high=shared.clip,
        kept=feedback.kept.to(log_probs.device),
        kl=kl,
        beta=shared.kl_beta,
    )
