"""Pictures of any generator: seeds by sample, whole grids, outages, and what a scorer reads."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image

from uae.backends.circuit_breaker import MAX_FAILURES_RUNNING, Outages
from uae.backends.failure import Failure
from uae.backends.roles import Caption, Generator
from uae.benchmarks.benchmark import Picture
from uae.benchmarks.drawing import begin, captions_of, draw_pictures, not_drawn, origin_of
from uae.benchmarks.image_origin import ORIGIN, check_prompts, drawn_by
from uae.core.errors import RunFailed
from uae.flow.noise import stream
from uae.runs.cut_captions import Reader

DOWN = Failure("generator: server error", "gone", can_retry=True)
REFUSED = Failure("generator: refused", "not this", can_retry=True)


class Scripted:
    """Draws a color that follows from the sample; what has an answer of its own gets that."""

    reader: Reader | None = None

    def __init__(self, answers: Mapping[str, Image.Image | Failure] | None = None) -> None:
        self.in_batches = False
        self.answers = answers or {}
        self.asked: list[str] = []

    def draw(self, captions: Sequence[Caption]) -> list[Image.Image | Failure]:
        self.asked += [caption.name for caption in captions]
        return [self._draw(caption) for caption in captions]

    def _draw(self, caption: Caption) -> Image.Image | Failure:
        color = hashlib.sha256(f"{caption.name} {caption.text}".encode()).digest()[:3]
        return self.answers.get(caption.name) or Image.new("RGB", (4, 4), tuple(color))


def pictures_in(folder: Path, num_pictures: int, num_samples: int = 1) -> list[Picture]:
    return [
        Picture(folder / f"{i}.png", f"prompt {i}", tuple(("p", i, j) for j in range(num_samples)))
        for i in range(num_pictures)
    ]


def drawn(
    generator: Generator, pictures: list[Picture], *, has_answered: bool = True, **options
) -> dict[Path, Failure]:
    outages = Outages(
        "generator", Path("images"), has_answered=has_answered, again="repeat the command"
    )
    return draw_pictures(generator, pictures, options.pop("batch_size", 4), outages, **options)


def pixels(pictures: list[Picture]) -> list[bytes]:
    return [Image.open(picture.path).tobytes() for picture in pictures]


@pytest.mark.parametrize("in_batches", [False, True])
@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_picture_follows_from_its_samples_whatever_is_drawn_beside_it(
    tmp_path, in_batches, batch_size
):
    whole, parts = (pictures_in(tmp_path / name, 3, 4) for name in ("whole", "parts"))
    shown = []
    assert drawn(Scripted(), whole, show=lambda *x: shown.append(x)) == {}
    assert shown == [(1, 3), (2, 3), (3, 3)]
    generator = Scripted()
    generator.in_batches = in_batches
    assert drawn(generator, parts[1:2]) == {}
    assert drawn(generator, not_drawn(parts)[::-1], batch_size=batch_size) == {}
    assert len(generator.asked) == 12, "a picture that is there was drawn again"
    assert pixels(parts) == pixels(whole)
    with Image.open(whole[0].path) as grid:
        assert grid.size == (8, 8)
        assert len(grid.getcolors()) == 4, "two samples are one"


def test_a_generator_is_told_the_key_that_our_noise_hangs_on():
    picture = Picture(Path("a.png"), "a cat", (("dpg", "a", 0), ("dpg", "a", 1)))
    [first, second] = captions_of(picture)
    assert (first.name, first.text, first.key) == ("dpg/a/0", "a cat", ("dpg", "a", 0))
    assert second.noise(7).initial_seed() == stream(7, "dpg", "a", 1).initial_seed()
    assert Caption("a.png", "").noise(7).initial_seed() == stream(7, "draw", "a.png").initial_seed()


def test_a_grid_is_written_whole_or_not_at_all(tmp_path):
    pictures = pictures_in(tmp_path, 2, 4)
    generator = Scripted({"p/0/1": REFUSED})
    assert drawn(generator, pictures) == {pictures[0].path: REFUSED}
    assert not_drawn(pictures) == pictures[:1]
    assert generator.asked[:3] == ["p/0/0", "p/0/1", "p/1/0"], "a lost grid was drawn further"
    generator.in_batches = True
    again = pictures_in(tmp_path / "again", 2, 4)
    assert drawn(generator, again, batch_size=8) == {again[0].path: REFUSED}
    assert not_drawn(again) == again[:1]


def test_samples_of_several_sizes_make_no_grid(tmp_path):
    pictures = pictures_in(tmp_path, 1, 4)
    [failure] = drawn(Scripted({"p/0/3": Image.new("RGB", (4, 8))}), pictures).values()
    assert str(failure) == "generator: samples of several sizes: 4x4, 4x8"
    assert not_drawn(pictures) == pictures


def test_outages_in_a_row_end_the_run_and_leave_what_is_drawn(tmp_path):
    pictures = pictures_in(tmp_path, 9)
    generator = Scripted({f"p/{i}/0": DOWN for i in range(2, 9)})
    with pytest.raises(RunFailed, match=r"5 items running failed, p/6/0 last .*server error: gone"):
        drawn(generator, pictures)
    assert len(generator.asked) == 2 + MAX_FAILURES_RUNNING
    assert len(not_drawn(pictures)) == 7
    assert drawn(Scripted(), not_drawn(pictures)) == {}


@pytest.mark.parametrize("reason", ["not accepted", "no answer"])
def test_what_may_be_a_matter_of_one_prompt_is_an_outage_before_the_first_answer(tmp_path, reason):
    unfit = Failure(f"generator: {reason}", "too long")
    pictures = pictures_in(tmp_path, 8)
    answers = {f"p/{i}/0": unfit for i in range(6)}
    with pytest.raises(RunFailed, match="5 items running failed"):
        drawn(Scripted(answers), pictures, has_answered=False)
    assert len(drawn(Scripted(answers), pictures)) == 6  # something was drawn in an earlier run
    del answers["p/0/0"]
    assert len(drawn(Scripted(answers), pictures, has_answered=False)) == 5


@pytest.mark.parametrize("between", [Image.new("RGB", (4, 4)), REFUSED])
def test_an_image_or_a_refusal_between_outages_shows_that_the_generator_is_up(tmp_path, between):
    answers = {f"p/{i}/0": DOWN for i in range(9)} | {"p/4/0": between}
    failures = drawn(Scripted(answers), pictures_in(tmp_path, 9))
    assert len(failures) == 8 + (between is REFUSED)


@pytest.mark.parametrize(
    "identity",
    [
        {"model": "diffusers:tiny", "model_sha256": "abc", "dtype": "float16"},
        {"model": "diffusers:them/tiny", "commit": "f" * 40, "dtype": "float32"},
        {"model": "endpoint:m@http://localhost/v1"},
    ],
)
def test_a_scorer_reads_what_drew_and_for_which_prompts(tmp_path, identity):
    begin(tmp_path, origin_of(identity, 3, "six", "abc"))
    assert drawn_by(tmp_path) == identity | {"seed": 3}
    check_prompts(tmp_path, "abc", "six")
    with pytest.raises(ValueError, match="holds images of other prompts"):
        check_prompts(tmp_path, "def")


def test_what_another_program_wrote_says_nothing_of_what_drew(tmp_path):
    (tmp_path / ORIGIN).write_text(json.dumps({"model": "theirs", "seed": "7"}))
    assert drawn_by(tmp_path) == {}
