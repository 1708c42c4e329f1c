"""A made-up run with everything that a report can show; nothing in it was trained."""

from dataclasses import replace

import numpy as np
from PIL import Image, ImageFilter

from uae.report.audit import Audit, AuditSamples, verdict
from uae.report.pixel_audit import PixelAudit
from uae.report.tables import (
    GalleryItem,
    GalleryState,
    Phase,
    ReportData,
    Row,
    Series,
    StageCurves,
    metric_row,
    result_in_words,
    worst_of,
)
from uae.report.text_audit import TextAudit
from uae.scenes.graph import COLORS, Scene, scene_at
from uae.scenes.language import long_caption, short_caption
from uae.scenes.render import render_image

POINTS = ("Before", "Pre-training", "Encoder RL", "Decoder RL")
NUM_SCENES = 256
SUBJECT = "Similarity of redraws to their originals, by a backbone that is never a reward,"


def _redraw(scene: Scene, rng: np.random.Generator, skill: float) -> Image.Image:
    """Draw a scene as a half-trained decoder would: wrong colours, blurred."""
    shown = tuple(
        replace(o, color=list(COLORS)[rng.integers(len(COLORS))]) if rng.random() > skill else o
        for o in scene.objects
    )
    image = render_image(Scene(scene.background, shown))
    return image.filter(ImageFilter.GaussianBlur(2.2 * (1 - skill)))


def _item(index: int) -> GalleryItem:
    rng = np.random.default_rng(index)
    scene, states = scene_at(index, "test"), []
    luck = rng.random(len(scene.objects))
    for point, attention, skill in zip(
        POINTS, (0.3, 0.3, 0.95, 0.95), (0.3, 0.75, 0.8, 0.97), strict=True
    ):
        kept = tuple(
            o
            for o, chance in zip(scene.objects, luck, strict=True)
            if chance < attention * (0.7 if o.size == "small" else 2)
        )
        named, words = Scene(scene.background, kept), np.random.default_rng(index)
        caption = (short_caption if attention < 0.5 else long_caption)(named, words)
        held_out = 0.3 + 0.25 * attention + 0.3 * skill + rng.normal(0, 0.03)
        image = _redraw(named, rng, skill)
        states.append(GalleryState(point, caption, image, held_out + 0.08, held_out))
    return GalleryItem(f"test {index}", render_image(scene), tuple(states))


def _rows() -> tuple[Row, ...]:
    rng = np.random.default_rng(3)
    base = rng.normal(0.55, 0.12, NUM_SCENES)

    def numbers(*levels: float) -> list[np.ndarray]:
        return [base + level + rng.normal(0, 0.05, NUM_SCENES) for level in levels]

    def shares(*levels: float | None) -> list[np.ndarray | None]:
        luck = rng.random(NUM_SCENES)
        flips = (rng.random(NUM_SCENES) < 0.1 for _ in levels)
        return [
            None if level is None else np.where(flip, rng.random(NUM_SCENES), luck) < level
            for level, flip in zip(levels, flips, strict=True)
        ]

    failed = numbers(0, 0.04, 0.09, 0.12)
    failed[2][:3] = np.nan
    tokens = [rng.normal(level, 6, NUM_SCENES) for level in (24, 24, 58, 58)]
    captions, generation = "Understanding: captions", "Generation: {} prompts"
    return (
        metric_row("Reconstruction similarity", "held-out backbone", failed, is_headline=True,
                   note="by a backbone that is never a reward"),
        metric_row("Reconstruction similarity", "reward backbone", numbers(0.1, 0.15, 0.22, 0.26)),
        metric_row("Reconstruction similarity", "swap test", numbers(0, 0.04, 0.07, 0.07),
                   note="the captions redrawn by a decoder that RL never trained"),
        metric_row(captions, "objects mentioned", shares(0.52, 0.52, 0.83, 0.83), kind="share"),
        metric_row(captions, "small objects mentioned", shares(0.2, 0.2, 0.68, 0.68),
                   kind="share", is_headline=True),
        metric_row(captions, "true claims", shares(0.93, 0.93, 0.92, 0.92), kind="share",
                   is_headline=True),
        metric_row(captions, "shape precision", shares(0.9, 0.9, 0.82, 0.82), kind="share"),
        metric_row(captions, "mentions of nothing", shares(0.09, 0.09, 0.03, 0.03), kind="share",
                   better="down"),
        metric_row(captions, "length in tokens", tokens, kind="count", better="neither"),
        metric_row("Understanding: questions", "overall", shares(0.75, 0.75, 0.77, 0.77),
                   kind="share", is_headline=True),
        *(
            metric_row(generation.format(wording), name, shares(None, level, level, level + 0.08),
                       kind="share", is_headline=name == "overall" and wording == "long")
            for wording in ("raw", "long")
            for name, level in (("overall", 0.7), ("single object", 0.9), ("two objects", 0.75),
                                ("counting", 0.6), ("colours", 0.85), ("position", 0.72),
                                ("colour attribution", 0.5))
        ),
    )  # fmt: skip


