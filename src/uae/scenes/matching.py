"""Matching of described or drawn objects with the true ones: one to one, by information.

An attribute that agrees counts as the information it carries, log(number of its values): a place
(of 9) and a colour (of 10) say more of which object is meant than a size (of 3). The assignment
with the most agreed information wins (scipy's Hungarian method). A pair that agrees on less than
half of the information stated is none: what is described there is not in the scene.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from uae.scenes.graph import CELLS, COLORS, SHAPES, SIZES, SceneObject
from uae.scenes.reading import ATTRIBUTES, ObjectClaim, full_claim

INFORMATION = {
    "shape": math.log(len(SHAPES)),
    "color": math.log(len(COLORS)),
    "size": math.log(len(SIZES)),
    "cell": math.log(len(CELLS)),
}
_MIN_SHARE = 0.5


def agreement(claim: ObjectClaim, o: SceneObject) -> dict[str, bool]:
    """Tell for each attribute that is stated whether it is true of an object."""
    truth = full_claim(o).stated
    return {a: value == truth[a] for a, value in claim.stated.items()}


def matched_pairs(
    objects: Sequence[SceneObject], claims: Sequence[ObjectClaim]
) -> list[tuple[int, int]]:
    """Return (index of object, index of claim) for each claim that means an object."""
    gains = np.zeros((len(objects), len(claims)))
    for i, o in enumerate(objects):
        for k, claim in enumerate(claims):
            gains[i, k] = _gain(claim, o)
    rows, columns = linear_sum_assignment(gains, maximize=True)
    return [(int(i), int(k)) for i, k in zip(rows, columns, strict=True) if gains[i, k] > 0]


def _gain(claim: ObjectClaim, o: SceneObject) -> float:
    agrees = agreement(claim, o)
    agreed = sum(INFORMATION[a] for a in ATTRIBUTES if agrees.get(a, False))
    stated = sum(INFORMATION[a] for a in agrees)
    return agreed if agreed >= _MIN_SHARE * stated else 0.0
