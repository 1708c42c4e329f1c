import base64
import csv
import io
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uae.core.errors import UsageError
from uae.data.questions import (
    LETTERS,
    Question,
    QuestionRow,
    decode_images,
    encode_image,
    read_tsv,
    write_tsv,
)
from uae.data.untrusted.file import Reason, UnreadableImage
from uae.scenes.graph import scene_at
from uae.scenes.questions import questions_for
from uae.scenes.render import render_image

RED = encode_image(Image.new("RGB", (3, 2), "red"))
BLUE = encode_image(Image.new("RGB", (2, 3), "blue"))
QUESTION = Question("What?", ("a", "b", "c", "d"), "B", "color_recognition", "ocr")


def rows(num: int) -> list[QuestionRow]:
    rng = np.random.default_rng(0)
    scenes = [scene_at(i, "train", seed=4) for i in range(num)]
    return [
        QuestionRow(i, questions_for(s, rng, 1)[0], encode_image(render_image(s)), "VAL")
        for i, s in enumerate(scenes)
    ]


def edited(path: Path, column: str, value: str) -> Path:
    """A file of two rows, with a cell of the second replaced."""
    write_tsv(path, rows(2))
    with path.open(newline="") as file:
        table = list(csv.reader(file, dialect="excel-tab"))
    table[2][table[0].index(column)] = value
    with path.open("w", newline="") as file:
        csv.writer(file, dialect="excel-tab", lineterminator="\n").writerows(table)
    return path


def test_a_file_comes_back_as_it_was(tmp_path: Path):
    odd = Question('Tab\there, "quoted",\nnew line?', ("a", "b", "c"), "C", "x", "y", hint="h")
    gap = Question("Where is C?", ("a", "b", "", "d"), "D", "x", "y")
    written = [*rows(5), QuestionRow(9, odd, RED, "TEST"), QuestionRow(10, gap, RED, "TEST")]
    write_tsv(tmp_path / "q.tsv", written)
    read = list(read_tsv(tmp_path / "q.tsv"))
    assert [(r.index, r.question, r.split, r.image) for r in read] == [
        (r.index, r.question, r.split, r.image) for r in written
    ]
    scene = np.asarray(render_image(scene_at(0, "train", seed=4)))
    assert np.array_equal(np.asarray(decode_images(read[0])[0]), scene)
    assert read[6].question.lettered == {"A": "a", "B": "b", "D": "d"}
    assert read[0].where == f"{tmp_path / 'q.tsv'}, line 2"


def test_the_columns_are_mmt_benchs(tmp_path: Path):
    write_tsv(tmp_path / "q.tsv", rows(1))
    header = (tmp_path / "q.tsv").read_text().split("\n")[0].split("\t")
    assert header == [
        *("index", "question", "hint", "A", "B", "C", "D"),
        *("answer", "category", "l2-category", "split", "image"),
    ]


def test_nine_options_come_back(tmp_path: Path):
    q = Question("Which?", tuple("qrstuvwxy"), "I", "c", "l")
    write_tsv(tmp_path / "q.tsv", [QuestionRow(0, q, RED, "VAL")])
    assert next(read_tsv(tmp_path / "q.tsv")).question == q


def test_words_that_pandas_takes_for_nothing_are_options(tmp_path: Path):
    q = Question("Which?", ("None", "NA", "nan"), "A", "c", "l")
    write_tsv(tmp_path / "q.tsv", [QuestionRow(0, q, RED, "VAL")])
    assert next(read_tsv(tmp_path / "q.tsv")).question.lettered == {
        "A": "None",
        "B": "NA",
        "C": "nan",
    }


