"""The clipped objective: closed forms, REINFORCE at ratio 1, TRL's loss, micro-batches."""

import math
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trl import GRPOTrainer

from uae.core.errors import RunFailed
from uae.rl.kl import k3
from uae.rl.objective import flow_loss, merged, ratio_metrics, token_denominator, token_loss

NUM_SEQUENCES, NUM_TOKENS, MAX_TOKENS = 8, 11, 16


def batch(drift: float = 0.3, seed: int = 0):
    """Log-probs now, then, and of a reference; advantages; a mask of unequal lengths."""
    g = torch.Generator().manual_seed(seed)
    shape = (NUM_SEQUENCES, NUM_TOKENS)
    old = -torch.rand(shape, generator=g, dtype=torch.float64) * 3
    new = old + drift * torch.randn(shape, generator=g, dtype=torch.float64)
    ref = old + 0.2 * torch.randn(shape, generator=g, dtype=torch.float64)
    advantages = torch.randn(NUM_SEQUENCES, generator=g, dtype=torch.float64)
    lengths = torch.tensor([11, 3, 7, 1, 9, 5, 11, 2])
    mask = torch.arange(NUM_TOKENS) < lengths.unsqueeze(1)
    return new.requires_grad_(), old, ref, advantages, mask


def loss_of(rows: slice = slice(None), normalization="tokens", beta: float = 0.04, **changes):
    new, old, ref, advantages, mask = (t[rows] for t in changes.pop("batch", batch()))
    whole = batch()[-1]
    denominator = token_denominator(whole, normalization, MAX_TOKENS)
    settings = {"clip_low": 0.2, "clip_high": 0.28, "ref_log_probs": ref, "beta": beta} | changes
    return token_loss(new, old, advantages, mask, denominator, **settings)


# --- closed forms ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "gradient"),
    [
        (1.1, 2.0, 2.2, 2.2),  # inside the range: r A, with gradient r A
        (1.5, 2.0, 2.56, 0.0),  # too high and good: held at (1 + 0.28) A
        (1.5, -2.0, -3.0, -3.0),  # too high and bad: pushed back
        (0.5, -2.0, -1.6, 0.0),  # too low and bad: held at (1 - 0.2) A
        (0.5, 2.0, 1.0, 1.0),  # too low and good: pulled back
    ],
)
def test_one_term(ratio: float, advantage: float, objective: float, gradient: float):
    log_probs = torch.tensor([[ratio]], dtype=torch.float64).log().requires_grad_()
    loss, diagnostics = flow_loss(
        log_probs,
        torch.zeros(1, 1, dtype=torch.float64),
        torch.tensor([advantage], dtype=torch.float64),
        1,
        clip_low=0.2,
        clip_high=0.28,
    )
    loss.backward()
    assert loss.item() == pytest.approx(-objective)
    assert log_probs.grad is not None
    assert log_probs.grad.item() == pytest.approx(-gradient)
    clipped = diagnostics.clipped_share_low + diagnostics.clipped_share_high
    assert clipped.item() == (gradient == 0)


@pytest.mark.parametrize(
    ("rounding", "gap", "is_refused"),
    [
        (0.0, 0.0, False),
        (0.0, 1e-7, True),  # float32 repeats its arithmetic to the bit
        (2**-23, 2e-5, False),  # up to 256 roundings where kernels differ
        (2**-23, 5e-5, True),
        (2**-7, 0.19, False),
        (2**-7, 0.21, True),  # beyond the clip range, whatever the precision
        (None, 0.5, False),  # after the first update ratios move
    ],
)
def test_the_first_ratio_is_bounded_by_precision_and_clip_range(rounding, gap, is_refused):
    new = torch.tensor([[math.log1p(gap), 0.0]], dtype=torch.float64)
    mask, advantages = torch.ones(1, 2, dtype=torch.bool), torch.ones(1, dtype=torch.float64)
    clip = {"clip_low": 0.2, "clip_high": 0.28}
    _, seen = token_loss(new, torch.zeros_like(new), advantages, mask, 2, **clip)
    if is_refused:
        with pytest.raises(RunFailed, match=rf"{gap / 0.2:.2g} clip ranges, before the first"):
            ratio_metrics("encoder", [seen], clip=0.2, rounding=rounding)
    else:
        metrics = ratio_metrics("encoder", [seen], clip=0.2, rounding=rounding)
        assert metrics["policy/ratio_gap"] == pytest.approx(gap / 0.2)


