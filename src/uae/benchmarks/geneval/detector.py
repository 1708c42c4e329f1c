# transformers' models are untyped
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
"""GenEval's detector without mmdet: Mask2Former from its raw logits.

The official scorer runs mmdet 2.x `mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco` (arXiv
2112.01527; `maskformer_fusion_head.instance_postprocess`). transformers has the same network, but
its image processor resizes to 384 x 384 and its post-processing rounds scores and overwrites masks,
so both are done here. One difference is left: OpenCV interpolates 8-bit pixels with 11-bit weights,
so a resized pixel may differ by one level of 255. All is float32.

Two variants with different weights and therefore different scores, never to be mixed:

- "geneval": the official weights, converted
- "geneval-hf": a Mask2Former in transformers' format, such as Meta's own
  facebook/mask2former-swin-small-coco-instance
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

from uae.benchmarks.geneval.decisions import Detections
from uae.benchmarks.geneval.mmdet_weights import converted, read_mmdet
from uae.benchmarks.geneval.prompts import CLASS_NAMES
from uae.core.errors import NonFinite, UsageError
from uae.models.loading import load_whole, read_config

Variant = Literal["geneval", "geneval-hf"]

SHORT_PX, LONG_PX = 800, 1333
MEAN = (123.675, 116.28, 103.53)  # of 8-bit RGB
STD = (58.395, 57.12, 57.375)
NUM_CANDIDATES = 100

_MULTIPLE_PX = 32
_NUM_CLASSES = len(CLASS_NAMES)
_UNUSED = ("criterion.", ".swin.layernorm.")  # weights that no output depends on


class Detector:
    """A frozen Mask2Former that tells COCO's 80 classes apart.

    detector = Detector.from_mmdet(path)
    detections = detector.detect(image, min_score=0.3)
    """

    def __init__(self, model: Mask2FormerForUniversalSegmentation, variant: Variant) -> None:
        self.model = model.eval().requires_grad_(False)
        self.variant: Variant = variant

    @classmethod
    def from_mmdet(cls, path: Path, device: str = "cpu") -> "Detector":
        """Load the official `.pth` file of mmdet 2.x; raises `UsageError` for another file."""
        state = converted(read_mmdet(path))
        return cls(_load(path, official_config(), state).to(device), "geneval")

    @classmethod
    def from_pretrained(cls, name: str | Path, device: str = "cpu") -> "Detector":
        """Load a folder or hub id in transformers' format.

        Raises:
            UsageError: The model is of another kind, has other classes, or its weights are wrong.
        """
        config = read_config(name)
        if not isinstance(config, Mask2FormerConfig) or config.num_labels != _NUM_CLASSES:
            kind = f"{config.model_type} model with {config.num_labels} classes"
            raise UsageError(f"{name} is a {kind}: expected mask2former with COCO's 80")
        return cls(_load(name, config).to(device), "geneval-hf")

    def detect(self, image: Image.Image, min_score: float = 0.0) -> Detections:
        """Return what stands in an upright RGB image.

        Detections that cannot exceed `min_score` may be left out, which saves most of the time.

        Raises:
            NonFinite: The network's output is not finite.
        """
        with torch.no_grad():
            pixels, size = to_input(image)
            output = self.model(pixel_values=pixels.to(self.model.device))
            class_logits = output.class_queries_logits[0].float()
            mask_logits = output.masks_queries_logits[0].float()
            if not (class_logits.isfinite().all() and mask_logits.isfinite().all()):
                raise NonFinite("the detector's output is not finite")
            padded = (pixels.shape[-2], pixels.shape[-1])
            sizes = (padded, size, (image.height, image.width))
            return to_detections(class_logits, mask_logits, sizes, min_score)


def official_config() -> Mask2FormerConfig:
    """Describe the official network: transformers' default, Swin-S, with 80 classes."""
    return Mask2FormerConfig(num_labels=_NUM_CLASSES)


def _load(
    name: str | Path, config: Mask2FormerConfig, state: Mapping[str, Tensor] | None = None
) -> Mask2FormerForUniversalSegmentation:
    return load_whole(
        Mask2FormerForUniversalSegmentation,
        name,
        state=state,
        unused=_UNUSED,
        config=config,
        dtype=torch.float32,
    )


