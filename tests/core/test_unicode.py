"""Text that is no Unicode: shown, refused, and kept in JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uae.backends.replies import json_objects
from uae.benchmarks.geneval import prompts as geneval
from uae.benchmarks.geneval2 import prompts as geneval2
from uae.benchmarks.geneval_pp import prompts as geneval_pp
from uae.benchmarks.lmms.requests import chat, turn
from uae.cli.output import json_line
from uae.core.errors import UsageError
from uae.core.unicode import check_text, escaped, readable
from uae.data import captions as captions_file
from uae.data import given_captions
from uae.models.settings import SETTINGS_FILE, read_settings

LATIN_1 = b"caf\xe9.jpg".decode(errors="surrogateescape")
ANY_TEXT = st.text(st.characters() | st.characters(categories=["Cs"]))


@given(ANY_TEXT)
def test_what_is_shown_can_be_encoded(text):
    shown = readable(text)
    shown.encode()
    assert len(shown) == len(text)
    assert shown == text or "\ufffd" in shown


@given(ANY_TEXT)
def test_json_says_the_same_and_can_be_encoded(text):
    values = {"image": text, "left out": [{text: text}]}
    line = json_line(values)
    assert json.loads(line.encode()) == values
    assert escaped(line) == line


@given(ANY_TEXT)
def test_what_passes_can_be_encoded(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        with pytest.raises(UsageError):
            check_text(text, "here")
    else:
        check_text(text, "here")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("ab\ud83d", r"here: character 3 is \ud83d, half of a surrogate pair"),
        (LATIN_1, r"here: character 4 is \udce9"),
        ({"a": [{"b": "\udc00"}]}, r"here: key 'a': key 'b': character 1 is \udc00"),
        ({"\ud800": 1}, r"here: character 1 is \ud800"),
    ],
)
def test_the_place_is_named(value, said):
    with pytest.raises(UsageError) as caught:
        check_text(value, "here")
    assert said in str(caught.value)
    str(caught.value).encode()


def test_whole_pairs_pass():
    check_text(json.loads('["\\ud83d\\ude00", 1, null]'), "here")


HALF = "a half \ud83d"
INCLUDE = [{"class": "fork", "count": 1}]
LINES = {
    geneval.read_prompts: {"tag": "single_object", "include": INCLUDE, "prompt": HALF},
    geneval_pp.read_prompts: {"tag": "color", "include": INCLUDE, "prompt": HALF},
    geneval2.read_prompts: {
        "prompt": "a fork",
        "atom_count": 1,
        "vqa_list": [[HALF, "Yes"]],
        "skills": ["object"],
    },
    captions_file.read_rows: {"image": "a.png", "caption": HALF},
    given_captions.read_given_captions: {"id": "a", "caption": HALF},
}


@pytest.mark.parametrize("read", LINES, ids=lambda read: read.__module__)
def test_every_file_of_texts_refuses_half_a_pair_with_file_and_line(tmp_path, read):
    path = tmp_path / "texts.jsonl"
    whole = {key: "a fork" if value == HALF else value for key, value in LINES[read].items()}
    whole |= {"image": "b.png"} if "image" in whole else {"id": "b"} if "id" in whole else {}
    whole |= {"vqa_list": [["Is it a fork?", "Yes"]]} if "vqa_list" in whole else {}
    path.write_text(f"{json.dumps(whole)}\n{json.dumps(LINES[read])}\n")
    with pytest.raises(UsageError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}, line 2: key ")
    assert r"character 8 is \ud83d" in str(caught.value)


def test_settings_of_a_model_refuse_it(tmp_path, random_model_folder):
    values = json.loads((random_model_folder / SETTINGS_FILE).read_text())
    (tmp_path / SETTINGS_FILE).write_text(json.dumps(values | {"negative_caption": HALF}))
    with pytest.raises(UsageError, match=r"uae\.json: key 'negative_caption': character 8"):
        read_settings(tmp_path)


def test_what_a_judge_replies_with_it_is_no_json():
    bad, good = (json.dumps({"choice": "A", "reason": text}) for text in (HALF, "plain"))
    assert list(json_objects(f"{bad} {good}")) == [{"choice": "A", "reason": "plain"}]


def test_questions_of_tasks_refuse_it():
    with pytest.raises(UsageError, match="a task's question: character 8"):
        turn(HALF, None)
    with pytest.raises(UsageError, match="a task's question: character 8"):
        chat([{"role": "user", "content": [{"type": "text", "text": HALF}]}])
