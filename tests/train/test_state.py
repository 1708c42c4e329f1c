import numpy as np
import pytest
import torch
from torch import nn

from uae.errors import UsageError
from uae.train.checkpoint import load_latest, save_checkpoint
from uae.train.state import (
    numpy_rng_state,
    optimizer_tensors,
    restore_numpy_rng_state,
    restore_optimizer,
    restore_rng_state,
    rng_state,
)

OPTIMIZERS = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-2),
    "amsgrad": lambda parameters: torch.optim.AdamW(parameters, lr=1e-2, amsgrad=True),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=1e-2, momentum=0.9),
    "muon": lambda parameters: torch.optim.Muon([p for p in parameters if p.ndim == 2]),
}


def new_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 4))


def train(model, optimizer, steps) -> None:
    for step in steps:
        inputs = torch.randn(5, 6, generator=torch.Generator().manual_seed(step))
        model(inputs).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_resumed_is_bitwise_uninterrupted(tmp_path, kind):
    whole = new_model()
    optimizer = OPTIMIZERS[kind](list(whole.parameters()))
    train(whole, optimizer, range(3))
    names = dict(whole.named_parameters())
    weights = {f"weight/{name}": p.detach() for name, p in names.items()}
    save_checkpoint(tmp_path, 3, weights | optimizer_tensors(optimizer, names), {}, keep=2)
    train(whole, optimizer, range(3, 6))

    checkpoint = load_latest(tmp_path)
    assert checkpoint is not None
    resumed = new_model()
    names = dict(resumed.named_parameters())
    weights = {n: checkpoint.tensors.pop(f"weight/{n}") for n in names}
    resumed.load_state_dict(weights)
    optimizer = OPTIMIZERS[kind](list(resumed.parameters()))
    restore_optimizer(optimizer, names, checkpoint.tensors)
    train(resumed, optimizer, range(3, 6))
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True)
    )


def test_state_goes_by_name_not_by_order():
    model = new_model()
    names = dict(model.named_parameters())
    optimizer = OPTIMIZERS["adamw"](list(model.parameters()))
    train(model, optimizer, range(2))
    saved = {key: value.clone() for key, value in optimizer_tensors(optimizer, names).items()}
    reordered = OPTIMIZERS["adamw"](list(model.parameters())[::-1])
    restore_optimizer(reordered, names, saved)
    again = optimizer_tensors(reordered, names)
    assert again.keys() == saved.keys()
    assert all(torch.equal(again[key], saved[key]) for key in saved)


def test_restored_tensors_are_copies():
    model = new_model()
    names = dict(model.named_parameters())
    optimizer = OPTIMIZERS["adamw"](list(model.parameters()))
    train(model, optimizer, range(1))
    saved = {key: value.clone() for key, value in optimizer_tensors(optimizer, names).items()}
    before = {key: value.clone() for key, value in saved.items()}
    restore_optimizer(optimizer, names, saved)
    train(model, optimizer, range(1, 3))
    assert all(torch.equal(saved[key], before[key]) for key in saved)


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("exp_avg/9.weight", (8, 6), "belongs to no trained parameter"),
        ("exp_avg/0.weight", (6, 8), r"shape \(6, 8\), its parameter \(8, 6\)"),
    ],
)
def test_state_of_another_recipe_is_refused(key, shape, message):
    model = new_model()
    optimizer = OPTIMIZERS["adamw"](list(model.parameters()))
    with pytest.raises(UsageError, match=message):
        restore_optimizer(optimizer, dict(model.named_parameters()), {key: torch.zeros(shape)})


def test_generators_go_on_where_they_were(tmp_path):
    ours = {"noise": torch.Generator().manual_seed(1), "global": torch.default_generator}
    theirs = {"order": np.random.default_rng(2)}
    torch.randn(3, generator=ours["noise"])
    theirs["order"].integers(5)  # leaves half a 64-bit draw in PCG64's buffer
    state = numpy_rng_state(theirs)
    save_checkpoint(tmp_path, 1, rng_state(ours), state, keep=2)

    def draws():
        tensors = [torch.randn(4, generator=generator) for generator in ours.values()]
        return torch.cat(tensors).tolist() + theirs["order"].integers(1000, size=5).tolist()

    expected = draws()
    checkpoint = load_latest(tmp_path)
    assert checkpoint is not None
    restore_rng_state(ours, checkpoint.tensors)
    restore_numpy_rng_state(theirs, checkpoint.state)
    assert draws() == expected
