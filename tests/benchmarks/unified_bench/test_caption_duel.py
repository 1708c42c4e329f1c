"""Two captions of an image before a judge, in both orders."""

import json

import pytest

from uae.backends.failure import BackendFailed
from uae.backends.judge import JudgeStamp
from uae.benchmarks.run import run_plan
from uae.benchmarks.unified_bench.duel import (
    pair_up,
    plan_of,
    read_verdict,
    samples_of,
)
from uae.core.errors import UsageError
from uae.runs.rows import read_rows
from uae.scenes.graph import scene_at
from uae.scenes.render import render_image

NAMES = ("a.png", "b.png")


def verdict_text(choice: str, a: int = 5, b: int = 5) -> str:
    points = {
        which: {"completeness": p, "fluency": p, "insight": p} for which, p in (("A", a), ("B", b))
    }
    return json.dumps(points | {"choice": choice})


class Script:
    """A judge that says what a function of the question says."""

    stamp = JudgeStamp(kind="endpoint", name="script", dtype="unknown")

    def __init__(self, answer) -> None:
        self.answer = answer
        self.num_asked = 0

    def reply(self, image, system, text, max_tokens):
        self.num_asked += 1
        reply = self.answer(text)
        if isinstance(reply, BackendFailed):
            raise reply
        return reply

    def p_of(self, image, question, forms):
        raise NotImplementedError


@pytest.fixture
def files(tmp_path):
    images = {}
    for i, name in enumerate(NAMES):
        images[name] = tmp_path / name
        render_image(scene_at(i, "test"), 32).save(images[name])
    for which in ("one", "two"):
        rows = [{"image": name, "caption": f"{which} {name}"} for name in NAMES]
        (tmp_path / f"{which}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return images, tmp_path / "one.jsonl", tmp_path / "two.jsonl"


def judged(files, answer, out, **options):
    images, first, second = files
    duels, judge = pair_up(images, first, second)[0], Script(answer)
    plan = plan_of(judge, duels, first, second)
    return run_plan(plan, out, **options), judge


def prefers_two(text: str) -> str:
    return verdict_text("A" if text.index("two ") < text.index("one ") else "B")


def test_a_judge_with_a_taste_of_its_own(files, tmp_path):
    result, _ = judged(files, prefers_two, tmp_path / "run")
    values = {x.score.name: x.estimate.value for x in result.scores}
    assert values["second preferred"] == 1
    assert values["orders agree"] == 1
    assert values["first place preferred"] == 0.5


def test_a_judge_that_prefers_a_place_prefers_no_caption(files, tmp_path):
    result, _ = judged(files, lambda text: verdict_text("A"), tmp_path / "run")
    values = {x.score.name: x.estimate.value for x in result.scores}
    assert values["second preferred"] == 0.5
    assert values["orders agree"] == 0
    assert values["first place preferred"] == 1


def test_points_follow_the_caption_and_not_its_place():
    forth = read_verdict(verdict_text("B", a=2, b=8))
    back = read_verdict(verdict_text("A", a=6, b=4))
    samples = samples_of(forth, back)
    assert samples["first_fluency"] == 3
    assert samples["second_fluency"] == 7
    assert samples["second_preferred"] == 1


def test_a_reply_is_read_with_words_around_it():
    assert read_verdict(f"Here it is:\n```json\n{verdict_text('B')}\n```").choice == "B"


@pytest.mark.parametrize(
    ("reply", "where"),
    [
        ("B is better.", "the reply: no JSON object found, expected one with A, B and choice$"),
        ("", "the reply: no JSON object found"),
        ("{B is better}", "the reply: no JSON object found"),
        (verdict_text("C"), "choice"),
        (verdict_text("A", a=11), "A.completeness"),
        ('{"A": {}, "B": {}, "choice": "A"}', "A.completeness"),
    ],
)
def test_a_reply_of_another_form_is_a_failure_that_says_where(reply, where):
    with pytest.raises(BackendFailed, match=f"not the form asked for: {where}"):
        read_verdict(reply)


def test_failures_are_counted_apart_and_tried_again_when_asked(files, tmp_path):
    def fails_on_b(text):
        return BackendFailed("judge: timed out", "") if "b.png" in text else prefers_two(text)

    result, _ = judged(files, fails_on_b, tmp_path / "run")
    assert result.by_name("second preferred").n == 1
    assert {x: list(of) for x, of in result.excluded.items()} == {"judge: timed out": ["b.png"]}
    result, judge = judged(files, prefers_two, tmp_path / "run", retry_failed=True)
    assert result.num_excluded == 0
    assert judge.num_asked == 2


def test_raw_replies_are_kept(files, tmp_path):
    judged(files, prefers_two, tmp_path / "run")
    rows = read_rows(tmp_path / "run" / "items.jsonl")
    assert all(len(row.details["replies"]) == 2 for row in rows)


def test_an_image_without_a_second_caption_is_refused(files):
    images, first, second = files
    second.write_text(second.read_text().splitlines()[0] + "\n")
    said = r"two\.jsonl: not all of 2 images have a caption:\n  1 images without .*: b\.png\nAdd"
    with pytest.raises(UsageError, match=said):
        pair_up(images, first, second)
    many = {**images, **{f"{i:02d}.png": images["a.png"] for i in range(24)}}
    with pytest.raises(UsageError) as caught:
        pair_up(many, first, second)
    named = ", ".join(f"{i:02d}.png" for i in range(20))
    assert "one.jsonl: not all of 26 images have a caption:\n" in str(caught.value)
    assert f"  24 images without a caption: {named}, and 4 more\n" in str(caught.value)
