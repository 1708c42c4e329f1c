"""The state of a trained side, through the files of a checkpoint."""

import pytest
import torch
from torch import nn

from uae.core.errors import NonFinite, UsageError
from uae.recipe.optimizer import OptimizerConfig
from uae.runs.checkpoint import load_latest, save_checkpoint
from uae.train.learner import Learner, check_finite

OPTIMIZERS = ("adamw", "muon")


def new_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 4))


def learner_of(model, name="adamw") -> Learner:
    config = OptimizerConfig(name=name, lr=1e-2, warmup_steps=4, decay_steps=8)
    return Learner(dict(model.named_parameters()), config)


def train(model, learner, steps) -> None:
    for step in steps:
        inputs = torch.randn(5, 6, generator=torch.Generator().manual_seed(step))
        model(inputs).square().sum().backward()
        learner.step()


def copied(learner) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in learner.tensors().items()}


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resumed_is_bitwise_uninterrupted(name, tmp_path):
    model = new_model()
    whole = learner_of(model, name)
    train(model, whole, range(3))
    save_checkpoint(tmp_path, 3, whole.tensors(), {}, keep=2)
    train(model, whole, range(3, 6))

    checkpoint = load_latest(tmp_path)
    assert checkpoint is not None
    model = new_model()
    resumed = learner_of(model, name)
    resumed.restore(checkpoint.tensors, num_steps=3)
    train(model, resumed, range(3, 6))
    assert same(whole.tensors(), resumed.tensors())
    assert resumed.num_steps == whole.num_steps == 6


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_restored_state_is_where_the_weights_are(name, tmp_path):
    """A checkpoint is read on the CPU; the meta device stands for a GPU."""
    model = new_model()
    learner = learner_of(model, name)
    train(model, learner, range(1))
    saved = copied(learner)
    elsewhere = new_model().to("meta")
    resumed = learner_of(elsewhere, name)
    resumed.restore(saved, num_steps=1)
    devices = {
        (key.split("/")[1], value.device.type)
        for key, value in resumed.tensors().items()
        if key.startswith("state/") and value.ndim > 0
    }
    assert devices
    assert {device for _, device in devices} == {"meta"}


def test_every_weight_of_either_optimizer_is_saved():
    model = new_model()
    learner = learner_of(model, "muon")
    train(model, learner, range(1))
    state = {name for name in learner.tensors() if name.startswith("state/")}
    assert {name.rpartition("/")[2] for name in state} == set(learner.parameters)
    assert "state/momentum_buffer/0.weight" in state
    assert "state/exp_avg/0.bias" in state


def test_state_goes_by_name_not_by_order():
    model = new_model()
    learner = learner_of(model)
    train(model, learner, range(2))
    saved = copied(learner)
    reordered = Learner(dict(reversed(learner.parameters.items())), learner.config)
    reordered.restore(saved, num_steps=2)
    assert same(reordered.tensors(), saved)


def test_restored_tensors_are_copies():
    model = new_model()
    learner = learner_of(model)
    train(model, learner, range(1))
    saved = copied(learner)
    before = {name: value.clone() for name, value in saved.items()}
    learner.restore(saved, num_steps=1)
    train(model, learner, range(1, 3))
    assert same(saved, before)


def test_a_bad_gradient_is_named_and_changes_nothing():
    model = new_model()
    learner = learner_of(model)
    train(model, learner, range(1))
    before = copied(learner)
    model(torch.ones(2, 6)).sum().backward()
    model[2].weight.grad[0, 0] = float("nan")
    with pytest.raises(NonFinite, match=r"gradient of 2\.weight is not finite \(1 tensors\)"):
        learner.step()
    assert same(learner.tensors(), before)


@pytest.mark.parametrize(
    ("lr_key", "said"),
    [
        ("", "; try a lower learning rate"),
        ("a.optimizer.lr", "; begin again with a lower a.optimizer.lr in a new --out folder"),
    ],
)
def test_a_value_that_is_not_finite_is_said_with_the_key_to_lower(lr_key, said):
    model = new_model()
    learner = Learner(dict(model.named_parameters()), OptimizerConfig(lr=1.0), lr_key)
    model(torch.ones(2, 6)).sum().backward()
    model[2].weight.grad[0, 0] = float("nan")
    with pytest.raises(NonFinite) as caught:
        learner.step()
    assert str(caught.value).endswith(said)
    with pytest.raises(NonFinite) as caught:
        check_finite(torch.tensor(float("inf")), "loss of step 3", lr_key)
    assert str(caught.value) == f"loss of step 3 is inf: the update was not made{said}"


def test_gradients_are_clipped_to_their_norm():
    model = new_model()
    learner = learner_of(model)
    model(100 * torch.ones(2, 6)).square().sum().backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()
    assert learner.step().grad_norm == pytest.approx(expected, rel=1e-6)


def test_a_checkpoint_of_another_model_is_refused():
    learner = learner_of(new_model())
    saved = copied(learner)
    saved["weight/0.bias"] = torch.zeros(3)
    with pytest.raises(UsageError, match=r"shape \(3,\) for 0\.bias, which has shape \(8,\)"):
        learner.restore(saved, num_steps=1)
    del saved["weight/0.bias"]
    with pytest.raises(UsageError, match=r"holds none for 0\.bias"):
        learner.restore(saved, num_steps=1)
