"""A run of judged and derived rows: stopped, taken up, tried again, given up."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from scripted_judge import ScriptedJudge
from stub_endpoint import fault, said, stub

from uae.backends.client import Client, EndpointConfig
from uae.backends.endpoint import Endpoint
from uae.backends.failure import BackendFailed
from uae.backends.judge import ChatJudge
from uae.benchmarks.benchmark import Plan, Work
from uae.benchmarks.judged.images import check_images
from uae.benchmarks.judged.rows import JudgedTask, failed_row, unscored
from uae.benchmarks.prompt_set import PromptSet
from uae.benchmarks.results.scores import Score
from uae.benchmarks.run import run_plan
from uae.core.errors import RunFailed, UsageError
from uae.runs.rows import ITEMS, ItemRow, read_rows

IMAGE = Image.new("RGB", (4, 4), "red")
SCORES = [Score(name="mean", sample="mean", where={"of": "all"})]


@pytest.fixture
def images(tmp_path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(8):
        IMAGE.save(folder / f"{i}.png")
    return folder


def settings(images: Path):
    found = check_images(images, {str(i): images / f"{i}.png" for i in range(8)})
    return JudgedTask(PromptSet({}), found, ScriptedJudge(kind="endpoint")).settings("b", "1", {})


def works(judge: ChatJudge, images: Path) -> list[Work]:
    """Eight questions, and a row that follows from all of them."""

    def asked(i: int):
        def make(_):
            row = ItemRow(item=str(i))
            try:
                reply = judge.reply(IMAGE, "", f"question {i}", 5)
            except BackendFailed as error:
                return failed_row(row, error)
            return replace(row, samples={"value": float(reply)})

        return Work(item=str(i), make=make, group="all", image=images / f"{i}.png")

    def mean(rows):
        found = [rows[str(i)] for i in range(8)]
        row = ItemRow(item="all", labels={"of": "all"})
        if any(one.excluded for one in found):
            return unscored(row, found)
        return replace(row, samples={"mean": sum(one.samples["value"] for one in found) / 8})

    every = Work(item="all", make=mean, is_asked=False, group="all", image=images / "0.png")
    return [*map(asked, range(8)), every]


def number(body: dict) -> int:
    return int(body["messages"][-1]["content"][-1]["text"].split()[-1])


def judged(server, images: Path, out: Path, **options):
    config = EndpointConfig(base_url=server.url, model="m", max_tries=1)
    given = works(ChatJudge(Endpoint(Client(config))), images)
    return run_plan(Plan(settings(images), given, lambda _: SCORES), out, **options)


def test_each_question_is_asked_once_however_often_it_stops(images, tmp_path):
    def dying(_path, body):
        return (
            fault(401) if number(body) == 5 and len(server.asked) < 7 else said(str(number(body)))
        )

    shown: list[tuple[int, int]] = []
    with stub(dying) as server:
        with pytest.raises(UsageError):
            judged(server, images, tmp_path / "run")
        assert len(read_rows(tmp_path / "run" / ITEMS)) == 5
        result = judged(server, images, tmp_path / "run", show=lambda *counts: shown.append(counts))
    assert [number(body) for body in server.asked] == [0, 1, 2, 3, 4, 5, 5, 6, 7]
    assert shown == [(5, 8), (6, 8), (7, 8), (8, 8)]
    assert result.by_name("mean").value == 3.5


def test_a_failed_question_is_excluded_once_and_can_be_asked_again(images, tmp_path):
    broken = {3}

    def answer(_path, body):
        return fault(500) if number(body) in broken else said("1")

    with stub(answer) as server:
        result = judged(server, images, tmp_path / "run")
        assert result.by_name("mean").n == 0
        assert result.by_name("mean").num_excluded == 1
        assert [(x, list(of)) for x, of in result.excluded.items()] == [
            ("judge: server error", ["3"])
        ]
        broken.clear()
        assert judged(server, images, tmp_path / "run").num_excluded == 1
        assert len(server.asked) == 8
        result = judged(server, images, tmp_path / "run", retry_failed=True)
    assert [number(body) for body in server.asked[8:]] == [3]
    assert (result.by_name("mean").value, result.num_excluded) == (1.0, 0)


def test_a_judge_that_is_down_ends_the_run_and_loses_nothing(images, tmp_path):
    is_down = True

    def answer(_path, body):
        return fault(503) if is_down and number(body) >= 2 else said("1")

    with stub(answer) as server:
        with pytest.raises(RunFailed, match="5 items running failed, 6 last"):
            judged(server, images, tmp_path / "run")
        assert len(server.asked) == 7
        is_down = False
        result = judged(server, images, tmp_path / "run", retry_failed=True)
    assert [number(body) for body in server.asked[7:]] == [2, 3, 4, 5, 6, 7]
    assert result.by_name("mean").value == 1.0


def test_images_are_checked_before_a_judge_is_asked(images):
    expected = {str(i): images / f"{i}.png" for i in range(9)}
    (images / "2.png").write_bytes(b"damaged")
    with pytest.raises(UsageError, match=r"1 missing images: 8\n  1 unreadable images: 2: "):
        check_images(images, expected)
    with pytest.raises(UsageError, match="or give --allow-missing, and the result will be marked"):
        check_images(images, expected)
    found = check_images(images, expected, ["x.png"], allow_missing=True)
    assert not found.is_complete
    assert len(found.paths) == 8
    assert "1 files of no item: x.png" in found.summary()
    with pytest.raises(UsageError, match="holds no image to judge"):
        check_images(images, {"2": images / "2.png", "x": None}, allow_missing=True)
    odd = check_images(images, {"0": images / "0.png"}, ["x.png"])
    assert odd.is_complete, "a file too many changes no score"
