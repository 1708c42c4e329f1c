"""How likely a sampled token was, and which were the likeliest ones, whatever the temperature."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LikelyTokens:
    """One token of each of n completions by raw logits in float32, so at temperature 1.

    Attributes:
        log_probs: Of the token that was sampled.
        top_ids: The k likeliest tokens, the likeliest first.
        top_log_probs: Theirs; minus infinity for what the encoder can never say.
    """

    log_probs: Float[Tensor, " n"]
    top_ids: Int[Tensor, "n k"]
    top_log_probs: Float[Tensor, "n k"]


def likely_tokens(
    log_p: Float[Tensor, "n v"], token_ids: Int[Tensor, " n"], num_top: int
) -> LikelyTokens:
    """Look up sampled tokens and the `num_top` likeliest ones in their distributions."""
    top = torch.topk(log_p, num_top, dim=-1)
    chosen = log_p.gather(1, token_ids[:, None]).squeeze(1)
    return LikelyTokens(chosen, top.indices, top.values)
