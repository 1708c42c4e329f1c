# transformers' Auto classes are untyped
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportPrivateImportUsage=false, reportArgumentType=false
"""CLIP and LongCLIP (arXiv 2103.00020): the cosine of projected image embeddings."""

from torch import Tensor
from transformers import AutoImageProcessor, CLIPModel

from uae.models.loading import load_whole
from uae.rewards.similarity import Similarity, preparation_of


def load_clip(place: str, device: str = "cpu") -> Similarity:
    """Load a folder or hub id."""
    model = load_whole(CLIPModel, place).to(device)

    def embed(pixels: Tensor) -> Tensor:
        return model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)

    processor = AutoImageProcessor.from_pretrained(place)
    return Similarity(model, embed, preparation_of(processor.to_dict()))
