# transformers' Auto classes are untyped
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportPrivateImportUsage=false, reportArgumentType=false
"""SigLIP, and SigLIP 2 of a fixed size (arXiv 2502.14786): the cosine of pooled embeddings."""

from torch import Tensor
from transformers import AutoImageProcessor, SiglipModel

from uae.core.errors import UsageError
from uae.models.loading import load_whole
from uae.rewards.similarity import Similarity, preparation_of


def load_siglip(place: str, device: str = "cpu") -> Similarity:
    """Load a folder or hub id; SigLIP 2 of a fixed size is "siglip" to transformers."""
    model = load_whole(SiglipModel, place).to(device)

    def embed(pixels: Tensor) -> Tensor:
        return model.vision_model(pixel_values=pixels).pooler_output

    processor = AutoImageProcessor.from_pretrained(place)
    return Similarity(model, embed, preparation_of(processor.to_dict()))


def refuse_naflex(place: str, device: str = "cpu") -> Similarity:
    """Refuse a SigLIP 2 of any shape, which makes other features of an image's parts."""
    raise UsageError(
        f"similarity backbone {place!r} is a NaFlex SigLIP 2, which takes images of any shape: "
        "expected one of a fixed size, such as google/siglip2-large-patch16-256"
    )
