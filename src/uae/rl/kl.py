"""Distance of a policy from its reference: estimators for tokens, exact forms for flow steps.

All functions keep one value per token or sample; what enters a loss is `objective`'s affair.
"""

from jaxtyping import Float
from torch import Tensor

from uae.flow.sde import Reduction, Transition, reduced


def k1(log_probs: Float[Tensor, "*n"], ref_log_probs: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """log p - log p_ref: unbiased for KL(p || p_ref) under samples of p, and of either sign.

    Source of k1 and k3: http://joschu.net/blog/kl-approx.html.
    """
    return log_probs - ref_log_probs


def k3(log_probs: Float[Tensor, "*n"], ref_log_probs: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """p_ref / p - log(p_ref / p) - 1: unbiased for KL(p || p_ref), never negative."""
    log_ratio = ref_log_probs - log_probs
    return log_ratio.exp() - log_ratio - 1


def transition_kl(
    transition: Transition, ref: Transition, reduction: Reduction
) -> Float[Tensor, " b"]:
    """KL of two Gaussians of equal std: (mean - mean_ref)^2 / (2 std^2), over latent dimensions.

    Flow-GRPO's code divides by 2 s^2, where the std of its SDE step is s sqrt(|dt|), so its KL is
    this one times |dt| (yifan123/flow_grpo#78, #27), and published betas belong to that. Of its CPS
    step s is the std itself, and both are the same.

    Args:
        transition: Of the policy.
        ref: Of the reference policy, from the same latents, sigmas and noise level.
        reduction: "mean" belongs to log-probabilities reduced by "mean".
    """
    z = (transition.mean - ref.mean) / transition.std
    return reduced(z.square() / 2, reduction)
