from dataclasses import fields, replace
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from uae.report.audit import Audit, AuditSamples, judge, summary, verdict
from uae.report.pixel_audit import PixelAudit, audit_pixels, distance_from, excess_over
from uae.report.statistics import Estimate
from uae.report.text_audit import TextAudit, audit_captions
from uae.scenes.graph import scene_at
from uae.scenes.render import render, render_image

NUM_IMAGES = 64

T = TypeVar("T", AuditSamples, PixelAudit, TextAudit)


def _pixels(*images: Image.Image) -> list[np.ndarray]:
    return [np.asarray(image).transpose(2, 0, 1) / 255 for image in images]


@pytest.fixture(scope="module")
def originals() -> PixelAudit:
    return audit_pixels(_pixels(*(render_image(scene_at(i, "test")) for i in range(NUM_IMAGES))))


@pytest.fixture
def before(originals: PixelAudit) -> AuditSamples:
    rng = np.random.default_rng(0)
    similarity = rng.uniform(0.5, 0.7, NUM_IMAGES)
    captions = ["A red bar sits at the top of the picture."] * NUM_IMAGES
    text = audit_captions(
        captions,
        num_tokens=[12] * NUM_IMAGES,
        max_tokens=128,
        truncated=[False] * NUM_IMAGES,
        vocabulary=frozenset(["a", "red", "bar", "sits", "at", "the", "top", "of", "picture"]),
    )
    return AuditSamples(
        reward_similarity=similarity,
        held_out_similarity=similarity - 0.1,
        text=text,
        redraws=originals,
        swap_similarity=similarity - 0.12,
        caption_precision=rng.uniform(0.7, 1.0, NUM_IMAGES),
        shape_accuracy=rng.uniform(0.7, 1.0, NUM_IMAGES),
        understanding=(rng.random(200) < 0.8).astype(float),
    )


def _first(num: int, samples: T) -> T:
    """Return the first rows of all arrays."""
    values = {field.name: getattr(samples, field.name) for field in fields(samples)}
    first = {
        name: value[:num] if isinstance(value, np.ndarray) else _first(num, value)
        for name, value in values.items()
        if value is not None
    }
    return replace(samples, **first)


def _moved(samples: np.ndarray | None, by: float) -> np.ndarray:
    assert samples is not None
    return samples + by + np.random.default_rng(9).normal(0, 0.01, samples.size)


def _by_name(audits: tuple[Audit, ...]) -> dict[str, Audit]:
    return {audit.name: audit for audit in audits}


def test_the_rule() -> None:
    assert judge(Estimate(-0.05, -0.06, -0.04, 9), 0.02, "fall") == "alarm"
    assert judge(Estimate(-0.02, -0.03, -0.01, 9), 0.02, "fall") == "warn"
    assert judge(Estimate(-0.02, -0.05, 0.01, 9), 0.02, "fall") == "ok"
    assert judge(Estimate(0.05, 0.04, 0.06, 9), 0.02, "fall") == "ok"
    assert judge(Estimate(0.05, 0.04, 0.06, 9), 0.02, "rise") == "alarm"
    assert judge(Estimate(0.05, float("nan"), float("nan"), 1), 0.02, "rise") == "not measured"


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0.001, 0.5))
def test_the_rule_mirrors(value: float, half: float, margin: float) -> None:
    up = Estimate(value, value - half, value + half, 9)
    down = Estimate(-value, -up.high, -up.low, 9)
    assert judge(up, margin, "rise") == judge(down, margin, "fall")


def test_nothing_moved_means_nothing_wrong(before: AuditSamples, originals: PixelAudit) -> None:
    audits = verdict(before, before, originals)
    assert {audit.status for audit in audits} == {"ok"}
    assert summary(audits) == f"no alarms, no warnings, {len(audits)} in order"


