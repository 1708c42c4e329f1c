import torch

from uae.bases.build import forget_drawing
from uae.models.unified import UnifiedAutoEncoder


def test_the_untrained_model_differs_in_what_draws_alone(tmp_path):
    forget_drawing(tmp_path / "untrained")
    new = UnifiedAutoEncoder.from_pretrained(tmp_path / "untrained")
    shipped = UnifiedAutoEncoder.from_pretrained("uae-tiny")
    assert new.settings == shipped.settings
    pairs = {
        "encoder": (new.encoder.model, shipped.encoder.model),
        "vae": (new.decoder.vae, shipped.decoder.vae),
        "projector": (new.projector, shipped.projector),
        "transformer": (new.decoder.transformer, shipped.decoder.transformer),
    }
    kept = {
        name: all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
        for name, (a, b) in pairs.items()
    }
    assert kept == {"encoder": True, "vae": True, "projector": False, "transformer": False}
