"""Prompts in the encoder's words: what is asked, what is kept, and what is refused."""

import fcntl
import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uae.benchmarks import rewriting
from uae.benchmarks.drawing import begin, check_origin, identity_of, origin_of
from uae.benchmarks.image_origin import ORIGIN, wording_of
from uae.benchmarks.rewriting import INSTRUCTION, REWRITES, WORDING, Rewrite, rewrite_prompts
from uae.core.errors import UsageError
from uae.core.journal import to_line
from uae.models.chat import Message, ReplyConfig, chat_prompts, grow_replies
from uae.models.unified import UnifiedAutoEncoder

PROMPTS = ("a photo of a bench", "a photo of two clocks", "a photo of a bench", "three cats")


@pytest.fixture(scope="module")
def model(random_model_folder):
    return UnifiedAutoEncoder.from_pretrained(random_model_folder)


def rewritten(model, folder, prompts=PROMPTS, show=lambda _done, _total: None):
    return rewrite_prompts(lambda: model, prompts, folder, show)


def test_a_rewrite_is_the_greedy_reply_of_a_chat_of_text_alone(model, tmp_path):
    shown = []
    found = rewritten(model, tmp_path, show=lambda *counts: shown.append(counts))
    assert list(found) == list(dict.fromkeys(PROMPTS))
    assert shown == [(0, 3), (1, 3), (2, 3), (3, 3)]
    for prompt, rewrite in found.items():
        asked = chat_prompts(model.encoder, [Message("user", (f"{INSTRUCTION}\n\n{prompt}",))])
        config = ReplyConfig(max_new_tokens=model.settings.max_new_tokens)
        [reply] = list(grow_replies(model.encoder, asked, config))[-1]
        assert rewrite == Rewrite(prompt, reply.text, reply.finish_reason == "length")
    rows = [json.loads(line) for line in (tmp_path / REWRITES).read_text().splitlines()]
    assert [Rewrite(**row) for row in rows] == list(found.values())


def test_what_is_written_is_not_written_again(model, tmp_path, monkeypatch):
    before = rewritten(model, tmp_path)
    monkeypatch.setattr(rewriting, "_rewrite", None)
    assert rewritten(model, tmp_path) == before


def test_a_stop_in_any_byte_of_the_file_changes_nothing(model, tmp_path):
    before = rewritten(model, tmp_path)
    path = tmp_path / REWRITES
    data = path.read_bytes()
    for cut in (0, 1, data.index(b"\n"), data.index(b"\n") + 1, len(data) - 1):
        path.write_bytes(data[:cut])
        assert rewritten(model, tmp_path) == before
        assert path.read_bytes() == data


def test_files_of_other_ranks_are_taken_in_after_any_stop(model, tmp_path, monkeypatch):
    before = rewritten(model, tmp_path)
    path, part = tmp_path / REWRITES, tmp_path / "rewrites-rank1.jsonl"
    first, second, third = path.read_bytes().splitlines(keepends=True)
    monkeypatch.setattr(rewriting, "_rewrite", None)
    for taken in (first, first + second, first + second + third[:9]):
        path.write_bytes(taken)
        part.write_bytes(second + third + b'{"prompt": "a dog", "rewr')
        assert rewritten(model, tmp_path) == before
        assert path.read_bytes() == first + second + third
        assert not part.exists()


@given(prompt=st.text(), rewrite=st.text(), is_truncated=st.booleans())
def test_rows_survive_the_file(prompt, rewrite, is_truncated):
    row = Rewrite(prompt, rewrite, is_truncated)
    line = to_line(asdict(row))
    assert line.count(b"\n") == 1
    assert rewriting._parse(json.loads(line), "here") == row


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not JSON"),
        ("[]", "expected an object with prompt, rewrite, is_truncated"),
        ('{"prompt": "a", "rewrite": "b"}', "key 'is_truncated' is missing"),
        ('{"prompt": "a", "rewrite": "b", "is_truncated": 0}', "expected true or false"),
        ('{"prompt": "a", "rewrite": null, "is_truncated": true}', "'rewrite' is None"),
        ('{"prompt": "a", "rewrite": "b", "is_truncated": true, "x": 1}', "'x' is unknown"),
    ],
)
def test_a_wrong_line_is_named(model, tmp_path, line, said):
    (tmp_path / REWRITES).write_text(f"{line}\n")
    with pytest.raises(UsageError, match=rf"rewrites\.jsonl, line 1.*{said}"):
        rewritten(model, tmp_path)


def test_prompts_that_cannot_be_asked_are_refused_before_the_first_is(model, tmp_path):
    with pytest.raises(UsageError, match=r"'a a a.*too long to be rewritten"):
        rewritten(model, tmp_path, ("a cat", "a " * 5000))
    assert not (tmp_path / REWRITES).exists()


def test_two_processes_do_not_write_one_file(model, tmp_path):
    with (tmp_path / REWRITES).open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another process is writing"):
            rewritten(model, tmp_path)


def test_raw_and_rewritten_images_never_share_a_folder(random_model_folder, tmp_path):
    identity = identity_of(str(random_model_folder))
    raw, other = (
        origin_of(identity, 0, "six", "abc", rewrite=rewrite) for rewrite in (False, True)
    )
    for first, second in ((raw, other), (other, raw)):
        folder = tmp_path / first.get("wording", "raw")
        begin(folder, first)
        check_origin(folder, first)
        (folder / "0.png").write_bytes(b"drawn")  # a folder without one is taken over
        with pytest.raises(UsageError, match=r"holds other images .*wording"):
            check_origin(folder, second)
    begin(tmp_path, other | {"instruction": "Say more."})
    (tmp_path / "0.png").write_bytes(b"drawn")
    with pytest.raises(UsageError, match=r"instruction: Say more\."):
        check_origin(tmp_path, other)


def test_a_scorer_reads_the_wording_from_the_folder(random_model_folder, tmp_path):
    assert wording_of(tmp_path) == {}
    origin = origin_of(identity_of(str(random_model_folder)), 0, "six", "abc", rewrite=True)
    begin(tmp_path, origin)
    assert wording_of(tmp_path) == {"wording": WORDING, "instruction": INSTRUCTION}
    (tmp_path / ORIGIN).write_text("[]")
    assert wording_of(tmp_path) == {}
    (tmp_path / ORIGIN).write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        wording_of(tmp_path)


def test_a_model_that_says_nothing_gives_empty_rewrites(model, tmp_path, monkeypatch):
    sample = model.encoder.sample
    monkeypatch.setattr(
        model.encoder, "sample", lambda *a, **k: replace(sample(*a, **k), texts=[" \n"])
    )
    assert [row.rewrite for row in rewritten(model, tmp_path).values()] == [""] * 3
