import csv
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uae.data.scenes.graph import Scene, SceneObject, relation, scene_at
from uae.data.scenes.language import CELL_PHRASES, NUMBER_WORDS
from uae.data.scenes.questions import (
    CATEGORIES,
    LETTERS,
    Question,
    QuestionRow,
    allows,
    question_text,
    questions_for,
    read_tsv,
    write_tsv,
)
from uae.data.scenes.render import render_image
from uae.errors import UsageError

SCENES = [scene_at(i, "train", seed=4) for i in range(200)]
PLACES = {phrase: cell for cell, phrases in CELL_PHRASES.items() for phrase in phrases}


def right_options(scene: Scene, q: Question) -> list[str]:
    """Answer a question from the graph, by its words; every option that is true."""
    words = q.question.rstrip("?")
    place = next((PLACES[p] for p in sorted(PLACES, key=len)[::-1] if words.endswith(p)), None)
    there = [o for o in scene.objects if o.cell == place]
    named = {f"{o.color} {o.shape}": o for o in scene.objects}
    if q.category == "color_recognition":
        true = {o.color for o in there if o.shape in words}
    elif q.category == "shape_recognition":
        true = {o.shape for o in there if o.color in words}
    elif q.category == "counting_by_category":
        counts = Counter(o.shape for o in scene.objects)
        shape = next(s for s in ("circle", "square", "triangle", "cross", "bar") if s in words)
        true = {NUMBER_WORDS[counts[shape]]}
    elif q.category == "object_relation":
        subject, reference = words.removeprefix("Where is the ").split(" relative to the ")
        true = {relation(named[subject], named[reference])}
    elif words.startswith("Which"):
        true = {f"{o.color} {o.shape}" for o in there if o.size == "small"}
    else:
        name = words.removeprefix("Where is the small ")
        true = {o.cell for o in scene.objects if f"{o.color} {o.shape}" == name}
    return [o for o in q.options if o in true]


@pytest.mark.parametrize("category", CATEGORIES)
def test_exactly_one_option_is_right(category: str):
    rng = np.random.default_rng(0)
    num_asked = 0
    for scene in SCENES:
        if not allows(scene, category):
            continue
        for q in questions_for(scene, rng, 3, category):
            assert q.category == category
            assert len(q.options) == len(set(q.options)) == 4
            assert right_options(scene, q) == [q.options[LETTERS.index(q.answer)]], q
            num_asked += 1
    assert num_asked > 100


def test_answers_are_spread_over_the_letters():
    rng = np.random.default_rng(0)
    answers = Counter(questions_for(s, rng, 1)[0].answer for s in SCENES * 5)
    assert all(abs(answers[letter] / 1000 - 0.25) < 0.05 for letter in "ABCD")


def test_questions_follow_from_the_generator():
    def ask() -> list[Question]:
        return questions_for(SCENES[0], np.random.default_rng(7), 5)

    assert ask() == ask()


def test_the_prompt_is_compact():
    q = Question("What is it?", ("bar", "cross"), "B", "c", "l", hint="Look.")
    assert question_text(q) == (
        "Hint: Look.\nWhat is it?\nA. bar\nB. cross\nAnswer with one letter."
    )


def test_wrong_categories_are_named():
    rng = np.random.default_rng(0)
    large = Scene("gray", (SceneObject("bar", "red", "large", 0.5, 0.5),))
    with pytest.raises(ValueError, match="allows no question of category 'small_object_detection'"):
        questions_for(large, rng, 1, "small_object_detection")
    with pytest.raises(ValueError, match=r"'colour' is not known: expected one of .*color_recog"):
        questions_for(large, rng, 1, "colour")


# -- files --------------------------------------------------------------------------------------


def rows(num: int) -> list[QuestionRow]:
    rng = np.random.default_rng(0)
    return [
        QuestionRow(i, questions_for(scene, rng, 1)[0], render_image(scene), "VAL")
        for i, scene in enumerate(SCENES[:num])
    ]


def test_a_file_comes_back_as_it_was(tmp_path: Path):
    odd = Question('Tab\there, "quoted",\nnew line?', ("a", "b", "c"), "C", "x", "y", hint="h")
    written = [*rows(5), QuestionRow(9, odd, Image.new("RGB", (3, 2), "red"), "TEST")]
    write_tsv(tmp_path / "q.tsv", written)
    read = list(read_tsv(tmp_path / "q.tsv"))
    assert [(r.index, r.question, r.split) for r in read] == [
        (r.index, r.question, r.split) for r in written
    ]
    assert all(
        np.array_equal(np.asarray(a.image), np.asarray(b.image))
        for a, b in zip(read, written, strict=True)
    )


def test_the_columns_are_mmt_benchs(tmp_path: Path):
    write_tsv(tmp_path / "q.tsv", rows(1))
    header = (tmp_path / "q.tsv").read_text().split("\n")[0].split("\t")
    assert header == [
        *("index", "question", "hint", "A", "B", "C", "D"),
        *("answer", "category", "l2-category", "split", "image"),
    ]


def test_images_may_be_large(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    big = QuestionRow(0, rows(1)[0].question, Image.fromarray(noise), "VAL")
    write_tsv(tmp_path / "q.tsv", [big])
    assert (tmp_path / "q.tsv").stat().st_size > 400_000
    csv.field_size_limit(131_072)  # csv's default, which is too small
    assert len(list(read_tsv(tmp_path / "q.tsv"))) == 1
    csv.field_size_limit(sys.maxsize)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("index", "one", "'one' found, expected a whole number"),
        ("index", "0", "0 stands in an earlier row too"),
        ("question", " ", "expected the question's text"),
        ("answer", "E", "'E' found, expected one of A, B, C, D"),
        ("answer", "AB", "'AB' found, expected one of A, B, C, D"),
        ("answer", "", "'' found, expected one of A, B, C, D"),
        ("B", "", "options fill the columns from A on without a gap"),
        ("image", "AAAA", "expected an image file in base64"),
        ("image", "no base64!", "expected an image file in base64"),
    ],
)
def test_wrong_cells_are_named(tmp_path: Path, column: str, value: str, message: str):
    path = tmp_path / "q.tsv"
    write_tsv(path, rows(2))
    with path.open(newline="") as file:
        table = list(csv.reader(file, dialect="excel-tab"))
    table[2][table[0].index(column)] = value
    with path.open("w", newline="") as file:
        csv.writer(file, dialect="excel-tab", lineterminator="\n").writerows(table)
    with pytest.raises(UsageError, match=message) as error:
        list(read_tsv(path))
    assert f"{path}, row 3, column '{column}'" in str(error.value)


def test_a_missing_column_is_named(tmp_path: Path):
    path = tmp_path / "q.tsv"
    path.write_text("index\tquestion\tA\tB\tanswer\tcategory\tsplit\timage\n")
    with pytest.raises(UsageError, match="column 'l2-category' is missing"):
        list(read_tsv(path))


def test_a_short_row_is_named(tmp_path: Path):
    path = tmp_path / "q.tsv"
    write_tsv(path, rows(1))
    with path.open("a") as file:
        file.write("1\twhat?\n")
    with pytest.raises(UsageError, match="row 3: the number of cells differs"):
        list(read_tsv(path))