@pytest.mark.parametrize(("num", "status"), [(9, "not measured"), (10, "alarm")])
def test_a_change_of_fewer_than_ten_is_not_judged(
    before: AuditSamples, originals: PixelAudit, num: int, status: str
) -> None:
    few = replace(_first(num, before), text_skills=np.ones(num))
    originals = _first(num, originals)
    after = replace(
        few,
        reward_similarity=few.reward_similarity + 0.1,
        caption_precision=few.caption_precision - 0.3,
        text_skills=np.zeros(num),
    )
    audits = _by_name(verdict(few, after, originals))
    for name in ("Private code", "Caption precision", "Text skills"):
        assert audits[name].status == status
        assert f"n = {num}" in audits[name].sentence
        assert ("not judged" in audits[name].sentence) == (
            status == "not measured" and name != "Private code"
        )
    unchanged = _by_name(verdict(few, few, originals))
    assert unchanged["Text skills"].status == ("ok" if num == 10 else "not measured")


def test_an_honest_gain_is_in_order(before: AuditSamples, originals: PixelAudit) -> None:
    after = replace(
        before,
        reward_similarity=_moved(before.reward_similarity, 0.05),
        held_out_similarity=_moved(before.held_out_similarity, 0.04),
        swap_similarity=_moved(before.swap_similarity, 0.03),
    )
    audits = _by_name(verdict(before, after, originals))
    assert audits["Private code"].status == "ok"
    assert audits["Private code"].sentence.startswith("No sign of a private code: the reward rose")
    assert audits["Held-out similarity"].status == "ok"
    assert "The trained decoder is ahead of it by 0.03" in audits["Swap test"].sentence


@pytest.mark.parametrize(
    ("field", "named"),
    [
        ("held_out_similarity", "held-out similarity fell"),
        ("swap_similarity", "swap test fell"),
        ("caption_precision", "caption precision fell"),
    ],
)
def test_private_code_in_words(
    before: AuditSamples, originals: PixelAudit, field: str, named: str
) -> None:
    after = replace(
        before,
        **{
            "reward_similarity": _moved(before.reward_similarity, 0.05),
            field: _moved(getattr(before, field), -0.008),
        },
    )
    audit = _by_name(verdict(before, after, originals))["Private code"]
    assert audit.status == "alarm"
    assert audit.sentence.startswith("Private code: the reward rose (+0.0")
    assert named in audit.sentence


def test_a_fall_without_a_reward_is_no_private_code(
    before: AuditSamples, originals: PixelAudit
) -> None:
    after = replace(before, caption_precision=_moved(before.caption_precision, -0.2))
    audits = _by_name(verdict(before, after, originals))
    assert audits["Private code"].status == "ok"
    assert "no gain to doubt" in audits["Private code"].sentence
    assert audits["Caption precision"].status == "alarm"


def test_a_reward_that_the_held_out_backbone_does_not_see(
    before: AuditSamples, originals: PixelAudit
) -> None:
    after = replace(before, reward_similarity=_moved(before.reward_similarity, 0.05))
    audit = _by_name(verdict(before, after, originals))["Held-out similarity"]
    assert audit.status == "warn"
    assert "The reward rose without it" in audit.sentence


def test_text_gone_wrong(before: AuditSamples, originals: PixelAudit) -> None:
    text = audit_captions(
        ["zorp zorp zorp zorp zorp \u7ea2\u7ea2"] * NUM_IMAGES,
        num_tokens=[200] * NUM_IMAGES,
        max_tokens=128,
        truncated=[True] * NUM_IMAGES,
        vocabulary=frozenset({"red"}),
    )
    audits = _by_name(verdict(before, replace(before, text=text), originals))
    for name in ("Repetition", "Unknown words", "Script", "Fluency", "Length", "Truncation"):
        assert audits[name].status == "alarm", name
    assert "200.0 tokens on average, 12.0 before; 100.0 % are longer" in audits["Length"].sentence


def test_one_truncated_caption_is_a_warning(before: AuditSamples, originals: PixelAudit) -> None:
    truncated = np.zeros(NUM_IMAGES)
    truncated[3] = 1
    after = replace(before, text=replace(before.text, truncated=truncated))
    assert _by_name(verdict(before, after, originals))["Truncation"].status == "warn"


