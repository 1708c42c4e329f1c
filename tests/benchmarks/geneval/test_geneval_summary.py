import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uae.benchmarks.geneval.clauses import TAGS
from uae.benchmarks.geneval.official import summarize
from uae.report.statistics import proportion
from uae.runs.rows import ItemRow

# share of correct images by tag, over 10 prompts of 4 images
RATES = dict(zip(TAGS, (1.0, 0.5, 0.25, 0.75, 0.0, 0.5), strict=True))


def row(tag: str, prompt: int, correct: bool) -> ItemRow:
    samples = {"correct": float(correct)}
    return ItemRow(item="a.png", labels={"tag": tag}, cluster=f"{tag} {prompt}", samples=samples)


def failed(tag: str, prompt: int) -> ItemRow:
    excluded = {"excluded": "not scored", "excluded_detail": "damaged"}
    return ItemRow(item="a.png", labels={"tag": tag}, cluster=f"{tag} {prompt}", **excluded)


def rows() -> list[ItemRow]:
    return [row(tag, i, j < 4 * RATES[tag]) for tag in TAGS for i in range(10) for j in range(4)]


def test_scores_are_the_official_ones():
    summary = summarize(rows())
    assert {tag: e.value for tag, e in summary.by_tag.items()} == RATES
    assert summary.overall.value == pytest.approx(0.5)
    assert summary.correct_images.value == pytest.approx(0.5)
    assert summary.correct_prompts.value == pytest.approx(5 / 6)
    assert {e.n for e in summary.by_tag.values()} == {40}
    assert (summary.overall.n, summary.correct_images.n, summary.correct_prompts.n) == (
        240,
        240,
        60,
    )


def test_overall_weighs_categories_alike_and_correct_images_do_not():
    more = [row("single_object", i, True) for i in range(10, 70)]
    summary = summarize(rows() + more)
    assert summary.overall.value == pytest.approx(0.5)
    assert summary.correct_images.value == pytest.approx((120 + 60) / 300)


def test_a_prompt_counts_with_one_correct_image():
    images = [row("colors", 0, False), row("colors", 0, True), row("colors", 1, False)]
    assert summarize(images).correct_prompts == proportion(1, 2)


def test_failed_images_are_excluded_and_counted():
    images = [row("colors", 0, True), row("colors", 1, False)]
    summary = summarize([*images, failed("colors", 1), failed("colors", 2)])
    assert (summary.by_tag["colors"].value, summary.by_tag["colors"].n) == (0.5, 2)
    assert summary.by_tag["colors"].num_excluded == 2
    assert summary.correct_images.num_excluded == 2
    # prompt 1 has an image left, prompt 2 has none
    assert summary.correct_prompts == proportion(1, 2, num_excluded=1)


def test_one_image_to_a_prompt_is_a_plain_proportion():
    images = [row("colors", i, i < 3) for i in range(10)]
    assert summarize(images).by_tag["colors"] == proportion(3, 10)


def test_images_of_a_prompt_are_no_independent_trials():
    # all four of a prompt agree: as much as one image to a prompt would say
    images = [row("colors", i, i < 40) for i in range(80) for _ in range(4)]
    clustered = summarize(images).by_tag["colors"]
    plain, single = proportion(160, 320), proportion(40, 80)
    assert clustered.value == 0.5
    assert clustered.n == 320
    assert clustered.high - clustered.low > 1.7 * (plain.high - plain.low)
    # percentile bootstrap and Wilson agree at one half, up to resampling noise
    assert clustered.high - clustered.low == pytest.approx(single.high - single.low, rel=0.1)


def test_prompts_that_are_all_alike_do_not_make_an_interval_empty():
    images = [row("colors", i, j < 2) for i in range(80) for j in range(4)]
    got, prompts = summarize(images).by_tag["colors"], proportion(40, 80)
    assert (got.value, got.low, got.high, got.n) == (0.5, prompts.low, prompts.high, 320)


def test_where_all_agree_the_interval_is_that_of_as_many_prompts():
    for correct, edge in ((True, proportion(10, 10)), (False, proportion(0, 10))):
        images = [row("colors", i, correct) for i in range(10) for _ in range(4)]
        got = summarize([*images, failed("colors", 3)]).by_tag["colors"]
        assert (got.value, got.low, got.high) == (edge.value, edge.low, edge.high)
        assert (got.n, got.num_excluded) == (40, 1)


def test_the_overall_interval_combines_the_categories():
    summary = summarize(rows())
    lower = [(e.value - e.low) ** 2 for e in summary.by_tag.values()]
    upper = [(e.high - e.value) ** 2 for e in summary.by_tag.values()]
    assert summary.overall.low == pytest.approx(0.5 - math.sqrt(sum(lower)) / 6)
    assert summary.overall.high == pytest.approx(0.5 + math.sqrt(sum(upper)) / 6)


def test_the_overall_interval_covers():
    rng = np.random.default_rng(0)
    rates = np.array([0.95, 0.4, 0.35, 0.75, 0.05, 0.1])
    covered = []
    for _ in range(60):
        images = [
            row(tag, i, bool(rng.random() < rate))
            for tag, rate in zip(TAGS, rates, strict=True)
            for i in range(16)
        ]
        overall = summarize(images).overall
        covered.append(overall.low <= rates.mean() <= overall.high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.08)  # 60 trials: 3 standard errors


def test_without_a_category_there_is_no_overall_score():
    summary = summarize([row("colors", i, True) for i in range(3)])
    assert math.isnan(summary.overall.value)
    assert summary.values()["overall"]["value"] is None
    assert summary.values()["tags"]["counting"]["n"] == 0
    assert "n/a" in summary.text()


@settings(max_examples=25)  # each resamples seven times
@given(st.lists(st.tuples(st.sampled_from(TAGS), st.integers(0, 3), st.booleans()), min_size=1))
def test_every_image_counts_once(images):
    summary = summarize([row(*image) for image in images])
    assert sum(e.n for e in summary.by_tag.values()) == summary.correct_images.n == len(images)
    assert summary.correct_images.value == pytest.approx(np.mean([c for _, _, c in images]))
    weighted = sum(e.value * e.n for e in summary.by_tag.values() if e.n) / len(images)
    assert summary.correct_images.value == pytest.approx(weighted)


def test_the_table_names_all_with_n():
    text = summarize([*rows(), failed("colors", 0)]).text()
    assert [line.split("  ")[0] for line in text.split("\n")] == [
        *TAGS,
        "overall (mean of categories)",
        "correct images",
        "correct prompts",
    ]
    assert text.split("\n")[2].startswith("counting                       25.0 %")
    assert "n = 40 images, 1 left out" in text
    assert "n = 60 prompts" in text
