import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from demo_report import POINTS, demo
from PIL import Image

from uae.core.errors import UsageError
from uae.report import page as report
from uae.report.audit import Audit
from uae.report.page import BUDGETS, typeset, webp_uri, word_diff, write_report
from uae.report.statistics import Estimate
from uae.report.tables import (
    GalleryItem,
    GalleryState,
    ReportData,
    metric_row,
    result_in_words,
    typical_of,
    worst_of,
)
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image


@pytest.fixture(scope="module")
def data() -> ReportData:
    return demo()


@pytest.fixture(scope="module")
def page(data: ReportData, tmp_path_factory: pytest.TempPathFactory) -> str:
    return _written(data, tmp_path_factory.mktemp("report"))


def _written(data: ReportData, folder: Path) -> str:
    path = folder / "report.html"
    write_report(path, data)
    assert path.stat().st_size < report.MAX_BYTES
    return path.read_text(encoding="utf-8")


class _Tags(HTMLParser):
    """Collects tags with attributes, and checks that what opens is closed in order."""

    VOID = frozenset(("meta", "img", "input", "link", "br"))

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _tags(page: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = _Tags()
    parser.feed(page)
    assert parser.open == []
    return parser.tags


def test_everything_is_inside_the_file(page: str) -> None:
    tags = _tags(page)
    assert "http" not in page.replace("http-equiv", "")
    for _, attributes in tags:
        for name in ("src", "href", "xlink:href"):
            reference = attributes.get(name)
            assert reference is None or reference.startswith(("data:image/webp;", "#"))
    assert all(target == "#" for target in re.findall(r"url\((.)", page))
    policy = next(a["content"] for _, a in tags if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_the_policy_allows_the_one_script(page: str) -> None:
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    assert scripts == [report._SCRIPT]
    assert page.count("'sha256-") == 1


def test_ids_are_unique_and_references_lead_somewhere(page: str) -> None:
    tags = _tags(page)
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = re.findall(r"(?:href=\"|url\()#([^\")]+)", page)
    assert targets
    assert set(targets) <= set(ids)


def test_pictures_have_their_caption_as_alt_text(page: str, data: ReportData) -> None:
    alts = [attributes["alt"] for tag, attributes in _tags(page) if tag == "img"]
    assert all(alts)
    for item in data.gallery:
        assert {state.caption for state in item.states} <= set(alts)


def test_the_order_of_the_page(page: str, data: ReportData) -> None:
    landmarks = [data.title, "never a reward, rose from", "<h2>Results", "<h2>Pictures",
                 "<h2>Curves", "<h2>Audits", "<h2>Throughput", "<h2>The run"]  # fmt: skip
    body = page[page.index("<h1>") :]
    positions = [body.index(landmark) for landmark in landmarks]
    assert positions == sorted(positions)


def test_text_is_escaped(data: ReportData, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> <img src=x onerror=y>"
    first = data.gallery[0]
    states = (*first.states[:-1], replace(first.states[-1], caption=evil))
    page = _written(
        replace(data, title=evil, config_yaml=evil, gallery=(replace(first, states=states),)),
        tmp_path,
    )
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_no_figure_without_interval_and_n(page: str, data: ReportData) -> None:
    for row in data.rows:
        for estimate in filter(None, row.estimates):
            assert report.typeset(report.interval_text(estimate, row.kind)) in page
    assert "3 left out" in page
    assert "253 to 256" in page


def test_many_rows_are_folded_but_none_is_lost(page: str, data: ReportData) -> None:
    chosen = report.main_rows(data.rows)
    names = [row.name for row in chosen if row.group == "Understanding: captions"]
    assert names == ["objects mentioned", "small objects mentioned", "true claims"]
    assert sum(row.group == "Reconstruction similarity" for row in chosen) == 3
    assert f"All {len(data.rows)} metrics" in page
    assert "shape precision" in page


def test_gravest_audits_stand_first(data: ReportData, tmp_path: Path) -> None:
    alarm = Audit("Private code", "alarm", "Private code: the reward rose while all else fell.")
    page = _written(replace(data, audits=(*data.audits, alarm)), tmp_path)
    assert page.index("<b>Alarm.</b> Private code") < page.index("<h2>Results")
    listed = page[page.index("<h2>Audits") :]
    assert "1 alarm, 1 warning" in listed
    assert listed.index("the reward rose while all else fell") < listed.index("Held-out")


def test_a_bare_run_makes_a_page(data: ReportData, tmp_path: Path) -> None:
    failed = GalleryState("Now", "", None, float("nan"), float("nan"))
    page = _written(
        replace(
            data,
            points=("Now",),
            rows=(metric_row("Reconstruction", "Similarity", [np.array([0.5])]),),
            gallery=(GalleryItem("a.jpg", data.gallery[0].original, (failed,)),),
            curves=(),
            audits=(),
            throughput=(),
            worst=(),
        ),
        tmp_path,
    )
    _tags(page)
    assert "redraw failed" in page
    assert "no interval" in page
    assert "Curves" not in page


def test_large_pictures_shrink_and_the_page_says_so(
    data: ReportData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "MAX_BYTES", 600_000)
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (320, 320, 3), dtype=np.uint8))
    states = tuple(GalleryState(p, "Noise.", noise, 0.5, 0.5) for p in POINTS)
    item = GalleryItem("noise", noise, states)
    page = _written(replace(data, gallery=(item,) * 2), tmp_path)
    assert re.search(r"pictures are shown at up to (224|160|128)&nbsp;px", page)


def test_a_page_that_cannot_be_small_is_refused(
    data: ReportData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "MAX_BYTES", 20_000)
    with pytest.raises(UsageError, match=r"show fewer images \(gallery 1, worst 0\)"):
        write_report(tmp_path / "r.html", replace(data, gallery=data.gallery[:1], worst=()))
    assert not list(tmp_path.iterdir())


def test_small_pictures_stay_exact() -> None:
    scene = render_image(scene_at(0, "test"))
    header, encoded = webp_uri(scene, BUDGETS[0]).split(",")
    assert header == "data:image/webp;base64"
    again = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    np.testing.assert_array_equal(np.asarray(again), np.asarray(scene))
    large = scene.resize((640, 320))
    encoded = webp_uri(large, BUDGETS[0]).split(",")[1]
    assert Image.open(io.BytesIO(base64.b64decode(encoded))).size == (320, 160)
    assert large.size == (640, 320)  # the caller's picture is left as it was


def test_diff_of_captions() -> None:
    assert word_diff("A red bar.", "A tiny red cross & bar.") == (
        "A <ins>tiny</ins> red <ins>cross &amp;</ins> bar."
    )
    assert word_diff("a red bar", "a blue bar") == "a <del>red</del> <ins>blue</ins> bar"
    assert word_diff("same", "same") == "same"
    assert word_diff("one two three", "nothing <i>alike</i> here at all") == (
        "nothing &lt;i&gt;alike&lt;/i&gt; here at all"
    )
    assert word_diff("", "new words") == "new words"


def test_numbers_are_set_with_minus_and_thin_space() -> None:
    assert typeset("-0.5 at 95 % of t-test-2") == "\u22120.5 at 95\u202f% of t-test-2"
    assert typeset("+1.0 points, n = 5") == "+1.0\u202fpoints, n\u00a0=\u00a05"


def test_colour_means_outside_the_interval() -> None:
    up, flat = Estimate(0.1, 0.05, 0.15, 9), Estimate(0.1, -0.05, 0.15, 9)
    row = metric_row("g", "m", [np.array([0.1, 0.2])])
    assert report.tone(up, row) == "good"
    assert report.tone(flat, row) == ""
    assert report.tone(up, replace(row, better="down")) == "bad"
    assert report.tone(up, replace(row, better="neither")) == "moved"


def test_metric_row_compares_with_the_last_measured_point() -> None:
    first, last = np.array([0.1, 0.2, 0.3]), np.array([0.2, 0.4, 0.3])
    row = metric_row("g", "m", [first, None, last])
    assert row.estimates[1] is None
    assert row.changes[:2] == (None, None)
    assert row.changes[2] == row.overall
    assert row.overall is not None
    assert row.overall.value == pytest.approx(0.1)
    assert metric_row("g", "m", [None, first]).overall is None


def test_rows_must_fit_the_points(data: ReportData) -> None:
    with pytest.raises(ValueError, match="row 'm' has 1 estimates"):
        replace(data, rows=(metric_row("g", "m", [np.array([0.1])]),))


def test_result_in_words(data: ReportData) -> None:
    assert re.fullmatch(
        r"Held-out similarity rose from 0\.\d{3} to 0\.\d{3} \(\+0\.\d{3}, 95 % interval "
        r"\+0\.\d{3} to \+0\.\d{3}, n = 253\)\. Audits: no alarms, .*",
        result_in_words("Held-out similarity", metric_row("g", "m", [
            np.linspace(0, 1, 253), np.linspace(0, 1, 253) ** 0.9 + 0.1]), data.audits),
    )  # fmt: skip
    still = metric_row("g", "Reward", [np.array([0.1, 0.3]), np.array([0.2, 0.2])])
    assert "did not move beyond its interval, 0.200 before and 0.200 after" in result_in_words(
        "Reward", still, ()
    )
    unknown = metric_row("g", "m", [np.full(2, np.nan), np.full(2, np.nan)])
    assert result_in_words("Reward", unknown, ()).startswith(
        "Reward was not measured: no image has it before and after. Audits: "
    )
    with pytest.raises(ValueError, match="measured once"):
        result_in_words("Reward", metric_row("g", "m", [np.array([0.1])]), ())


def test_the_typical_image_changed_as_the_mean_did(data: ReportData) -> None:
    def moved(by: float) -> GalleryItem:
        first = data.gallery[0]
        before = replace(first.states[0], held_out_similarity=0.5)
        after = replace(first.states[0], held_out_similarity=0.5 + by)
        return replace(first, name=f"moved by {by}", states=(before, after))

    items = [moved(by) for by in (0.4, -0.3, 0.06, float("nan"), 0.0)]
    typical = typical_of(items)
    assert typical is not None
    assert typical.name == "moved by 0.06"  # the mean is 0.04


def test_without_a_change_the_first_image_is_shown(data: ReportData) -> None:
    failed = replace(
        data.gallery[3], states=(replace(data.gallery[3].states[0], held_out_similarity=np.nan),)
    )
    assert typical_of((failed,)) == failed
    assert typical_of(()) is None
    once = [replace(item, states=item.states[:1]) for item in data.gallery]
    assert typical_of(once) == once[0]


def test_worst_first_without_failures(data: ReportData) -> None:
    first = data.gallery[0]
    failed = replace(first, states=(replace(first.states[0], held_out_similarity=float("nan")),))
    worst = worst_of((failed, *data.gallery), 3)
    scores = [item.states[-1].held_out_similarity for item in worst]
    assert len(scores) == 3
    assert scores == sorted(scores)
