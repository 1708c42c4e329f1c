"""Pages of benchmark runs: they hold pictures and fetch nothing."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uae.benchmarks.results.compare import compare, comparison_values
from uae.benchmarks.results.page import settings_lines, write_comparison, write_page
from uae.benchmarks.results.pictures import save_thumbnails, with_pictures
from uae.benchmarks.results.run import BenchRun
from uae.benchmarks.results.scores import Score
from uae.core.errors import UsageError
from uae.core.journal import to_line
from uae.core.provenance import BenchSettings, ModelStamp
from uae.data.opening import open_image
from uae.runs.rows import ITEMS as ROWS
from uae.runs.rows import ItemRow, row_values

ITEMS = tuple(f"item-{i:02d}" for i in range(60))


def written_run(folder: Path, *, shift: float = 0.0, files: dict[str, str] | None = None) -> Path:
    """A run whose items score 0/60, 1/60 ...; each has a picture and a caption."""
    stamp = ModelStamp(name="<model>", dtype="none", backend="test", files=files or {})
    settings = BenchSettings(benchmark="sixty", version="1", model=stamp)
    with BenchRun.open(folder, settings) as run:
        for i, item in enumerate(run.todo(ITEMS, str)):
            path = folder / f"{item}.png"
            is_redrawn = bool(shift) and i % 14 == 0
            Image.new("RGB", (8, 8), (4 * i, 0, 99 * is_redrawn)).save(path)
            run.add(
                ItemRow(item=item, excluded="too <large>")
                if i == 59
                else ItemRow(
                    item=item,
                    samples={"score": i / 60 + (shift if i % 7 == 0 else 0)},
                    details={"caption": f"caption & {i}", "pictures": {"image": path.name}},
                )
            )
        run.finish([Score(name="mean", sample="score")])
    return folder


def test_a_page_shows_scores_what_was_left_out_and_the_ends_of_the_list(tmp_path):
    text = write_page(written_run(tmp_path / "run")).read_text()
    assert "&lt;model&gt;" in text
    assert "too &lt;large&gt;: 1 (item-59)" in text
    assert "0.483" in text  # the mean of 0/60 ... 58/60
    shown = re.findall(r"<span>(item-\d+)</span>", text)
    assert shown == [*ITEMS[:24], *reversed(ITEMS[35:59])]
    assert text.count("data:image/webp;base64,") == 48
    assert "caption &amp; 0" in text


def test_a_page_fetches_nothing(tmp_path):
    text = write_page(written_run(tmp_path / "run")).read_text()
    assert "default-src 'none'" in text
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", text)


def test_pictures_that_are_gone_leave_their_items_words(tmp_path):
    run = written_run(tmp_path / "run")
    (run / "item-00.png").unlink()
    text = write_page(run).read_text()
    assert text.count("data:image/webp;base64,") == 47
    assert "caption &amp; 0" in text


def run_on(images: Path, folder: Path) -> Path:
    """A run of one item, whose picture lies elsewhere."""
    images.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(images / "a.png")
    stamp = ModelStamp(name="m", dtype="none", backend="test")
    with BenchRun.open(folder, BenchSettings(benchmark="x", version="1", model=stamp)) as run:
        for item in run.todo(["a"], str):
            row = ItemRow(item=item, samples={"score": 0.5})
            run.add(with_pictures(row, {"image": images / "a.png"}, folder))
        run.finish([Score(name="mean", sample="score")])
    return folder


def test_pictures_are_found_from_anywhere_and_after_a_move(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run = run_on(Path("images/of a"), Path("runs/x"))
    assert write_page(run).read_text().count("data:image/webp") == 1
    monkeypatch.chdir(tmp_path)
    assert write_page(Path("here") / run).read_text().count("data:image/webp") == 1
    (tmp_path / "here").rename(tmp_path / "there")
    assert write_page(Path("there") / run).read_text().count("data:image/webp") == 1


def test_pictures_are_found_where_a_run_is_a_link(tmp_path):
    (tmp_path / "disk/runs").mkdir(parents=True)
    (tmp_path / "runs").symlink_to(tmp_path / "disk/runs")
    run = run_on(tmp_path / "images", tmp_path / "runs/x")
    assert write_page(run).read_text().count("data:image/webp") == 1


def test_rows_of_older_runs_have_a_page(tmp_path, monkeypatch):
    """They name GenEval's image from where the command ran, and no picture of others."""
    monkeypatch.chdir(tmp_path)
    run = run_on(Path("images"), Path("run"))
    row = ItemRow(item="a", samples={"score": 0.5}, details={"filename": "images/a.png"})
    (run / ROWS).write_bytes(to_line(row_values(row)))
    assert write_page(run).read_text().count("data:image/webp") == 1
    (run / ROWS).write_bytes(to_line(row_values(replace(row, details={"prompt": "a cat"}))))
    assert "<i>prompt</i> a cat" in write_page(run).read_text()


