"""GenEval 2's prompts and images (facebookresearch/GenEval2@a6e82d2).

The data are CC BY-NC 4.0: they are neither part of this package nor fetched by it. A line of the
file holds a prompt, questions with their answers, and the skill that each question is about:

    {"prompt": "two red kites", "atom_count": 3,
     "vqa_list": [["How many kites are there?", "two"], ["Are they red?", "Yes"]],
     "skills": ["count", "attribute"]}

Images are named by a JSON object {prompt: path}, one image per prompt.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uae.benchmarks.judged.images import ImageSet, check_images
from uae.benchmarks.prompt_set import NO_FORMS, YES_FORMS, PromptSet, text_at
from uae.core.errors import UsageError
from uae.core.json_lines import check_keys, parse_json, read_lines

NUM_PROMPTS = 800
"""Of the published file."""
SKILLS = ("object", "attribute", "count", "position", "verb")
COUNTS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7}

_OTHER_COUNTS = {"zero": 0, "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12}
_OTHER_WORDS = ("none", "no", "many", "several")

_LINE_KEYS = ("prompt", "atom_count", "vqa_list", "skills")


@dataclass(frozen=True, slots=True)
class Atom:
    """A question about an image, its right answer, and what it is about."""

    question: str
    answer: str
    skill: str

    @property
    def forms(self) -> tuple[str, ...]:
        """How the right answer may begin: a number as word or digit, with and without a blank."""
        is_yes = self.answer == "Yes"
        return YES_FORMS if is_yes else _count_forms(self.answer, COUNTS[self.answer])

    @property
    def other_forms(self) -> tuple[str, ...]:
        if self.answer == "Yes":
            return NO_FORMS
        counts = {word: n for word, n in (COUNTS | _OTHER_COUNTS).items() if word != self.answer}
        numbers = [form for word, n in counts.items() for form in _count_forms(word, n)]
        words = [form for word in _OTHER_WORDS for form in (word, word.capitalize(), f" {word}")]
        return (*numbers, *words)


def _count_forms(word: str, count: int) -> tuple[str, ...]:
    return (word, word.capitalize(), f" {word}", str(count), f" {count}")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt with its questions; `atom_count` says how much it asks for."""

    text: str
    atom_count: int
    atoms: tuple[Atom, ...]


def read_prompts(path: Path) -> PromptSet[Prompt]:
    """Read the file; a prompt's name is its number, from 0 on.

    Raises:
        UsageError: A line is wrong, or a prompt comes twice; names line and key.
    """
    prompts: dict[str, Prompt] = {}
    for where, text in read_lines(path, "geneval2_data.jsonl"):
        prompt = _prompt(text, where)
        if prompt.text in prompts:
            raise UsageError(f"{where}: the prompt {prompt.text!r} comes twice")
        prompts[prompt.text] = prompt
    return PromptSet({f"{i:04d}": prompt for i, prompt in enumerate(prompts.values())})


def _prompt(line: str, where: str) -> Prompt:
    values = parse_json(line, where, "one object a line")
    known = values if isinstance(values, dict) else ()  # any other key may stand beside
    check_keys(values, known, _LINE_KEYS, where)
    text, count = text_at(values, "prompt", where), values["atom_count"]
    if type(count) is not int or count < 1:
        raise UsageError(f"{where}: key 'atom_count' is {count!r}: expected a number from 1 on")
    return Prompt(text, count, _atoms(values["vqa_list"], values["skills"], where))


def _atoms(pairs: Any, skills: Any, where: str) -> tuple[Atom, ...]:
    if not isinstance(pairs, list) or not pairs:
        raise UsageError(f"{where}: key 'vqa_list' is {pairs!r}: expected a list of questions")
    if not isinstance(skills, list) or len(skills) != len(pairs):
        raise UsageError(
            f"{where}: key 'skills' is {skills!r}: expected one for each of {len(pairs)} questions"
        )
    return tuple(_atom(*both, where) for both in zip(pairs, skills, strict=True))


def _atom(pair: Any, skill: Any, where: str) -> Atom:
    if skill not in SKILLS:
        raise UsageError(f"{where}: skill {skill!r}: expected one of {', '.join(SKILLS)}")
    known = tuple(COUNTS) if skill == "count" else ("Yes",)
    match pair:
        case [str(question), str(answer)] if question.strip() and answer in known:
            return Atom(question, answer, skill)
    raise UsageError(
        f"{where}: key 'vqa_list' has {pair!r}: expected [question, answer], of skill {skill} "
        f"with an answer out of {', '.join(known)}"
    )


def find_images(
    table: Path, prompts: PromptSet[Prompt], *, allow_missing: bool = False
) -> ImageSet:
    """Find each prompt's image by a table, whose relative paths start at its folder.

    What is missing or unreadable goes by the table's path, or by its prompt where there is none;
    raises as `check_images`.
    """
    paths = _read_table(table)
    texts = {name: prompt.text for name, prompt in prompts.by_name.items()}
    expected = {
        name: table.parent / paths[text] if text in paths else None for name, text in texts.items()
    }
    known = set(texts.values())
    extra = [path for text, path in paths.items() if text not in known]
    shown = {name: paths.get(text, repr(text)) for name, text in texts.items()}
    return check_images(table, expected, extra, allow_missing=allow_missing, shown=shown)


def _read_table(table: Path) -> Mapping[str, str]:
    expected = "expected one object, prompt to path of its image"
    try:
        # pairs as tuples, so that a prompt that comes twice is seen; arrays are lists
        pairs = json.loads(table.read_text(encoding="utf-8-sig"), object_pairs_hook=tuple)
    except FileNotFoundError as error:
        raise UsageError(f"{table} does not exist: expected a JSON object of images") from error
    except (IsADirectoryError, ValueError, RecursionError) as error:
        raise UsageError(f"{table} is no JSON file: {expected}") from error
    if not isinstance(pairs, tuple) or not all(isinstance(path, str) for _, path in pairs):
        raise UsageError(f"{table}: {expected}")
    paths: dict[str, str] = {}
    for text, path in pairs:
        if text in paths:
            raise UsageError(
                f"{table}: the prompt {text!r} comes twice, with {paths[text]} and {path}: "
                "expected one image a prompt"
            )
        paths[text] = path
    return paths
