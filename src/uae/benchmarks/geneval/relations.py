"""GenEval's position rule: in which relations one box stands to another.

(djghosh13/geneval@af4902f `evaluation/evaluate_images.py` `relative_position`)
"""

import numpy as np
from jaxtyping import Float

RELATIONS = ("left of", "right of", "above", "below")


def relations_of_boxes(
    offset: Float[np.ndarray, "2"], sizes: Float[np.ndarray, "2"], negligible: float
) -> tuple[str, ...]:
    """Return the relations that hold: none, one or two.

    The offset of the centres is shrunk by a tenth of both sizes per axis, and a direction holds
    when its share of the original offset's length exceeds one half.

    Args:
        offset: Centre of the subject minus centre of the reference, x and y (downwards).
        sizes: Width and height of both boxes, added up, in the same unit.
        negligible: A shrunk offset below this on both axes is no offset.
    """
    shrunk = np.maximum(np.abs(offset) - 0.1 * sizes, 0) * np.sign(offset)
    if np.all(np.abs(shrunk) < negligible):
        return ()
    dx, dy = shrunk / np.linalg.norm(offset)
    holds = (dx < -0.5, dx > 0.5, dy < -0.5, dy > 0.5)
    return tuple(name for name, held in zip(RELATIONS, holds, strict=True) if held)