def test_flow_and_token_loss_are_one_formula():
    new, old, ref, advantages, _ = batch()
    everything = torch.ones_like(new, dtype=torch.bool)
    clip = {"clip_low": 0.2, "clip_high": 0.28, "beta": 0.1}
    by_tokens = token_loss(new, old, advantages, everything, 88, ref_log_probs=ref, **clip)
    by_steps = flow_loss(new, old, advantages, 88, kl=k3(new, ref), **clip)
    assert torch.equal(by_tokens[0], by_steps[0])
    assert by_tokens[1] == by_steps[1]


def test_dropped_images_might_as_well_not_exist():
    new, old, ref, advantages, _ = batch()
    kept = torch.tensor([True, False, True, True, False, True, False, True])
    clip = {"clip_low": 0.2, "clip_high": 0.28, "beta": 0.1}
    kl = k3(new, ref)
    masked = flow_loss(new, old, advantages, 88, kept=kept, kl=kl, **clip)
    without = flow_loss(new[kept], old[kept], advantages[kept], 88, kl=kl[kept], **clip)
    torch.testing.assert_close(masked[0], without[0])
    assert masked[1].num_terms == without[1].num_terms == 5 * NUM_TOKENS
    torch.testing.assert_close(masked[1].kl, without[1].kl)


def test_kl_is_added_with_its_weight():
    new, _, ref, _, mask = batch()
    difference = loss_of(beta=0.5)[0] - loss_of(beta=0.0)[0]
    kl = k3(new, ref)[mask].mean()
    torch.testing.assert_close(difference, 0.5 * kl)
    torch.testing.assert_close(loss_of()[1].kl, kl.detach())


def test_diagnostics():
    new, old, _, advantages, mask = batch()
    diagnostics = loss_of()[1]
    log_ratio = (new - old).detach()[mask]
    ratio = log_ratio.exp()
    sign = advantages.unsqueeze(1).expand_as(mask)[mask]
    expected = {
        "ratio_mean": ratio.mean(),
        "ratio_max_deviation": (ratio - 1).abs().max(),
        "clipped_share_low": ((ratio < 0.8) & (sign < 0)).double().mean(),
        "clipped_share_high": ((ratio > 1.28) & (sign > 0)).double().mean(),
        "k1": -log_ratio.mean(),  # the form of vwxyzjn/cleanrl ppo.py: old_approx_kl
        "k3": (ratio - 1 - log_ratio).mean(),  # approx_kl
    }
    for name, value in expected.items():
        assert getattr(diagnostics, name).item() == pytest.approx(value.item()), name
    assert expected["clipped_share_low"] > 0
    assert expected["clipped_share_high"] > 0
    assert diagnostics.num_terms == mask.sum()


# --- before the first update -------------------------------------------------------------------


def test_ratio_is_exactly_one_when_log_probs_are_equal():
    _, old, ref, advantages, mask = batch()
    diagnostics = loss_of(batch=(old.clone(), old, ref, advantages, mask))[1]
    assert diagnostics.ratio_mean == 1
    assert diagnostics.ratio_max_deviation == 0
    assert diagnostics.k1 == diagnostics.k3 == 0


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), clip=st.floats(1e-5, 0.5))
def test_at_ratio_one_the_gradient_is_that_of_reinforce(seed: int, clip: float):
    _, old, _, advantages, mask = batch(seed=seed)
    new = old.clone().requires_grad_()
    token_loss(new, old, advantages, mask, 49, clip_low=clip, clip_high=clip)[0].backward()
    reinforce = old.clone().requires_grad_()
    (-(advantages.unsqueeze(1) * reinforce * mask).sum() / 49).backward()
    torch.testing.assert_close(new.grad, reinforce.grad)


def test_zero_advantages_give_zero_gradient():
    new, old, _, advantages, mask = batch()
    loss, _ = token_loss(
        new, old, torch.zeros_like(advantages), mask, 49, clip_low=0.2, clip_high=0.2
    )
    loss.backward()
    assert new.grad is not None
    assert not new.grad.any()


