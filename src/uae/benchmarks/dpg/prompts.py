"""DPG-Bench's prompts and questions, as TencentQQGYLab/ELLA@3c228f1 keeps them (arXiv 2403.05135).

    prompts/{item_id}.txt    a prompt
    dpg_bench.csv            one row per question; questions of an item depend on each other

Neither is downloaded.
"""

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from uae.benchmarks.prompt_set import PromptSet
from uae.core.errors import UsageError

NUM_PROMPTS = 1065
"""Of the published folder."""
COLUMNS = ("item_id", "proposition_id", "dependency", "tuple", "question_natural_language")
"""Of the columns those that are read."""


@dataclass(frozen=True, slots=True)
class Question:
    """A yes-or-no question about an image, of a category such as "attribute - color".

    It has a number within the item, and means nothing without its parents, given by number.
    """

    question_id: int
    parents: tuple[int, ...]
    category: str
    text: str

    @property
    def broad_category(self) -> str:
        return self.category.partition("-")[0].strip()


@dataclass(frozen=True, slots=True)
class Item:
    """A prompt with its questions in the order of their numbers, and why they cannot be scored."""

    item_id: str
    prompt: str
    questions: tuple[Question, ...]
    fault: str = ""


def set_name(num_images: int) -> str:
    """Name the prompts as `images.json` does, with how many images each has."""
    return f"dpg, {num_images} a prompt"


def image_path(root: Path, item_id: str) -> Path:
    return root / f"{item_id}.png"


def read_dpg(folder: Path, table: Path, *, without_first_row: bool = False) -> PromptSet[Item]:
    """Read prompts and questions, by item id. Questions of items without a prompt are left aside.

    Args:
        folder: Holds {item_id}.txt.
        table: dpg_bench.csv.
        without_first_row: Leave out the first question of the table, as upstream does.

    Raises:
        UsageError: Something is missing, empty or wrong; names file, line and column.
    """
    prompts = read_prompts(folder)
    questions: defaultdict[str, list[Question]] = defaultdict(list)
    for number, (item_id, question) in enumerate(_questions(table)):
        if not (without_first_row and number == 0):
            questions[item_id].append(question)
    lacking = [item_id for item_id in prompts if not questions[item_id]]
    if lacking:
        raise UsageError(
            f"{table} has no question for {len(lacking)} of the prompts in {folder}, "
            f"{lacking[0]!r} first: expected the table that belongs to them"
        )
    return PromptSet({i: _item(i, prompt, questions[i]) for i, prompt in prompts.items()})


def read_prompts(folder: Path) -> dict[str, str]:
    """Return the prompts by item id, sorted; raises `UsageError`."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder: expected DPG-Bench's prompts, ID.txt each")
    paths = sorted(folder.glob("*.txt"))
    if not paths:
        raise UsageError(f"{folder} holds no .txt file: expected DPG-Bench's prompts, ID.txt each")
    prompts = {}
    for path in paths:
        try:
            prompt = path.read_text(encoding="utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise UsageError(f"{path}: byte {error.start} is not UTF-8") from error
        if not prompt:
            raise UsageError(f"{path} is empty: expected a prompt")
        prompts[path.stem] = prompt
    return prompts


def prompts_digest(prompts: Mapping[str, str]) -> str:
    return hashlib.sha256(repr(sorted(prompts.items())).encode()).hexdigest()


def _questions(table: Path) -> Iterator[tuple[str, Question]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise UsageError(f"{table}: column {missing[0]!r} is missing, expected {COLUMNS}")
            for cells in reader:
                where = f"{table}, line {reader.line_num}"
                yield _cell(cells, "item_id", where), _question(cells, where)
    except FileNotFoundError as error:
        raise UsageError(f"{table} does not exist: expected dpg_bench.csv") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{table}: byte {error.start} is not UTF-8") from error
    except csv.Error as error:
        raise UsageError(f"{table} is no CSV file: {error}") from error


def _question(cells: Mapping[str, str | None], where: str) -> Question:
    category, bracket, _ = _cell(cells, "tuple", where).partition("(")
    if not bracket or not category.strip():
        whole = cells["tuple"]
        raise UsageError(f"{where}: column 'tuple' is {whole!r}: expected category (what)")
    number, dependency = (_cell(cells, x, where) for x in ("proposition_id", "dependency"))
    text = _cell(cells, "question_natural_language", where)
    question_id = _number(number, "proposition_id", where)
    parents = (_number(part, "dependency", where) for part in dependency.split(","))
    return Question(question_id, tuple(x for x in parents if x), category.strip(), text)


def _cell(cells: Mapping[str, str | None], column: str, where: str) -> str:
    text = (cells[column] or "").strip()
    if not text:
        raise UsageError(f"{where}: column {column!r} is empty")
    return text


def _number(text: str, column: str, where: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit()):
        raise UsageError(
            f"{where}: column {column!r} has {text!r}: expected a question's number, or for "
            "dependency several with commas, 0 for none"
        )
    return int(text)


def _item(item_id: str, prompt: str, questions: list[Question]) -> Item:
    ordered = tuple(sorted(questions, key=lambda question: question.question_id))
    ids = [question.question_id for question in ordered]
    faults = [f"two questions have the number {i}" for i in ids if ids.count(i) > 1]
    faults += [
        f"question {question.question_id} depends on {parent}, which is not there"
        for question in ordered
        for parent in sorted(set(question.parents) - set(ids))
    ]
    return Item(item_id, prompt, ordered, next(iter(faults), ""))