def _curves() -> tuple[StageCurves, ...]:
    rng = np.random.default_rng(4)

    def series(start: float, end: float, noise: float, n: int) -> Series:
        rise = 1 - np.exp(-np.linspace(0, 3, n))
        values = start + (end - start) * rise + rng.normal(0, noise, n)
        return Series(tuple(range(n)), tuple(float(v) for v in values))

    def stage(name: str, n: int, reward: tuple[float, float], kl: str) -> StageCurves:
        length = (24, 58) if name == "encoder_rl" else (58, 58)
        return StageCurves(name, {
            "reward/mean": series(*reward, 0.012, n),
            "caption/num_tokens": series(*length, 1.2, n),
            kl: series(0, 0.02, 0.0015, n),
            "group/zero_spread_share": Series(
                tuple(range(n)), tuple(rng.binomial(16, 0.08, n) / 16)),
        })  # fmt: skip

    return (
        StageCurves("pretrain", {"loss/flow_matching": series(0.9, 0.21, 0.02, 1200)}),
        stage("encoder_rl", 120, (0.66, 0.74), "kl/reference"),
        stage("decoder_rl", 80, (0.74, 0.79), "kl/reference"),
    )


def _audits() -> tuple[Audit, ...]:
    rng = np.random.default_rng(5)
    base = rng.normal(0.6, 0.1, NUM_SCENES)

    def text(unknown: float) -> TextAudit:
        zero = np.zeros(NUM_SCENES)
        return TextAudit(
            repetition=rng.uniform(0, 0.05, NUM_SCENES),
            unknown=np.full(NUM_SCENES, unknown) + rng.uniform(0, 0.01, NUM_SCENES),
            non_latin=zero,
            content_words=rng.uniform(0.5, 0.6, NUM_SCENES),
            num_tokens=rng.normal(50, 5, NUM_SCENES),
            over_limit=zero,
            truncated=zero,
        )

    def samples(gain: float, precision: float, unknown: float) -> AuditSamples:
        moved = base + gain + rng.normal(0, 0.03, NUM_SCENES)
        looks = rng.uniform(0.3, 0.32, NUM_SCENES)
        return AuditSamples(
            reward_similarity=moved + 0.1,
            held_out_similarity=moved,
            swap_similarity=moved - 0.3 * gain,
            caption_precision=np.clip(precision + rng.normal(0, 0.03, NUM_SCENES), 0, 1),
            text=text(unknown),
            redraws=PixelAudit(looks, looks / 10, looks / 50),
        )

    originals = PixelAudit(*(np.full(NUM_SCENES, v) for v in (0.31, 0.031, 0.0062)))
    return verdict(samples(0, 0.92, 0), samples(0.08, 0.925, 0.004), originals)


def demo() -> ReportData:
    rows, audits = _rows(), _audits()
    gallery = tuple(_item(index) for index in range(12))
    return ReportData(
        title="Demo of the whole loop on two cores",
        result=result_in_words(SUBJECT, rows[0], audits),
        reproduce="uae train --config runs/demo/config.yaml --seed 0",
        config_yaml="model: uae-tiny\nseed: 0\nencoder_rl:\n  num_steps: 120\n  kl_beta: 0.04\n",
        environment={"torch": "2.13.0", "transformers": "5.23.0", "processor": "2 cores"},
        points=POINTS,
        rows=rows,
        table_note="256 held-out test scenes, one seed (0).",
        gallery=gallery,
        curves=_curves(),
        audits=audits,
        throughput=(
            *(Phase("encoder_rl", *p) for p in
              (("caption", 1.31, 97.7), ("redraw", 2.52, 50.8), ("score", 0.21, 610.0),
               ("update", 1.02, None))),
            *(Phase("decoder_rl", *p) for p in
              (("caption", 0.4, 40.0), ("redraw", 3.1, 41.3), ("score", 0.2, 640.0),
               ("update", 2.2, None))),
        ),
        worst=worst_of(gallery, 4),
    )  # fmt: skip