# --- masks and micro-batches -------------------------------------------------------------------


@pytest.mark.parametrize("padding", [float("-inf"), float("nan"), 1e30])
def test_padding_reaches_neither_loss_nor_gradient(padding: float):
    new, old, ref, advantages, mask = batch()
    padded = [t.detach().masked_fill(~mask, padding) for t in (new, old, ref)]
    poisoned = padded[0].requires_grad_()
    loss, diagnostics = loss_of(batch=(poisoned, *padded[1:], advantages, mask))
    clean, clean_diagnostics = loss_of(batch=(new, old, ref, advantages, mask))
    assert torch.equal(loss, clean)
    assert diagnostics == clean_diagnostics
    loss.backward()
    clean.backward()
    assert poisoned.grad is not None
    assert torch.equal(poisoned.grad, new.grad)


@pytest.mark.parametrize("normalization", ["tokens", "constant"])
@pytest.mark.parametrize("micro_batch", [1, 3])
def test_micro_batches_add_up(micro_batch: int, normalization):
    whole = batch()
    split = batch()
    loss, diagnostics = loss_of(batch=whole, normalization=normalization)
    loss.backward()
    parts = [
        loss_of(slice(i, i + micro_batch), normalization, batch=split)
        for i in range(0, NUM_SEQUENCES, micro_batch)
    ]
    for part, _ in parts:
        part.backward()
    torch.testing.assert_close(torch.stack([part for part, _ in parts]).sum(), loss)
    torch.testing.assert_close(split[0].grad, whole[0].grad)
    joined = merged([part for _, part in parts])
    for name in diagnostics.__slots__:
        assert float(getattr(joined, name)) == pytest.approx(float(getattr(diagnostics, name)))


def test_denominators():
    mask = batch()[-1]
    assert token_denominator(mask, "tokens", MAX_TOKENS) == 49
    assert token_denominator(mask, "constant", MAX_TOKENS) == 8 * 16
    assert token_denominator(mask[:0], "constant", MAX_TOKENS) == 1


def test_kl_without_a_reference_is_refused():
    new, old, _, advantages, mask = batch()
    settings = {"clip_low": 0.2, "clip_high": 0.2, "beta": 0.1}
    with pytest.raises(AssertionError, match="beta > 0 needs ref_log_probs"):
        token_loss(new, old, advantages, mask, 49, **settings)
    with pytest.raises(AssertionError, match="beta > 0 needs kl"):
        flow_loss(new, old, advantages, 49, **settings)


# --- golden: TRL -------------------------------------------------------------------------------


def trl_loss(loss_type: str, beta: float, log_probs, old, ref, advantages, mask) -> torch.Tensor:
    """trl's own `GRPOTrainer._compute_loss`, on the least that it reads of a trainer."""
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (
            log_probs,
            torch.zeros_like(log_probs),
            None,
        ),
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        accelerator=SimpleNamespace(
            num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x
        ),
        model=SimpleNamespace(training=True),
        loss_type=loss_type,
        beta=beta,
        epsilon_low=0.2,
        epsilon_high=0.28,
        max_completion_length=MAX_TOKENS,
        current_gradient_accumulation_steps=1,
        importance_sampling_level="token",
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        aux_loss_enabled=False,
        _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)},
    )
    inputs = {
        "prompt_ids": torch.zeros(NUM_SEQUENCES, 2, dtype=torch.long),
        "prompt_mask": torch.ones(NUM_SEQUENCES, 2, dtype=torch.long),
        "completion_ids": torch.zeros(mask.shape, dtype=torch.long),
        "completion_mask": mask.long(),
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": ref,
        "num_items_in_batch": mask.sum(),
    }
    return GRPOTrainer._compute_loss(trainer, None, inputs)


@pytest.mark.parametrize("drift", [0.0, 0.3])
@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize(
    ("loss_type", "normalization"), [("dapo", "tokens"), ("dr_grpo", "constant")]
)
def test_equals_trl(loss_type: str, normalization, beta: float, drift: float):
    ours, theirs = batch(drift), batch(drift)
    expected = trl_loss(loss_type, beta, *theirs)
    loss, _ = loss_of(batch=ours, normalization=normalization, beta=beta)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours[0].grad, theirs[0].grad)