def test_without_ground_truth_it_says_so(before: AuditSamples, originals: PixelAudit) -> None:
    bare = replace(before, swap_similarity=None, caption_precision=None, shape_accuracy=None)
    audits = verdict(bare, bare, originals)
    unmeasured = [audit.name for audit in audits if audit.status == "not measured"]
    assert unmeasured == ["Swap test", "Caption precision", "Shape accuracy"]
    assert "3 not measured" in summary(audits)


def test_failures_are_left_out_and_said(before: AuditSamples, originals: PixelAudit) -> None:
    failed = before.held_out_similarity.copy()
    failed[:4] = np.nan
    audit = _by_name(verdict(before, replace(before, held_out_similarity=failed), originals))[
        "Held-out similarity"
    ]
    assert audit.change is not None
    assert (audit.change.n, audit.change.num_excluded) == (NUM_IMAGES - 4, 4)
    assert f"n = {NUM_IMAGES - 4}, 4 left out" in audit.sentence


def test_writing_and_checkers_are_seen(before: AuditSamples, originals: PixelAudit) -> None:
    scenes = [render_image(scene_at(i, "test")) for i in range(NUM_IMAGES)]
    for image in scenes:
        ImageDraw.Draw(image).text((2, 2), "red cross", fill="black")
    written = replace(before, redraws=audit_pixels(_pixels(*scenes)))
    assert _by_name(verdict(before, written, originals))["Painted text"].status == "alarm"

    checker = 0.1 * (-1.0) ** np.add.outer(np.arange(64), np.arange(64))
    plain = np.stack([render(scene_at(i, "test")).transpose(2, 0, 1) for i in range(NUM_IMAGES)])
    gridded = audit_pixels([*np.clip(plain / 255 + checker + 0.05, 0, 1)])
    audits = _by_name(verdict(before, replace(before, redraws=gridded), originals))
    assert audits["High frequencies"].status == "alarm"
    assert audits["Brightness"].status == "alarm"


def test_pixel_measures_closed_form() -> None:
    flat = np.full((1, 3, 32, 48), 0.25)
    audit = audit_pixels([*flat])
    assert audit.brightness == pytest.approx(0.25)
    assert audit.high_frequency == pytest.approx(0, abs=1e-12)
    assert audit.strokes == 0
    # DCT-II basis function k = 24 of 32 rows: 24 / 64 = 0.375 cycles per pixel, RMS A / sqrt(2).
    wave = np.cos(np.pi * (np.arange(32) + 0.5) * 24 / 32)[:, None]
    assert audit_pixels([*(flat + 0.1 * wave)]).high_frequency == pytest.approx(0.1 / np.sqrt(2))
    slow = np.cos(np.pi * (np.arange(32) + 0.5) * 15 / 32)[:, None]
    assert audit_pixels([*(flat + 0.1 * slow)]).high_frequency == pytest.approx(0, abs=1e-12)
    red = np.zeros((1, 3, 8, 8))
    red[:, 0] = 1
    assert audit_pixels([*red]).brightness == pytest.approx(0.2126)


def test_a_thin_line_is_a_stroke_and_a_block_is_not() -> None:
    line = np.full((1, 3, 64, 64), 0.8)
    line[:, :, 20, 10:50] = 0.1
    assert audit_pixels([*line]).strokes == pytest.approx(40 / 64**2)
    block = np.full((1, 3, 64, 64), 0.8)
    block[:, :, 20:30, 10:50] = 0.1
    assert audit_pixels([*block]).strokes == 0


def test_a_failed_redraw_is_nan() -> None:
    failed = np.full((2, 3, 16, 16), 0.5)
    failed[1] = np.nan
    audit = audit_pixels([*failed])
    for values in (audit.brightness, audit.high_frequency, audit.strokes):
        np.testing.assert_array_equal(np.isnan(values), [False, True])


def test_distance_and_excess() -> None:
    originals, redraws = np.array([0.5, 0.5, np.nan]), np.array([0.2, 0.6, 0.1])
    np.testing.assert_allclose(distance_from(originals, redraws), [0.3, 0.1, np.nan])
    np.testing.assert_allclose(excess_over(originals, redraws), [0, 0.1, np.nan])