def test_images_may_be_large(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    big = QuestionRow(0, QUESTION, encode_image(Image.fromarray(noise)), "VAL")
    write_tsv(tmp_path / "q.tsv", [big])
    assert (tmp_path / "q.tsv").stat().st_size > 400_000
    csv.field_size_limit(131_072)  # csv's default, which is too small
    assert len(list(read_tsv(tmp_path / "q.tsv"))) == 1
    csv.field_size_limit(sys.maxsize)


def test_rows_are_read_one_by_one(tmp_path: Path):
    """A fault in the last row does not keep the first from coming, and no image is decoded."""
    path = edited(tmp_path / "q.tsv", "answer", "X")
    reader = read_tsv(path)
    assert next(reader).index == 0
    with pytest.raises(UsageError):
        next(reader)
    assert next(read_tsv(edited(path, "image", "no base64!"))).image


# -- images -------------------------------------------------------------------------------------


def sizes(cell: str) -> list[tuple[int, int]]:
    return [image.size for image in decode_images(QuestionRow(0, QUESTION, cell, "VAL", "f"))]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (RED, [(3, 2)]),
        (f" {RED}\n", [(3, 2)]),
        (f"['{RED}']", [(3, 2)]),
        (f"['{RED}', '{BLUE}']", [(3, 2), (2, 3)]),
        (f'["{BLUE}","{RED}"]', [(2, 3), (3, 2)]),
        (f"{RED[:76]}\n{RED[76:]}\n", [(3, 2)]),
        (f"['{BLUE[:60]}\r\n  {BLUE[60:]}', '{RED}']", [(2, 3), (3, 2)]),
    ],
)
def test_a_cell_holds_an_image_or_a_list(cell: str, expected: list[tuple[int, int]]):
    assert sizes(cell) == expected


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("", Reason.EMPTY_FILE),
        ("[]", Reason.EMPTY_FILE),
        (f"['{RED}', '']", Reason.EMPTY_FILE),
        ("no base64!", Reason.DAMAGED),
        ("AAAAA", Reason.DAMAGED),
        ("\u00e9\u00e9\u00e9\u00e9", Reason.DAMAGED),
        ("AAAA", Reason.NOT_AN_IMAGE),
        (RED[: len(RED) // 2 // 4 * 4], Reason.TRUNCATED),
        (f"['{RED}', 'AAAA']", Reason.NOT_AN_IMAGE),
    ],
)
def test_an_image_that_does_not_decode_is_told(cell: str, reason: Reason):
    with pytest.raises(UnreadableImage) as error:
        sizes(cell)
    assert error.value.reason == reason
    assert "f, column 'image'" in str(error.value)


def test_a_row_may_refer_to_the_images_of_another(tmp_path: Path):
    path, pair = tmp_path / "q.tsv", f"['{RED}', '{BLUE}']"
    cells = {3: "14", 7: RED, 14: pair, 20: "7", 21: " 14 ", 30: BLUE}
    write_tsv(path, [QuestionRow(i, QUESTION, cell, "VAL") for i, cell in cells.items()])
    read = {row.index: row.image for row in read_tsv(path)}
    assert read == {3: pair, 7: RED, 14: pair, 20: RED, 21: pair, 30: BLUE}
    assert next(read_tsv(path, limit=1)).image == pair


