"""Clauses of a GenEval prompt, be it of classes in photographs or of shapes in scenes.

Rules of djghosh13/geneval@af4902f `evaluation/evaluate_images.py`.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

RELATIONS = ("left of", "right of", "above", "below")
TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")


@dataclass(frozen=True, slots=True)
class Clause:
    """`count` objects of a class, of a colour, in a place relative to others."""

    class_name: str
    count: int
    color: str | None = None
    position: tuple[str, int] | None = None
    """Relation, and the index of the earlier include clause that holds its target."""

    def values(self) -> dict[str, Any]:
        """Return the clause as the file holds it, in its order of keys."""
        values: dict[str, Any] = {"class": self.class_name, "count": self.count}
        if self.color is not None:
            values["color"] = self.color
        if self.position is not None:
            values["position"] = list(self.position)
        return values


@runtime_checkable
class Asking(Protocol):
    """Anything that asks for clauses."""

    @property
    def include(self) -> tuple[Clause, ...]: ...

    @property
    def exclude(self) -> tuple[Clause, ...]: ...


def relations_of_boxes(
    offset: Float[np.ndarray, "2"], sizes: Float[np.ndarray, "2"], negligible: float
) -> tuple[str, ...]:
    """Return the relations that hold: none, one or two (upstream's `relative_position`).

    The offset of the centres (subject minus reference, y downwards) is shrunk by a tenth of both
    sizes, added up, per axis; one that is then negligible is none. A direction holds when its share
    of the original offset's length exceeds one half.
    """
    shrunk = np.maximum(np.abs(offset) - 0.1 * sizes, 0) * np.sign(offset)
    if np.all(np.abs(shrunk) < negligible):
        return ()
    dx, dy = shrunk / np.linalg.norm(offset)
    holds = (dx < -0.5, dx > 0.5, dy < -0.5, dy > 0.5)
    return tuple(name for name, held in zip(RELATIONS, holds, strict=True) if held)
