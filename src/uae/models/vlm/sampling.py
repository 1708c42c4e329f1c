"""Sampling of completions, by any encoder family.

The completions of a prompt share one pass over it: exact, and the larger part of the cost at small
caption lengths.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from uae.core.errors import NonFinite
from uae.flow.noise import stream
from uae.models.vlm.family import Prompts, SampledTokens, TrainedFamily, VlmFamily
from uae.models.vlm.log_probs import likely_tokens, log_softmax


@torch.no_grad()
def sample_tokens(
    family: TrainedFamily,
    prompts: Prompts,
    uniforms: Float[Tensor, "n t"] | None,
    *,
    num_captions: int = 1,
    temperature: float = 1.0,
    max_new_tokens: int = 512,
    num_top: int | None = None,
) -> Iterator[SampledTokens]:
    """Sample completions, yielding their tokens as they come, until all have ended.

    Args:
        family: Samples.
        prompts: p prompts.
        uniforms: Numbers in [0, 1) that choose the tokens by inverting the distribution, so that a
            completion depends on its own row only, not on its batch; n = p * num_captions and
            t = max_new_tokens. None takes the most probable token.
        num_captions: Completions of one prompt; they share its prefix.
        temperature: Divides the logits, in the log-probabilities too.
        max_new_tokens: Limit, the end token included.
        num_top: 0 or more: each token comes with how likely it was and that many alternatives.
    """
    prefix = family.prefill(prompts, num_captions)
    hidden = prefix.hidden
    running = torch.ones(len(hidden), dtype=torch.bool, device=hidden.device)
    for t in range(max_new_tokens):
        log_p = log_softmax(family, hidden, temperature)
        tokens = choose(family, log_p, None if uniforms is None else uniforms[:, t], running)
        if num_top is not None:
            likely = likely_tokens(log_softmax(family, hidden), tokens.token_ids, num_top)
            tokens = replace(tokens, likely=likely)
        yield tokens
        running = tokens.running
        if not running.any() or t + 1 == max_new_tokens:
            return
        hidden = family.continue_(prefix, tokens.token_ids[:, None])[:, -1]


def choose(
    family: VlmFamily,
    log_p: Float[Tensor, "n v"],
    uniforms: Float[Tensor, " n"] | None,
    running: Bool[Tensor, " n"],
) -> SampledTokens:
    """Choose the next token of completions, of which those that ended say no more.

    Raises:
        NonFinite: The distributions are not finite.
    """
    if not log_p.amax(-1).isfinite().all():
        raise NonFinite(
            "the encoder's next-token probabilities are not finite: its weights have diverged; "
            "train it again with a lower encoder_rl.optimizer.lr in a new --out folder"
        )
    token = log_p.argmax(-1) if uniforms is None else _invert(log_p, uniforms.to(log_p.device))
    token = torch.where(running, token, family.tokenizer.pad_token_id)
    chosen = log_p.gather(1, token[:, None]).squeeze(1)
    entropy = torch.special.entr(log_p.exp()).sum(-1)
    chosen, entropy = (torch.where(running, x, 0.0) for x in (chosen, entropy))
    still = running & ~torch.isin(token, family.end_ids)
    return SampledTokens(token, running, chosen, entropy, still)


def caption_stream(seed: int, image: str | int, draw: int = 0) -> torch.Generator:
    """Return what chooses the words of an image's caption, whichever command writes it.

    Args:
        seed: Of the choice of words.
        image: Its name, or its number where images have no names.
        draw: Which of several captions of it: the first is the caption of an image.
    """
    return stream(seed, "caption", image, *([draw] if draw else []))


def uniforms(generators: Sequence[torch.Generator], num_draws: int) -> Float[Tensor, "n t"]:
    """Return uniform numbers in [0, 1) for `sample_tokens`, one row per generator."""
    return torch.stack([torch.rand(num_draws, generator=generator) for generator in generators])


def _invert(log_p: Tensor, uniform: Tensor) -> Tensor:
    """Return the token whose share of the cumulative distribution holds `uniform`."""
    cumulative = log_p.double().exp().cumsum(-1)
    scaled = uniform.double()[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, scaled, right=True).squeeze(1)
