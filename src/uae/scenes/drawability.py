"""Drawability: which words does the decoder draw? The gate before encoder RL.

True long captions are redrawn and the images parsed. What the decoder cannot draw, the encoder
forgets in RL, because the reward does not miss it; so each attribute has a share that must survive.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from uae.report.format import value_text
from uae.report.statistics import Estimate, estimate
from uae.scenes.graph import Scene
from uae.scenes.matching import agreement, matched_pairs
from uae.scenes.parser import ParsedScene
from uae.scenes.reading import full_claim

THRESHOLDS = {"color": 0.90, "position": 0.90, "size": 0.90, "count": 0.90, "shape": 0.85}
"""Share that must survive before encoder RL starts."""

_ATTRIBUTE = {"shape": "shape", "color": "color", "position": "cell", "size": "size"}


@dataclass(frozen=True, slots=True)
class DrawabilitySamples:
    """Facts that redraws of true captions show."""

    survives: Mapping[str, Float[np.ndarray, " m"]]
    """For color, position, size and shape, one row per true object: 1 where a drawn object was
    matched to it (see `matching`) that has the same. A true object without a match is 0 in all."""
    scene_index: Int[np.ndarray, " m"]
    """The scene of each of these rows, to resample scenes and not objects."""
    count: Float[np.ndarray, " n"]
    """One row per scene: 1 where exactly as many objects were drawn; a blob is no object."""
    background: Float[np.ndarray, " n"]
    """One row per scene: 1 where the background is right. Not part of the gate."""


@dataclass(frozen=True, slots=True)
class DrawabilityGate:
    """The verdict, by attribute in the order of `THRESHOLDS`."""

    shares: Mapping[str, Estimate]
    failing: tuple[str, ...]
    """Attributes whose share is below its threshold: encoder RL will forget their words."""

    @property
    def passed(self) -> bool:
        return not self.failing


def drawability_samples(
    scenes: Sequence[Scene], redraws: Sequence[ParsedScene]
) -> DrawabilitySamples:
    """Compare redraws with their scenes, one for each."""
    survives: dict[str, list[float]] = {name: [] for name in _ATTRIBUTE}
    scene_index: list[int] = []
    pairs = list(zip(scenes, redraws, strict=True))
    for index, (scene, redraw) in enumerate(pairs):
        claims = [full_claim(o) for o in redraw.objects]
        claim_of = dict(matched_pairs(scene.objects, claims))
        for i, o in enumerate(scene.objects):
            agrees = agreement(claims[claim_of[i]], o) if i in claim_of else {}
            for name, attribute in _ATTRIBUTE.items():
                survives[name].append(float(agrees.get(attribute, False)))
            scene_index.append(index)
    return DrawabilitySamples(
        survives={name: np.array(rows, dtype=np.float64) for name, rows in survives.items()},
        scene_index=np.array(scene_index, dtype=np.int64),
        count=np.array([float(len(s.objects) == len(p.objects)) for s, p in pairs]),
        background=np.array([float(s.background == p.background) for s, p in pairs]),
    )


def drawability_gate(samples: DrawabilitySamples) -> DrawabilityGate:
    """Hold the shares against their thresholds; a share that is not measured (NaN) fails."""
    shares = {
        name: estimate(samples.count)
        if name == "count"
        else estimate(samples.survives[name], cluster_id=samples.scene_index)
        for name in THRESHOLDS
    }
    failing = [name for name, least in THRESHOLDS.items() if not shares[name].value >= least]
    return DrawabilityGate(shares, tuple(failing))


def shares_in_words(gate: DrawabilityGate, names: Sequence[str] = tuple(THRESHOLDS)) -> str:
    """Name attributes with the share that survives and the one that must."""
    return ", ".join(
        f"{name} {value_text(gate.shares[name].value, 'share')} "
        f"(at least {value_text(THRESHOLDS[name], 'share')})"
        for name in names
    )


def consequence_in_words(gate: DrawabilityGate) -> str:
    """Say what a gate that failed means, and what mends it."""
    return (
        f"encoder RL will forget the words for {', '.join(gate.failing)}: "
        "train pretrain longer first"
    )
