"""The audit of what RL stages excluded."""

import json

import pytest

from uae.report.curves import curves_from_metrics
from uae.report.exclusion_audit import exclusion_audit

SAMPLES = {
    ("encoder_rl", "update"): 10,
    ("decoder_rl", "update"): 20,
    ("joint", "caption"): 10,
    ("joint", "redraw"): 40,
}


def audited(tmp_path, *lines):
    """Audit a run that logged `(stage, values)`."""
    path = tmp_path / "metrics.jsonl"
    rows = [
        {"step": i, "stage": stage, "session": "rl", "wall_s": i, **values}
        for i, (stage, values) in enumerate(lines)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return exclusion_audit(curves_from_metrics(path), SAMPLES)


def step(excluded, grad_norm):
    return {"group/excluded_samples": excluded, "optim/grad_norm": grad_norm}


@pytest.mark.parametrize(
    ("steps", "status"),
    [
        ([step(0.0, 1.0), step(0.0, 0.0)], "ok"),
        ([step(1.0, 1.0), step(1.0, 1.0)], "ok"),
        ([step(1.0, 1.0), step(2.0, 1.0)], "warn"),
        ([step(10.0, 0.0), step(0.0, 1.0)], "warn"),
        ([step(10.0, 0.0), step(10.0, 0.0)], "alarm"),
        ([step(8.0, 0.0), step(10.0, 0.0)], "alarm"),
        ([step(0.0, 0.0), step(0.0, 0.0)], "ok"),
    ],
)
def test_the_rule(steps, status, tmp_path):
    [audit] = audited(tmp_path, *(("encoder_rl", values) for values in steps))
    assert audit.status == status


def test_each_stage_is_told_and_the_worst_one_judged(tmp_path):
    lines = ("encoder_rl", step(0.0, 1.0)), ("decoder_rl", step(20.0, 0.0))
    [audit] = audited(tmp_path, *lines)
    assert audit.status == "alarm"
    assert audit.change is not None
    assert audit.change.value == 1
    assert audit.sentence == (
        "The updates left out 0.0 % of the captions in encoder RL, 100.0 % of the redraws in "
        "decoder RL. They teach nothing: truncated captions, or redraws and scores that failed. "
        "No step had any that count among the redraws in decoder RL."
    )


def test_joint_rl_has_two_sides(tmp_path):
    values = {
        "group/excluded_samples": 0.0,
        "encoder/group/excluded_samples": 10.0,
        "encoder/optim/grad_norm": 0.0,
        "decoder/optim/grad_norm": 1.0,
    }
    [audit] = audited(tmp_path, ("joint", values))
    assert audit.status == "alarm"
    assert "100.0 % of the captions in joint RL, 0.0 % of the redraws in joint RL" in audit.sentence


def test_without_rl_there_is_no_such_audit(tmp_path):
    assert audited(tmp_path, ("pretrain", {"loss/flow_matching": 1.0})) == ()
