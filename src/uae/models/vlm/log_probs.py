"""Log-probabilities of tokens, as sampled and as scored again, by any encoder family."""

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from uae.models.vlm.family import LikelyTokens, Prompts, TrainedFamily

_MAX_LOGITS = 2**26
"""Logits at once, 256 MiB in float32: 441 tokens of a vocabulary of 152,000."""


def likely_tokens(
    log_p: Float[Tensor, "n v"], token_ids: Int[Tensor, " n"], num_top: int
) -> LikelyTokens:
    """Look up sampled tokens and the `num_top` likeliest ones in their distributions."""
    top = torch.topk(log_p, num_top, dim=-1)
    chosen = log_p.gather(1, token_ids[:, None]).squeeze(1)
    return LikelyTokens(chosen, top.indices, top.values)


def log_softmax(
    family: TrainedFamily, hidden: Float[Tensor, "*n d"], temperature: float = 1.0
) -> Float[Tensor, "*n v"]:
    """Log-probabilities of the next token, float32; tokens of images can never be said."""
    logits = family.logits(hidden).float() / temperature
    return logits.masked_fill(family.forbidden, float("-inf")).log_softmax(-1)


def log_probs(
    family: TrainedFamily,
    prompts: Prompts,
    token_ids: Int[Tensor, "n t"],
    mask: Bool[Tensor, "n t"],
    temperature: float = 1.0,
) -> Float[Tensor, "n t"]:
    """Log-probabilities of given completions, with gradients; 0 at padding.

    Args:
        family: Scores.
        prompts: p prompts; n is a multiple of p, completions of one prompt stand together.
        token_ids: Completions, right padded.
        mask: True at real tokens, the end token included.
        temperature: As in sampling.
    """
    if family.scores_whole:
        states = family.states(prompts, token_ids[:, :-1])
    else:
        prefix = family.prefill(prompts, len(token_ids) // len(prompts))
        later = family.continue_(prefix, token_ids[:, :-1])
        states = torch.cat([rearrange(prefix.hidden, "n d -> n 1 d"), later], dim=1)
    chosen = chosen_log_probs(family, states.flatten(0, 1), token_ids.flatten(), temperature)
    return chosen.reshape(token_ids.shape).masked_fill(~mask, 0.0)


def chosen_log_probs(
    family: TrainedFamily,
    states: Float[Tensor, "n d"],
    token_ids: Int[Tensor, " n"],
    temperature: float = 1.0,
) -> Float[Tensor, " n"]:
    """Log-probabilities of one token after each state, with gradients.

    Where all logits are too many they come in parts, and again in the backward pass.
    """

    def of(states: Tensor, token_ids: Tensor) -> Tensor:
        return log_softmax(family, states, temperature).gather(1, token_ids[:, None]).squeeze(1)

    size = max(1, _MAX_LOGITS // len(family.forbidden))
    if len(states) <= size:
        return of(states, token_ids)
    parts = zip(states.split(size), token_ids.split(size), strict=True)
    return torch.cat([checkpoint(of, *part, use_reentrant=False) for part in parts])
