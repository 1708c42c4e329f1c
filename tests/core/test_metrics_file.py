"""One rule for a damaged line of metrics.jsonl, for all who read it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uae.core.metrics_file import METRICS, read_metrics
from uae.report.curves import curves_from_metrics
from uae.runs.metrics import Metrics

LINES = [
    {"step": step, "stage": "encoder_rl", "session": "rl", "wall_s": 1.0 + step, "reward/mean": 0.5}
    for step in range(3)
]
WHOLE = [json.dumps(line).encode() for line in LINES]

DAMAGES = {
    "cut": WHOLE[1][:30],
    "zeros of a disk that lost power": b"\0" * 40,
    "no UTF-8": WHOLE[1].replace(b"encoder", b"\xffncoder"),
    "two lines run together": WHOLE[1] + WHOLE[1],
    "a list": b"[1, 2]",
    "a number": b"3",
    "no step": WHOLE[1].replace(b'"step"', b'"stop"'),
    "no stage": WHOLE[1].replace(b'"stage"', b'"staga"'),
    "no session": WHOLE[1].replace(b'"session"', b'"sossion"'),
    "no time": WHOLE[1].replace(b'"wall_s"', b'"wall"'),
    "a step in words": WHOLE[1].replace(b'"step": 1', b'"step": "1"'),
    "nested without end": b"[" * 100_000,
}


@pytest.mark.parametrize("damaged", DAMAGES.values(), ids=DAMAGES)
def test_run_and_report_leave_out_the_same_line_and_name_it(tmp_path, caplog, damaged):
    path = tmp_path / METRICS
    path.write_bytes(b"\n".join([WHOLE[0], damaged, WHOLE[2]]) + b"\n")
    (curves,) = curves_from_metrics(path)
    assert curves.series["reward/mean"].steps == (0, 2)
    [said] = caplog.messages
    assert said.startswith(f"{path}, line 2 is damaged or cut short")
    metrics = Metrics(tmp_path)
    metrics.begin("rl", 2)
    with metrics.step(2, "encoder_rl", 3):
        metrics.write({"reward/mean": 0.6})
    metrics.close()
    assert [line["step"] for line in read_metrics(path)] == [0, 2]
    assert len(caplog.messages) == 2, "what was left out at the start is named once"


@given(st.integers(0, len(b"\n".join(WHOLE))))
def test_a_file_cut_anywhere_gives_the_lines_that_are_whole(tmp_path_factory, size):
    path = tmp_path_factory.mktemp("cut") / METRICS
    path.write_bytes(b"\n".join(WHOLE)[:size])
    lines = read_metrics(path)
    assert lines == LINES[: len(lines)]
    assert len(lines) == sum(size >= len(b"\n".join(WHOLE[: n + 1])) for n in range(3))


def test_a_name_with_a_line_separator_of_unicode_ends_no_line(tmp_path):
    line = LINES[0] | {"note": "a\u2028b\x85c"}
    (tmp_path / METRICS).write_text(json.dumps(line, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_metrics(tmp_path / METRICS) == [line]