def test_words_are_cut_and_what_an_image_was_asked_goes_from_the_worst(tmp_path):
    run = run_on(tmp_path / "images", tmp_path / "run")
    asked = [["How many? two", 0.875], ["Is it <red>?", 0.25]]
    options = {"A": "teal", "C": "red"}
    details = {"prompt": "word " * 61, "options": options, "questions": asked, "reply": ""}
    row = ItemRow(item="a", samples={"score": 0.5}, details=details)
    (run / ROWS).write_bytes(to_line(row_values(row)))
    said = re.findall(r"<p><i>(.*?)</i> (.*?)</p>", write_page(run).read_text())
    assert said == [
        ("prompt", "word " * 60 + "..."),
        ("options", "A. teal, C. red"),
        ("Is it &lt;red&gt;?", "0.25"),
        ("How many? two", "0.88"),
    ]


@pytest.mark.parametrize("size", [(4, 4), (640, 480), (4000, 20), (20, 4000), (1, 1)])
def test_thumbnails_are_small_and_open(tmp_path, size):
    image = Image.new("RGB", size, "red")
    written = save_thumbnails([image, image], tmp_path, "7")
    assert [(label, path.name) for label, path in written.items()] == [
        ("image 1", "7-1.webp"),
        ("image 2", "7-2.webp"),
    ]
    small = open_image(written["image 1"])
    assert max(small.size) == min(256, max(size))
    red, green, blue = np.asarray(small)[0, 0].astype(int)
    assert red > 2 * max(green, blue)  # a line of one pixel is blurred
    assert list(save_thumbnails([image], tmp_path, "8")) == ["image"]


def test_an_unfinished_run_has_no_page(tmp_path):
    run = written_run(tmp_path / "run")
    (run / "result.json").unlink()
    with pytest.raises(UsageError, match=r"holds no result\.json"):
        write_page(run)


def test_a_comparison_shows_what_moved_on_both_sides(tmp_path):
    before = written_run(tmp_path / "before", files={"a": "1", "b": "1"})
    after = written_run(tmp_path / "after", shift=0.5, files={"a": "2", "b": "2"})
    found = compare(before, after)
    path = tmp_path / "moved.html"
    write_comparison(path, before, after, found)
    text = path.read_text()
    shown = re.findall(r"<span>(item-\d+)</span>", text)
    assert sorted(shown) == [ITEMS[i] for i in range(0, 59, 7)]
    assert text.count("image, before") == 2 * 5  # caption and alternative text
    assert text.count(">image</figcaption>") == 4  # the same in both runs: shown once
    assert "<i>caption</i> caption &amp; 7" in text
    assert comparison_values(found)["settings"] == ["2 of the model's files"]


def test_settings_are_told_flat_and_without_files():
    nested = {"model": {"name": "m", "files": {"a": "1"}}, "version": 2}
    assert settings_lines(nested) == [("model.name", "m"), ("version", "2")]


def run_with_curve(folder: Path, sizes: tuple[int, ...], measured: tuple[int, ...]) -> Path:
    """A run with a curve of `sizes`, whose images have redraws at those that were `measured`."""
    stamp = ModelStamp(name="m", dtype="none", backend="test", files={})
    curve = {"methods": ["cut"], "sizes": list(sizes), "num_samples": 1}
    settings = BenchSettings(benchmark="x", version="1", model=stamp, options={"curve": curve})
    names = [f"cut-{size} {key}" for size in sizes for key in ("overall", "tokens")]
    with BenchRun.open(folder, settings) as run:
        for item in run.todo(ITEMS[:4], str):
            samples = {"clip": 0.5}
            for size in measured:
                samples |= {f"cut-{size} overall": size / 64, f"cut-{size} tokens": float(size)}
            run.add(ItemRow(item=item, samples=samples, details={"caption": "c"}))
        run.finish([Score(name=name, sample=name) for name in ("clip", *names)])
    return folder


def test_a_curve_is_drawn_over_the_tokens_that_captions_have(tmp_path):
    text = write_page(run_with_curve(tmp_path / "run", (8, 16, 32), (8, 16, 32))).read_text()
    assert "Rate and distortion" in text
    assert 'aria-label="similarity by tokens in a caption"' in text
    assert len(re.findall(r'<svg class="chart"', text)) == 1


@pytest.mark.parametrize("measured", [(), (8,)])
def test_fewer_than_two_points_are_no_curve(tmp_path, measured):
    text = write_page(run_with_curve(tmp_path / "run", (8, 16), measured)).read_text()
    assert "Rate and distortion" not in text
