"""GenEval's colour classifier: CLIP, zero-shot, on one object at a time.

(djghosh13/geneval@af4902f `evaluation/evaluate_images.py`; its model is OpenAI's CLIP ViT-L/14)

What lies outside the object's mask becomes grey, the image is cropped to its box, and CLIP's usual
transform follows: the short side is resized, then the centre is cropped, so that long thin objects
lose their ends. The answer is the nearest of ten colours; there is no "unknown".

The reference runs in half precision and resizes 8-bit pixels; here all is float32 on tensors, which
can turn near ties.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, CLIPModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutputWithPooling

from uae.benchmarks.geneval.decisions import DetectedObject
from uae.benchmarks.geneval.prompts import COLORS
from uae.core.errors import NonFinite, UsageError
from uae.data.sources import to_pixels
from uae.rewards.loading import load_similarity
from uae.rewards.similarity import Similarity

OUTSIDE = 153  # "#999", the level of all three channels
TEMPLATES = (
    "a photo of a {color} {class_name}",
    "a photo of a {color}-colored {class_name}",
    "a photo of a {color} object",
)


class ColorClassifier:
    """Names the colours of objects; the text of each class is embedded once.

    classifier = ColorClassifier.from_pretrained("openai/clip-vit-large-patch14")
    colors = classifier.classify(image, "bus", objects)
    """

    def __init__(
        self, similarity: Similarity, clip: CLIPModel, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        self._similarity = similarity
        self.clip = clip
        self._tokenizer = tokenizer
        self._text: dict[str, Float[Tensor, "10 d"]] = {}

    @classmethod
    def from_pretrained(cls, name: str | Path, device: str = "cpu") -> "ColorClassifier":
        """Load a CLIP folder or hub id; raises `UsageError` for a model of another kind."""
        similarity = load_similarity(name, device)
        clip = similarity.model
        if not isinstance(clip, CLIPModel):
            raise UsageError(f"--clip {name} is a {type(clip).__name__}: expected CLIP")
        return cls(similarity, clip, AutoTokenizer.from_pretrained(name))

    def classify(
        self, image: Image.Image, class_name: str, objects: Sequence[DetectedObject]
    ) -> list[str]:
        """Name the colour of each object of a class in an upright RGB image; raises `NonFinite`."""
        return [COLORS[int(row.argmax())] for row in self.logits(image, class_name, objects)]

    @torch.no_grad()
    def logits(
        self, image: Image.Image, class_name: str, objects: Sequence[DetectedObject]
    ) -> list[Float[Tensor, "10"]]:
        """Return 100 cos(image, text) by object and colour; raises `NonFinite`."""
        text, rows = self.text_features(class_name), []
        for o in objects:
            pixels = to_pixels([cut_out(image, o.mask, o.box)])
            rows.append(100 * (self._similarity.features(pixels)[0] @ text.T))
        if not all(row.isfinite().all() for row in rows):
            raise NonFinite(f"the colour classifier's output for {class_name!r} is not finite")
        return rows

    def text_features(self, class_name: str) -> Float[Tensor, "10 d"]:
        """Return a unit vector for each colour of a class: the normalised mean of its templates."""
        if class_name not in self._text:
            texts = [
                template.format(color=color, class_name=class_name)
                for color in COLORS
                for template in TEMPLATES
            ]
            tokens = self._tokenizer(texts, padding=True, return_tensors="pt")
            device = self.clip.device
            with torch.no_grad():
                output = self.clip.get_text_features(
                    input_ids=tokens["input_ids"].to(device),
                    attention_mask=tokens["attention_mask"].to(device),
                )
            features = F.normalize(embedding_of(output).float(), dim=-1)
            by_color = rearrange(features, "(color t) d -> color t d", color=len(COLORS))
            self._text[class_name] = F.normalize(by_color.mean(1), dim=-1)
        return self._text[class_name]


def embedding_of(output: object) -> Float[Tensor, "b d"]:
    """Return CLIP's projected features: transformers 4 returns them, 5 holds them in an output."""
    if isinstance(output, BaseModelOutputWithPooling):
        output = output.pooler_output
    assert isinstance(output, Tensor), f"CLIP returned {type(output).__name__}"
    return output


def cut_out(
    image: Image.Image, mask: Bool[np.ndarray, "h w"], box: tuple[float, float, float, float]
) -> Image.Image:
    """Grey out what is outside the mask and crop to the box (left, top, right, bottom in px)."""
    left, top, right, bottom = (round(edge) for edge in box)
    assert (right - left) * (bottom - top) > 0, f"an object without pixels has no colour: {box}"
    pixels = np.where(mask[..., None], np.asarray(image), np.uint8(OUTSIDE))
    return Image.fromarray(pixels[top:bottom, left:right])