def test_only_images_that_are_referred_to_are_kept(tmp_path: Path):
    path = tmp_path / "q.tsv"
    large = base64.b64encode(bytes(2**20)).decode()
    cells = [RED, "0", *[large] * 20]
    write_tsv(path, [QuestionRow(i, QUESTION, cell, "VAL") for i, cell in enumerate(cells)])
    tracemalloc.start()
    num = sum(1 for _ in read_tsv(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert num == 22
    assert peak < 10 * len(large)


@pytest.mark.parametrize(
    ("value", "why"),
    [("9", "no row has it"), ("1", "that row refers to 1"), ("2", "that row refers to 0")],
)
def test_a_reference_to_no_image_is_named(tmp_path: Path, value: str, why: str):
    path, noted = tmp_path / "q.tsv", []
    cells = {0: RED, 1: value, 2: "0"}
    write_tsv(path, [QuestionRow(i, QUESTION, cell, "VAL") for i, cell in cells.items()])
    assert [row.index for row in read_tsv(path, note=noted.append)] == [0, 2]
    assert [str(error) for error in noted] == [
        f"{path}, line 3, column 'image': '{value}' found, expected base64 or the index of a row "
        f"that holds an image itself ({why})"
    ]


def test_lines_of_text_may_be_long():
    assert sizes(encode_image(Image.new("RGB", (800, 8)))) == [(800, 8)]
    with pytest.raises(UnreadableImage, match="at most 200 to 1"):
        sizes(encode_image(Image.new("RGB", (1608, 8))))


def test_photos_are_jpeg_as_often():
    buffer = io.BytesIO()
    Image.new("RGB", (16, 8), "red").save(buffer, format="jpeg")
    assert sizes(base64.b64encode(buffer.getvalue()).decode()) == [(16, 8)]


def without(path: Path, *columns: str) -> Path:
    """The file without some of its columns."""
    with path.open(newline="") as file:
        table = list(csv.DictReader(file, dialect="excel-tab"))
    kept = [column for column in table[0] if column not in columns]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, kept, dialect="excel-tab", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(table)
    return path


def test_a_file_without_categories_and_splits_is_of_one(tmp_path: Path):
    write_tsv(tmp_path / "q.tsv", rows(2))
    whole = list(read_tsv(tmp_path / "q.tsv"))
    without(tmp_path / "q.tsv", "l2-category", "split")
    first, second = read_tsv(tmp_path / "q.tsv")
    assert (first.question.l2_category, first.split) == ("all", "ALL")
    assert second.question.category == whole[1].question.category
    assert second.image == whole[1].image
    without(tmp_path / "q.tsv", "category", "hint")
    assert {row.question.category for row in read_tsv(tmp_path / "q.tsv")} == {"all"}


def test_a_file_of_text_alone_has_no_images_and_is_read_as_such_where_asked(tmp_path: Path):
    path = tmp_path / "q.tsv"
    write_tsv(path, rows(2))
    with pytest.raises(UsageError, match="line 2, column 'image': an image found, expected a file"):
        list(read_tsv(path, text_only=True))
    without(path, "image")
    with pytest.raises(UsageError, match="column 'image' is missing"):
        list(read_tsv(path))
    read = list(read_tsv(path, text_only=True))
    assert [row.image for row in read] == ["", ""]


# -- faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("index", "one", "'one' found, expected a whole number"),
        ("index", "0", "0 stands in an earlier row too"),
        ("question", " ", "expected the question's text"),
        ("category", "", "expected the category's text"),
        ("l2-category", "", "expected the l2-category's text"),
        ("split", "", "expected the split's text"),
        ("answer", "E", "'E' found, expected one of A, B, C, D"),
        ("answer", "AB", "'AB' found, expected one of A, B, C, D"),
        ("answer", "", "'' found, expected one of A, B, C, D"),
    ],
)
def test_wrong_cells_are_named(tmp_path: Path, column: str, value: str, message: str):
    path = edited(tmp_path / "q.tsv", column, value)
    with pytest.raises(UsageError, match=message) as error:
        list(read_tsv(path))
    assert f"{path}, line 3, column '{column}'" in str(error.value)


def test_an_answer_that_is_no_option_is_named(tmp_path: Path):
    path = tmp_path / "q.tsv"
    write_tsv(path, [QuestionRow(0, Question("?", ("a", "", "c"), "B", "x", "y"), RED, "VAL")])
    with pytest.raises(UsageError, match=r"column 'answer': 'B' found, expected one of A, C"):
        list(read_tsv(path))


@pytest.mark.parametrize("options", [("", ""), ("a", ""), ("", "b")])
def test_one_option_is_no_choice(tmp_path: Path, options: tuple[str, str]):
    path = tmp_path / "q.tsv"
    write_tsv(path, [QuestionRow(0, Question("?", options, "A", "x", "y"), RED, "VAL")])
    with pytest.raises(UsageError, match=r"line 2, column '[AB]': '' found, .* two options"):
        list(read_tsv(path))


