import re
from dataclasses import replace

import numpy as np
from demo_report import demo

from uae.report.charts import moving_average, panels, spark
from uae.report.statistics import Estimate


def test_moving_average_closed_form() -> None:
    np.testing.assert_allclose(moving_average(np.array([1.0, 2, 6, 4]), 3), [1.5, 3, 4, 5])
    values = np.arange(5.0)
    np.testing.assert_array_equal(moving_average(values, 1), values)


def test_charts_follow_the_page_and_keep_their_labels() -> None:
    curves = demo().curves[1]
    drawn = panels(curves)
    assert [panel.title for panel in drawn] == [
        "Reward", "Caption length, tokens", "KL to reference", "Zero-spread groups"
    ]  # fmt: skip
    for panel in drawn:
        assert "var(--chart-line)" in panel.svg
        assert not re.search(r"#0[1-4]0", panel.svg)
        labels = re.findall(r">([^<>]+)</text>", panel.svg)
        assert len(labels) >= 5
        heights = [float(label.strip("%")) for label in labels[-3:]]
        assert len(set(heights)) == 3  # rounding coordinates must not round what is written
    assert panels(curves) == drawn


def test_spark_needs_two_points() -> None:
    point = Estimate(0.5, 0.4, 0.6, 9)
    assert spark((point, None), "x") == ""
    drawn = spark((point, None, replace(point, value=0.6, high=0.7)), "a < b")
    assert drawn.count("<circle") == 2
    assert "a &lt; b" in drawn
