"""DPG-Bench's files: what is read, and what is refused by name."""

from pathlib import Path

import pytest

from uae.benchmarks.dpg.prompts import read_dpg
from uae.core.errors import UsageError

HEAD = (
    "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,"
    "question_natural_language\n"
)
FIRST = 'a,t,k,2,1,attribute,color,"attribute - color (bus, red)",Is the bus red?\n'
SECOND = "a,t,k,1,0,entity,whole,entity - whole (bus),Is there a bus?\n"
OTHER = "b,t,k,1,0,global,,global (painting),Is it a painting?\n"


@pytest.fixture
def prompts(tmp_path) -> Path:
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "a.txt").write_text("A red bus.\n")
    (folder / "b.txt").write_text("A painting.")
    return folder


def table(tmp_path: Path, *lines: str, head: str = HEAD) -> Path:
    path = tmp_path / "q.csv"
    path.write_text(head + "".join(lines), encoding="utf-8-sig")
    return path


def test_questions_are_sorted_by_number_and_belong_to_their_prompt(prompts, tmp_path):
    read = read_dpg(prompts, table(tmp_path, FIRST, SECOND, OTHER))
    first, second = read.prompts
    assert (first.item_id, first.prompt, first.fault) == ("a", "A red bus.", "")
    assert [(q.question_id, q.parents) for q in first.questions] == [(1, ()), (2, (1,))]
    assert first.questions[1].text == "Is the bus red?"
    assert first.questions[1].category == "attribute - color"
    assert first.questions[1].broad_category == "attribute"
    assert (second.questions[0].category, second.questions[0].broad_category) == ("global",) * 2


def test_the_first_row_is_lost_only_where_asked(prompts, tmp_path):
    path = table(tmp_path, FIRST, SECOND, OTHER)
    read = read_dpg(prompts, path, without_first_row=True)
    assert [q.question_id for q in read.prompts[0].questions] == [1]
    assert read.sha256 != read_dpg(prompts, path).sha256
    # a lost question that others depend on leaves its item without a score
    read = read_dpg(prompts, table(tmp_path, SECOND, FIRST, OTHER), without_first_row=True)
    assert read.prompts[0].fault == "question 2 depends on 1, which is not there"
    assert not read.prompts[1].fault


def test_questions_that_cannot_be_scored_are_a_fault_of_their_item_alone(prompts, tmp_path):
    read = read_dpg(prompts, table(tmp_path, FIRST, SECOND, SECOND, OTHER))
    assert read.prompts[0].fault == "two questions have the number 1"
    assert not read.prompts[1].fault
    several = FIRST.replace(",1,attr", ',"1, 7",attr')
    read = read_dpg(prompts, table(tmp_path, several, SECOND, OTHER))
    assert read.prompts[0].fault == "question 2 depends on 7, which is not there"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([FIRST.replace(",2,1,", ",two,1,")], "line 2: column 'proposition_id' has 'two'"),
        ([FIRST.replace(",2,1,", ",2,x,")], "line 2: column 'dependency' has 'x'"),
        ([FIRST.replace(",2,1,", ",2,,")], "line 2: column 'dependency' is empty"),
        ([FIRST.replace(" (bus, red)", "")], "column 'tuple' is 'attribute - color': expected"),
        ([FIRST.replace("Is the bus red?", "")], "'question_natural_language' is empty"),
        ([FIRST, SECOND], "no question for 1 of the prompts"),
        ([], "no question for 2 of the prompts"),
    ],
)
def test_a_wrong_row_is_named(prompts, tmp_path, lines, said):
    with pytest.raises(UsageError) as caught:
        read_dpg(prompts, table(tmp_path, *lines))
    assert said in str(caught.value)


def test_what_is_missing_is_named(prompts, tmp_path):
    with pytest.raises(UsageError, match=r"none\.csv does not exist"):
        read_dpg(prompts, tmp_path / "none.csv")
    with pytest.raises(UsageError, match="column 'proposition_id' is missing"):
        read_dpg(prompts, table(tmp_path, head="item_id,dependency\n"))
    with pytest.raises(UsageError, match="none is no folder"):
        read_dpg(tmp_path / "none", table(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"holds no \.txt file"):
        read_dpg(tmp_path / "empty", table(tmp_path))
    (prompts / "c.txt").write_text(" \n")
    with pytest.raises(UsageError, match=r"c\.txt is empty"):
        read_dpg(prompts, table(tmp_path, FIRST))
    (prompts / "c.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UsageError, match=r"c\.txt: byte 3 is not UTF-8"):
        read_dpg(prompts, table(tmp_path, FIRST))
