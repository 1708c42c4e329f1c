"""Tensors without numbers are counted as those with numbers would be."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from uae.planning.tally import Tally


def test_a_product_is_counted_by_operations_bytes_and_precision():
    a, b = torch.empty(2, 3, device="meta"), torch.empty(3, 5, device="meta")
    tally = Tally([a, b])
    with tally.counting() as count:
        torch.mm(a, b)
    assert count.total == 2 * 2 * 3 * 5
    assert count.moved == 4 * (2 * 3 + 3 * 5 + 2 * 5)
    assert [*count.flop] == [torch.float32]


def test_the_peak_holds_what_lives_at_once():
    tally = Tally()
    with tally.counting() as count:
        kept = torch.empty(100, dtype=torch.uint8, device="meta")
        for _ in range(3):
            torch.empty(1000, dtype=torch.uint8, device="meta")
    assert (count.peak, count.kept) == (1100, 100)
    del kept
    with tally.counting() as count:
        pass
    assert (count.peak, count.kept) == (0, 0)


def test_a_view_takes_nothing_and_weights_that_were_there_count_for_nothing():
    weight = torch.empty(8, 8, device="meta")
    with Tally([weight]).counting() as count:
        weight.view(64).t()
    assert count.peak == 0


def test_activations_are_kept_for_the_backward_pass_unless_checkpointed():
    layers = nn.Sequential(*(nn.Sequential(nn.Linear(64, 64), nn.GELU()) for _ in range(8)))
    layers.to("meta")
    peaks, flops = [], []
    for is_checkpointed in (False, True):
        x = torch.empty(1000, 64, device="meta", requires_grad=True)
        with Tally(layers.parameters()).counting() as count:
            for layer in layers:
                x = checkpoint(layer, x, use_reentrant=False) if is_checkpointed else layer(x)
            x.sum().backward()
        peaks.append(count.peak)
        flops.append(count.total)
    one = 2 * 1000 * 64 * 64 * 8
    assert peaks[1] < 0.75 * peaks[0]
    assert flops == [3 * one, 4 * one]


def test_attention_makes_no_whole_matrix():
    query = torch.empty(1, 2, 4096, 16, device="meta", requires_grad=True)
    with Tally([query]).counting() as count:
        F.scaled_dot_product_attention(query, query, query).sum().backward()
    assert count.total == (4 + 10) * 2 * 4096 * 4096 * 16
    assert count.peak < 4096 * 4096


def test_what_is_known_stays_known_and_what_is_not_went_well():
    ids = torch.tensor([[3, 1, 2]])
    weight = torch.empty(10, 4, device="meta")
    with Tally().counting():
        moved = ids.to("meta")
        assert moved.tolist() == [[3, 1, 2]]
        hidden = F.embedding(moved, weight)
        assert (hidden.is_meta, hidden.shape) == (True, (1, 3, 4))
        assert hidden.isfinite().all()
        assert hidden[torch.tensor([[True, False, True]])].shape == (2, 4)
        assert hidden[hidden > 0].shape == (12,)
        assert hidden.sum().item() == 0.0
        assert not hidden.max() > 0.5
        assert hidden.cpu().is_cpu
