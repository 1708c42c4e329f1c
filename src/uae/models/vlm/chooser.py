"""Our choice of tokens inside the library's `generate`."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor

from uae.models.vlm.family import LikelyTokens, SampledTokens, VlmFamily
from uae.models.vlm.log_probs import likely_tokens
from uae.models.vlm.sampling import choose


class Chooser(LogitsProcessor):
    """Chooses tokens as `sampling.sample_tokens` does, keeps them, and leaves no other choice.

    Attributes:
        tokens: Those of each step.
        log_p: Of the last step, at temperature 1.
    """

    def __init__(
        self,
        family: VlmFamily,
        uniforms: Float[Tensor, "n t"] | None,
        temperature: float = 1.0,
        num_top: int | None = None,
    ) -> None:
        self.tokens: list[SampledTokens] = []
        self.log_p = torch.empty(0)
        self._family = family
        self._uniforms = uniforms
        self._temperature = temperature
        self._num_top = num_top

    def __call__(
        self, input_ids: Int[Tensor, "n s"], scores: Float[Tensor, "n v"]
    ) -> Float[Tensor, "n v"]:
        t = len(self.tokens)
        scores = scores.float().masked_fill(self._family.forbidden, float("-inf"))
        running = self.tokens[-1].running if t else torch.ones_like(scores[:, 0], dtype=torch.bool)
        uniforms = None if self._uniforms is None else self._uniforms[:, t]
        log_p = (scores / self._temperature).log_softmax(-1)
        tokens = choose(self._family, log_p, uniforms, running)
        self.log_p = scores.log_softmax(-1)
        if self._num_top is not None:
            likely = likely_tokens(self.log_p, tokens.token_ids, self._num_top)
            tokens = replace(tokens, likely=likely)
        self.tokens.append(tokens)
        others = torch.full_like(scores, float("-inf"))
        return others.scatter(1, tokens.token_ids[:, None], 0.0)

    def at(self, t: int) -> SampledTokens:
        """Return the tokens of a step, those of completions that had all ended too."""
        if t < len(self.tokens):
            return self.tokens[t]
        last = self.tokens[-1]
        return replace(
            last,
            token_ids=torch.full_like(last.token_ids, self._family.tokenizer.pad_token_id),
            mask=torch.zeros_like(last.mask),
            log_probs=torch.zeros_like(last.log_probs),
            entropies=torch.zeros_like(last.entropies),
        )


def together(parts: Sequence[SampledTokens]) -> SampledTokens:
    """Join the tokens that several prompts say at one step."""
    names = ("token_ids", "mask", "log_probs", "entropies", "running")
    joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    likely = [part.likely for part in parts if part.likely is not None]
    of_likely = None
    if likely:
        names = ("log_probs", "top_ids", "top_log_probs")
        of_likely = LikelyTokens(*(torch.cat([getattr(x, name) for x in likely]) for name in names))
    return SampledTokens(**joined, likely=of_likely)
