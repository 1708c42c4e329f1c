"""The decoder objectives by the names that recipes give them."""

from collections.abc import Callable
from typing import Any

from uae.recipe.decoder_rl import DecoderRLConfig
from uae.rl.decoder.awm import Awm
from uae.rl.decoder.flow_grpo import FlowGrpo
from uae.rl.decoder.nft import Nft
from uae.rl.decoder.objective import DecoderObjective

OBJECTIVES: dict[str, Callable[[Any, DecoderRLConfig], DecoderObjective[Any, Any]]] = {
    "flow_grpo": FlowGrpo,
    "awm": Awm,
    "nft": Nft,
}
"""Makers of an objective from its settings and the shared ones; `uae.recipe.decoder_rl.OBJECTIVES`
has the settings."""


def objective_of(config: DecoderRLConfig) -> DecoderObjective[Any, Any]:
    """Make the objective that a recipe names."""
    return OBJECTIVES[config.objective.name](config.objective, config)
