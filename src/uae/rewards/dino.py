# transformers' Auto classes are untyped
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportPrivateImportUsage=false, reportArgumentType=false
"""DINOv2 and DINOv3 (arXiv 2304.07193, 2508.10104): the cosine of class tokens."""

from torch import Tensor
from transformers import AutoImageProcessor, Dinov2Model, DINOv3ViTModel
from transformers.image_processing_base import ImageProcessingMixin

from uae.models.loading import load_whole
from uae.rewards.similarity import Preparation, Similarity, preparation_of


def load_dinov2(place: str, device: str = "cpu") -> Similarity:
    """Load a folder or hub id."""
    model = load_whole(Dinov2Model, place).to(device)
    return _by_class_token(
        model, preparation_of(AutoImageProcessor.from_pretrained(place).to_dict())
    )


def load_dinov3(place: str, device: str = "cpu") -> Similarity:
    """Load a folder or hub id; its processor class needs torchvision, its file does not."""
    model = load_whole(DINOv3ViTModel, place).to(device)
    values = ImageProcessingMixin.get_image_processor_dict(place)[0]
    return _by_class_token(model, preparation_of(values))


def _by_class_token(model: Dinov2Model | DINOv3ViTModel, preparation: Preparation) -> Similarity:
    def embed(pixels: Tensor) -> Tensor:
        return model(pixel_values=pixels).pooler_output

    return Similarity(model, embed, preparation)