def to_input(image: Image.Image) -> tuple[Float[Tensor, "1 3 h w"], tuple[int, int]]:
    """Resize to a short side of 800 px, or a long one of 1333, normalise and pad.

    Returns:
        The input, zeros to the right and below up to a multiple of 32, and the image's (height,
        width) in it.
    """
    scale = min(SHORT_PX / min(image.size), LONG_PX / max(image.size))
    height, width = (int(side * scale + 0.5) for side in (image.height, image.width))
    levels = rearrange(torch.from_numpy(np.array(image)), "h w c -> 1 c h w").float()
    if (height, width) != (image.height, image.width):
        levels = F.interpolate(levels, (height, width), mode="bilinear", align_corners=False)
        levels = levels.round()  # OpenCV resizes 8-bit pixels to 8-bit pixels
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    padding = (0, -width % _MULTIPLE_PX, 0, -height % _MULTIPLE_PX)
    return F.pad((levels - mean) / std, padding), (height, width)


def to_detections(
    class_logits: Float[Tensor, "q classes"],
    mask_logits: Float[Tensor, "q mask_h mask_w"],
    sizes: tuple[tuple[int, int], tuple[int, int], tuple[int, int]],
    min_score: float = 0.0,
) -> Detections:
    """Turn one image's logits, of which the last class is "no object", into scored masks.

    The best 100 of all pairs of query and class are candidates, so that a query may have several
    classes. score = p(class) x mean of sigmoid(mask logits) where they are positive; so candidates
    whose p(class) is not above `min_score` are left out before their masks are made.

    Args:
        class_logits: Of each query.
        mask_logits: At the network's resolution.
        sizes: (height, width) of the padded input, of the image in it, and of the original image.
        min_score: See above.
    """
    probabilities = class_logits.softmax(dim=-1)[:, :-1].flatten()
    top, candidate = probabilities.topk(min(NUM_CANDIDATES, len(probabilities)))
    candidate, top = candidate[top > min_score], top[top > min_score]
    class_id, query = candidate % _NUM_CLASSES, candidate // _NUM_CLASSES
    queries, place = query.unique(return_inverse=True)
    masks, certainty, boxes = _masks_of(mask_logits[queries], sizes)
    return Detections(
        class_id=class_id.cpu().numpy(),
        scores=(top * certainty[place]).cpu().numpy(),
        boxes=boxes[place].cpu().numpy(),
        masks=masks[place].cpu().numpy(),
    )


def _masks_of(
    logits: Float[Tensor, "q mask_h mask_w"],
    sizes: tuple[tuple[int, int], tuple[int, int], tuple[int, int]],
) -> tuple[Tensor, Float[Tensor, " q"], Float[Tensor, "q 4"]]:
    """Return masks (q, h, w) in the original image, their mean certainty and their boxes."""
    padded, (height, width), original = sizes
    masks = torch.zeros((len(logits), *original), dtype=torch.bool, device=logits.device)
    certainty = logits.new_zeros(len(logits))
    boxes = logits.new_zeros(len(logits), 4)
    for i, mask in enumerate(logits):  # one by one: 100 masks of a large image are gigabytes
        upsampled = _resize(_resize(mask, padded)[:height, :width], original)
        masks[i] = upsampled > 0
        inside = upsampled[masks[i]]
        certainty[i] = inside.sigmoid().sum() / (len(inside) + 1e-6)
        boxes[i] = _box_of(masks[i])
    return masks, certainty, boxes


def _resize(mask: Float[Tensor, "h w"], size: tuple[int, int]) -> Float[Tensor, "new_h new_w"]:
    return F.interpolate(mask[None, None], size, mode="bilinear", align_corners=False)[0, 0]


def _box_of(mask: Tensor) -> Float[Tensor, "4"]:
    """Return (left, top, right + 1, bottom + 1) of a mask's pixels, zeros for none."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    if not len(rows):
        return torch.zeros(4, device=mask.device)
    edges = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    return torch.stack(edges).float()