def test_hidden_answers_are_asked_for(tmp_path: Path):
    path = edited(tmp_path / "q.tsv", "answer", "")
    assert [bool(r.question.answer) for r in read_tsv(path, hidden_answers=True)] == [True, False]
    with pytest.raises(UsageError, match="'X' found"):
        list(read_tsv(edited(path, "answer", "X"), hidden_answers=True))


@pytest.mark.parametrize("column", ["index", "question", "answer", "image", "B"])
def test_a_missing_column_is_named(tmp_path: Path, column: str):
    path = tmp_path / "q.tsv"
    columns = ["index", "question", *LETTERS[:4], "answer", "category", "l2-category", "split"]
    path.write_text("\t".join(c for c in [*columns, "image"] if c != column) + "\n")
    with pytest.raises(UsageError, match=f"line 1: column '{column}' is missing"):
        list(read_tsv(path))


def test_all_missing_columns_are_named(tmp_path: Path):
    path = tmp_path / "q.tsv"
    path.write_text("index\tquestion\tA\timage\n")
    with pytest.raises(UsageError, match="line 1: columns 'B', 'answer' are missing: expected tab"):
        list(read_tsv(path))


def test_images_beside_the_file_are_not_read_and_it_is_said_what_to_do(tmp_path: Path):
    path = tmp_path / "q.tsv"
    write_tsv(path, rows(1))
    path.write_text(path.read_text().replace("\timage\n", "\timage_path\n"))
    said = r"'image' is missing.*column 'image_path' are not read: write .* into a column 'image'$"
    with pytest.raises(UsageError, match=said):
        list(read_tsv(path))


def test_all_wrong_cells_of_a_row_are_named(tmp_path: Path):
    path = edited(edited(tmp_path / "q.tsv", "answer", "X"), "answer", "X")
    path.write_text(path.read_text().replace("\n1\t", "\n0\t"))
    said = r"column 'answer': 'X' found, expected .*; column 'index': 0 stands in an earlier row"
    with pytest.raises(UsageError, match=said):
        list(read_tsv(path))


def test_who_notes_wrong_rows_gets_the_others(tmp_path: Path):
    path, noted = tmp_path / "q.tsv", []
    write_tsv(path, rows(4))
    lines = path.read_text().splitlines()
    lines[2], lines[3] = lines[2].replace("1\t", "one\t", 1), "2\twhat?"
    path.write_text("\n".join(lines) + "\n")
    assert [row.index for row in read_tsv(path, note=noted.append)] == [0, 3]
    assert [str(error).split(": ")[0] for error in noted] == [
        f"{path}, line 3, column 'index'",
        f"{path}, line 4",
    ]
    assert [row.index for row in read_tsv(path, limit=3, note=noted.append)] == [0]


def test_a_short_row_is_named(tmp_path: Path):
    path = tmp_path / "q.tsv"
    write_tsv(path, rows(1))
    with path.open("a") as file:
        file.write("1\twhat?\n")
    with pytest.raises(UsageError, match="line 3: the number of cells differs"):
        list(read_tsv(path))


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe\0", b'"never closed', b"\x89PNG\r\n\x1a\n", b'"a"b\tc\n']
)
def test_what_is_no_such_file_is_said(tmp_path: Path, data: bytes):
    path = tmp_path / "q.tsv"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=str(path)):
        list(read_tsv(path))


def test_a_file_cut_short_inside_a_quote_is_said(tmp_path: Path):
    path = tmp_path / "q.tsv"
    write_tsv(path, [QuestionRow(0, QUESTION, RED, "VAL")])
    path.write_bytes(path.read_bytes() + b'1\t"what')
    with pytest.raises(UsageError, match=r"line 2: .*is the file complete"):
        list(read_tsv(path))


def test_a_missing_file_is_said(tmp_path: Path):
    with pytest.raises(UsageError, match=r"no\.tsv cannot be read: No such file"):
        list(read_tsv(tmp_path / "no.tsv"))
