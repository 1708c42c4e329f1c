import hashlib
import json
from collections import Counter

import pytest

from uae.benchmarks.geneval import prompts as module
from uae.benchmarks.geneval.prompts import (
    CLASS_NAMES,
    OFFICIAL,
    Clause,
    PromptLine,
    official_prompts,
    parse_line,
    read_prompts,
)
from uae.core.errors import EnvironmentFault, UsageError

# own example of the schema, with every key
LINE = {
    "tag": "position",
    "include": [
        {"class": "sink", "count": 1},
        {"class": "cat", "count": 1, "color": "red", "position": ["above", 0]},
    ],
    "exclude": [{"class": "dog", "count": 2}],
    "prompt": "a photo of a red cat above a sink",
}


def sha256(lines) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def changed(**values) -> str:
    return json.dumps(LINE | values)


def with_clause(**values) -> str:
    return changed(include=[{"class": "sink", "count": 1}, {"class": "cat", "count": 1} | values])


# -- the official file -------------------------------------------------------------------------


def test_the_published_files_byte_for_byte():
    prompts = official_prompts()
    assert sha256(CLASS_NAMES) == "608f6a0e5c8ca1c7a92b818430141fe268c85b7930b50f4160f1d65893b5bacd"
    assert (
        hashlib.sha256(prompts.text.encode()).hexdigest()
        == "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13"
    )
    assert (
        sha256(line.prompt for line in prompts.lines)
        == "55b6e3650e980c13daf30569eb666e000faf19bfc2b7b4cbe999fcdb7aa9d680"
    )


def test_categories_in_order():
    tags = [line.tag for line in official_prompts().lines]
    sizes = {"single_object": 80, "two_object": 99, "counting": 80}
    sizes |= {"colors": 94, "position": 100, "color_attr": 100}
    assert Counter(tags) == sizes
    assert tags == [tag for tag, n in sizes.items() for _ in range(n)]


def test_other_random_numbers_are_no_official_prompts(monkeypatch):
    monkeypatch.setattr(module, "_SEED", 42)
    official_prompts.cache_clear()
    with pytest.raises(EnvironmentFault, match=r"draws other prompts than GenEval's"):
        official_prompts()
    monkeypatch.undo()
    assert official_prompts().name == OFFICIAL


# -- reading -----------------------------------------------------------------------------------


def test_a_file_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text(official_prompts().text)
    assert read_prompts(path) == official_prompts()


def test_a_long_variant_has_its_own_name(tmp_path):
    first = official_prompts().lines[0]
    long = PromptLine(first.tag, first.include, first.exclude, "A wooden bench\u2028stands there.")
    path = tmp_path / "evaluation_metadata_long.jsonl"
    path.write_text(f"\ufeff{long.metadata}\n\n{json.dumps(LINE, ensure_ascii=False)}\n")
    prompts = read_prompts(path)
    assert prompts.name == path.name
    assert prompts.lines[0] == long
    assert len(prompts.lines) == 2


def test_every_key_is_read_and_written_back():
    line = parse_line(json.dumps(LINE), "here")
    assert line.include[1] == Clause("cat", 1, "red", ("above", 0))
    assert json.loads(line.metadata) == LINE
    assert list(json.loads(line.metadata)) == ["tag", "include", "exclude", "prompt"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "expected an object with tag, include, prompt"),
        (changed(tag="colour"), "key 'tag' is 'colour': expected one of single_object"),
        (changed(tag=["colors"]), "key 'tag' is"),
        (changed(prompt=" "), "key 'prompt' is ' ': expected text"),
        (changed(prompt=3), "key 'prompt' is 3: expected text"),
        (changed(region="left"), "key 'region' is unknown"),
        (json.dumps({"tag": "colors", "prompt": "x"}), "key 'include' is missing"),
        (changed(include=[]), "key 'include' is empty"),
        (changed(include={}), "key 'include' is {}: expected a list of clauses"),
        (changed(include=["cat"]), r"key 'include\[0\]': 'cat': expected an object"),
        (with_clause(**{"class": "mouse"}), r"key 'include\[1\]': class 'mouse' is not one of"),
        (with_clause(count=0), r"key 'include\[1\]': count 0: expected a whole number"),
        (with_clause(count=True), r"count True: expected a whole number"),
        (with_clause(count=1.0), r"count 1.0: expected a whole number"),
        (with_clause(color="teal"), r"color 'teal': expected one of red"),
        (with_clause(size="large"), r"key 'include\[1\]': key 'size' is unknown"),
        (with_clause(position=["over", 0]), r"position \['over', 0\]: expected \[relation"),
        (with_clause(position=["above", 1]), r"position \['above', 1\]: expected \[relation"),
        (with_clause(position=["above", -1]), r"position \['above', -1\]"),
        (with_clause(position="above"), r"position 'above'"),
        (changed(exclude=[{"class": "cat"}]), r"key 'exclude\[0\]': key 'count' is missing"),
        (
            changed(exclude=[{"class": "cat", "count": 1, "color": "red"}]),
            r"key 'exclude\[0\]': key 'color' is unknown",
        ),
    ],
)
def test_a_bad_line_is_named_with_its_key(text, message, tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text(f"{json.dumps(LINE)}\n{text}\n")
    with pytest.raises(UsageError, match=message) as raised:
        read_prompts(path)
    assert str(raised.value).startswith(f"{path}, line 2: ")


def test_a_bad_file_is_named(tmp_path):
    path = tmp_path / "prompts.jsonl"
    with pytest.raises(UsageError, match=r"prompts.jsonl does not exist"):
        read_prompts(path)
    path.write_bytes(b"\n\n")
    with pytest.raises(UsageError, match=r"prompts.jsonl is empty"):
        read_prompts(path)
    path.write_bytes(b"{\xff")
    with pytest.raises(UsageError, match=r"byte 1 is not UTF-8"):
        read_prompts(path)
