import json
from pathlib import Path

from uae.report.curves import curves_from_metrics, throughput_of
from uae.report.tables import Series, StageCurves


def _metrics(path: Path, lines: list[dict[str, object]], tail: str = "") -> Path:
    place = {"session": "rl", "wall_s": 0.0}
    path.write_text("".join(json.dumps(place | line) + "\n" for line in lines) + tail)
    return path


def test_curves_from_metrics(tmp_path: Path) -> None:
    path = _metrics(
        tmp_path / "metrics.jsonl",
        [
            {"step": 0, "stage": "encoder_rl", "seconds": 1.0, "reward/mean": 0.5, "note": "x"},
            {"step": 1, "stage": "encoder_rl", "seconds": 2.0, "reward/mean": 0.9},
            {"step": 1, "stage": "encoder_rl", "seconds": 2.5, "reward/mean": 0.6},  # resumed
            {"step": 2, "stage": "encoder_rl", "seconds": 3.0, "reward/mean": float("nan")},
            {"step": 2, "stage": "decoder_rl", "seconds": 4.0, "reward/mean": None},
        ],
        tail='{"step": 3, "sta',
    )
    encoder, decoder = curves_from_metrics(path)
    assert encoder == StageCurves("encoder_rl", {"reward/mean": Series((0, 1), (0.5, 0.6))})
    assert decoder == StageCurves("decoder_rl", {})


def test_throughput(tmp_path: Path) -> None:
    lines: list[dict[str, object]] = [
        {"step": step, "stage": "encoder_rl", "time/caption_s": 1.0 + step, "time/score_s": 0.5}
        for step in range(3)
    ]
    curves = curves_from_metrics(_metrics(tmp_path / "metrics.jsonl", lines))
    caption, score = throughput_of(curves, {("encoder_rl", "caption"): 128})
    assert (caption.name, caption.seconds_per_step, caption.samples_per_s) == ("caption", 2.0, 64.0)
    assert (score.name, score.seconds_per_step, score.samples_per_s) == ("score", 0.5, None)
