"""Captions as JSON lines and as text files beside images."""

import json
import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uae.core.errors import EnvironmentFault, UsageError
from uae.data.captions import (
    CaptionRow,
    CaptionsWriter,
    read_rows,
    take_in,
)

ROW = CaptionRow(
    image="b/2.jpg",
    caption='A "red" circle,\non gray.',
    num_tokens=7,
    model="uae-tiny",
    seed=3,
    temperature=0.7,
    max_new_tokens=128,
    is_truncated=True,
    redraw="redraws/2.png",
    similarities={"clip": 0.9, "dinov2": 1.0},
)


UNICODE = st.text(st.characters(exclude_categories=("Cs",)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "captions.jsonl"


def test_rows_come_back_as_they_were(path: Path) -> None:
    rows = [ROW, CaptionRow(image="1.jpg", caption="")]
    with CaptionsWriter(path) as captions:
        for row in rows:
            captions.append(row)
    assert read_rows(path) == rows
    lines = path.read_text().splitlines()
    assert json.loads(lines[0])["similarities"] == {"clip": 0.9, "dinov2": 1.0}
    assert json.loads(lines[1]) == {"image": "1.jpg", "caption": "", "is_truncated": False}


@given(UNICODE, st.text().filter(lambda name: "\0" not in name and "/" not in name))
@settings(max_examples=60, deadline=None)
def test_any_text_and_name_survives(caption: str, name: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "captions.jsonl"
        with CaptionsWriter(path) as captions:
            captions.append(CaptionRow(image=f"x{name}", caption=caption))
        (row,) = read_rows(path)
    assert (row.image, row.caption) == (f"x{name}", caption)


def test_file_names_that_are_no_unicode_survive(path: Path) -> None:
    name = b"caf\xe9.jpg".decode(errors="surrogateescape")
    with CaptionsWriter(path) as captions:
        captions.append(CaptionRow(image=name, caption="a cup"))
    assert read_rows(path)[0].image == name


def test_work_goes_on_with_what_is_missing(path: Path) -> None:
    names = ["1.jpg", "b/2.jpg", "3.jpg"]
    with CaptionsWriter(path) as captions:
        assert captions.missing(names) == names
        captions.append(ROW)
        assert captions.missing(names) == ["1.jpg", "3.jpg"]
    with CaptionsWriter(path) as captions:
        assert captions.missing(names) == ["1.jpg", "3.jpg"]
        captions.append(CaptionRow(image="1.jpg", caption="x"))
    assert [row.image for row in read_rows(path)] == ["b/2.jpg", "1.jpg"]


def test_a_row_is_on_file_when_append_returns(path: Path) -> None:
    with CaptionsWriter(path) as captions:
        captions.append(ROW)
        assert read_rows(path) == [ROW]


@contextmanager
def files_up_to(num_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_named_and_leaves_whole_rows(path: Path) -> None:
    with CaptionsWriter(path) as captions:
        captions.append(ROW)
    size = path.stat().st_size
    fault = r"cannot write .*captions\.jsonl: File too large; free some space"
    with (
        pytest.raises(EnvironmentFault, match=fault),
        files_up_to(size + 9),
        CaptionsWriter(path) as captions,
    ):
        captions.append(replace(ROW, image="2.jpg"))
    assert path.stat().st_size == size
    assert read_rows(path) == [ROW]


def test_a_kill_at_any_byte_loses_at_most_the_last_row(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    rows = [ROW, CaptionRow(image="1.jpg", caption="a square"), CaptionRow(image="3", caption="z")]
    with CaptionsWriter(path) as captions:
        for row in rows:
            captions.append(row)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        num_whole = whole[:length].count(b"\n") + (whole[length : length + 1] == b"\n")
        assert read_rows(path) == rows[:num_whole]
        with CaptionsWriter(path) as captions:
            assert captions.missing([row.image for row in rows]) == [
                row.image for row in rows[num_whole:]
            ]
            for row in rows[num_whole:]:
                captions.append(row)
        assert path.read_bytes() == whole


def test_a_line_cut_short_is_named(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir()
    path.write_text('{"image": "1.jpg", "caption": "a"}\n{"image": "2.j')
    assert len(read_rows(path)) == 1
    assert "line 2 was cut short" in caplog.text


def test_two_writers_do_not_share_a_file(path: Path) -> None:
    with CaptionsWriter(path), pytest.raises(UsageError, match="another process is writing to it"):
        CaptionsWriter(path)
    CaptionsWriter(path).__exit__(None, None, None)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{'image': 1}", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "expected an object"),
        ('{"image": "a.jpg", "captoin": "x"}', "key 'caption' is missing; found image, captoin"),
        ('{"caption": "x"}', "key 'image' is missing"),
        ('{"image": 3, "caption": "x"}', "key 'image' is 3: expected text"),
        ('{"image": "a", "caption": null}', "key 'caption' is None: expected text"),
        ('{"image": "a", "caption": "x", "seed": "3"}', "key 'seed' is '3': expected a whole"),
        ('{"image": "a", "caption": "x", "num_tokens": true}', "key 'num_tokens' is True"),
        ('{"image": "a", "caption": "x", "is_truncated": 1}', "expected true or false"),
        ('{"image": "a", "caption": "x", "similarities": {"c": "1"}}', "'similarities.c' is '1'"),
        ('{"image": "../a", "caption": "x"}', "expected a path inside the folder"),
        ('{"image": "/etc/a", "caption": "x"}', "expected a path inside the folder"),
        ('{"image": "", "caption": "x"}', "expected a path inside the folder"),
        ('{"image": "a", "caption": "ab\\ud83d"}', "character 3 is \\ud83d, half of a surrogate"),
    ],
)
def test_a_wrong_line_is_named(path: Path, line: str, words: str) -> None:
    path.parent.mkdir()
    path.write_text(f'{{"image": "1.jpg", "caption": "a"}}\n\n{line}\n')
    with pytest.raises(UsageError) as caught:
        read_rows(path)
    assert str(caught.value).startswith(f"{path}, line 3: ")
    assert words in str(caught.value)
    before = path.read_bytes()
    with pytest.raises(UsageError):
        CaptionsWriter(path)
    assert path.read_bytes() == before


def test_keys_of_others_are_passed_over(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('\ufeff{"image": "1.jpg", "caption": "a", "human": true}\n', encoding="utf-8")
    assert read_rows(path) == [CaptionRow(image="1.jpg", caption="a")]


# -- files of several processes -------------------------------------------------------------------


def written(path: Path, names: str, by: str = "") -> Path:
    with CaptionsWriter(path) as writer:
        for name in names:
            writer.append(CaptionRow(image=name, caption=f"{name} {by}"))
    return path


def of_rank(path: Path, rank: int) -> Path:
    return path.with_name(f"{path.stem}-rank{rank}{path.suffix}")


@pytest.mark.parametrize("kept", range(4))
def test_files_are_taken_in_after_any_stop(tmp_path: Path, path: Path, kept: int):
    written(path, "ab")
    parts = [written(of_rank(path, i), names) for i, names in enumerate(("cd", "e"), start=1)]
    with parts[0].open("ab") as file:
        file.write(b'{"image": "f", "capt')
    written(path, "cde"[:kept])  # a stop came when these were taken in
    take_in(path)
    assert "".join(row.image for row in read_rows(path)) == "abcde"
    assert not any(part.exists() for part in parts)


def test_of_two_captions_of_one_image_the_first_is_kept(tmp_path: Path, path: Path):
    written(of_rank(path, 1), "ab", "again")
    take_in(written(path, "a", "first"))
    assert {row.image: row.caption for row in read_rows(path)} == {"a": "a first", "b": "b again"}
