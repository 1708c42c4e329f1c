"""LoRA and full fine-tuning: the reference stays what it was, files load in PEFT."""

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import Qwen2_5_VLForConditionalGeneration

from uae.core.errors import UsageError
from uae.models.unified import UnifiedAutoEncoder
from uae.recipe.optimizer import FineTuneConfig

TEXT = ["A small red circle at the top."]


@pytest.fixture
def model(random_model_folder) -> UnifiedAutoEncoder:
    return UnifiedAutoEncoder.from_pretrained(random_model_folder)


def hidden(model: UnifiedAutoEncoder) -> torch.Tensor:
    with torch.no_grad():
        return model.encoder.read(TEXT)[0]


def shake(parameters: dict[str, torch.nn.Parameter]) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_reference_is_the_policy_before_training(model, mode):
    before = hidden(model)
    tuning = model.tune_encoder(FineTuneConfig(mode=mode, rank=4, alpha=8), seed=0)
    assert torch.equal(hidden(model), before)
    shake(tuning.parameters())
    after = hidden(model)
    assert not torch.allclose(after, before, atol=1e-3)
    with tuning.reference():
        assert torch.equal(hidden(model), before)
    assert torch.equal(hidden(model), after)
    assert all(p.requires_grad for p in tuning.parameters().values())


def test_a_reference_that_was_not_kept_is_not_made_up(model):
    full = FineTuneConfig(mode="full")
    tuning = model.tune_decoder(full, seed=0, keep_reference=False)
    assert tuning.parameters()
    with pytest.raises(AssertionError, match="were not kept"), tuning.reference():
        pass


def test_vision_tower_is_never_trained(model):
    for mode in ("lora", "full"):
        tuning = model.tune_encoder(FineTuneConfig(mode=mode, rank=4, alpha=8), seed=0)
        assert tuning.parameters()
        assert not [name for name in tuning.parameters() if "visual" in name]


def test_adapters_survive_the_folder_and_load_in_peft(model, tmp_path):
    shake(model.tune_encoder(FineTuneConfig(rank=4, alpha=8), seed=0).parameters())
    shake(model.tune_decoder(FineTuneConfig(rank=4, alpha=8), seed=0).parameters())
    with torch.no_grad():
        drawn = model.draw(TEXT, seed=3)
    model.save_pretrained(tmp_path / "model")
    again = UnifiedAutoEncoder.from_pretrained(tmp_path / "model")
    # merging adds the adapter's product to the weight before the pass, not after it
    assert torch.allclose(hidden(again), hidden(model), atol=1e-4)
    assert torch.allclose(again.draw(TEXT, seed=3), drawn, atol=1e-3)
    base = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "model/encoder")
    adapted = PeftModel.from_pretrained(base, tmp_path / "model/encoder_lora")
    token_ids = model.encoder.tokenizer(TEXT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        ours = model.encoder.model.model.language_model(input_ids=token_ids).last_hidden_state
        theirs = adapted.base_model.model.model.language_model(input_ids=token_ids)
    assert torch.allclose(theirs.last_hidden_state, ours, atol=1e-5)
    assert torch.equal(model.draw(TEXT, seed=3), drawn)  # saving left the model as it was


def test_adapters_keep_their_precision_over_a_base_of_less(random_model_folder, tmp_path):
    """A model that is loaded is the one that was saved, to the bit."""
    model = UnifiedAutoEncoder.from_pretrained(random_model_folder, dtype=torch.bfloat16)
    for tune in (model.tune_encoder, model.tune_decoder):
        shake(tune(FineTuneConfig(rank=4, alpha=8), seed=0).parameters())
    model.save_pretrained(tmp_path / "saved")
    again = UnifiedAutoEncoder.from_pretrained(tmp_path / "saved", dtype=torch.bfloat16)
    assert torch.equal(hidden(again), hidden(model))
    for ours, theirs in (
        (model.encoder.model, again.encoder.model),
        (model.decoder.transformer, again.decoder.transformer),
    ):
        pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_an_adapter_that_lacks_weights_is_refused(model, tmp_path):
    shake(model.tune_encoder(FineTuneConfig(rank=4, alpha=8), seed=0).parameters())
    model.save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved/encoder_lora/adapter_model.safetensors"
    tensors = load_file(path)
    lost = next(iter(tensors))
    save_file({key: value for key, value in tensors.items() if key != lost}, path)
    with pytest.raises(UsageError, match=r"encoder_lora: it lacks .* of its own layers"):
        UnifiedAutoEncoder.from_pretrained(tmp_path / "saved")
