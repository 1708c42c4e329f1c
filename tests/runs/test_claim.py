"""Folders of training and of benchmarks are told from others, refused and taken over alike."""

import pytest

from uae.benchmarks.results.folder import BENCHMARK
from uae.core.errors import UsageError
from uae.core.lock import LOCK_NAME
from uae.runs.claim import Contents, FolderKind, check_claim, check_same, claim, contents_of, plain
from uae.runs.folder import TRAINING

KINDS = [TRAINING, BENCHMARK]
MARKED = "marked"
CASES: dict[str, tuple[dict[str, str], Contents]] = {
    "empty": ({}, "nothing"),
    "what a stopped beginning left": ({LOCK_NAME: "", ".probe-7": "x"}, "nothing"),
    "files of others": ({"photo.jpg": "x"}, "other"),
    "a listing without a marker": ({"data.json": "{}"}, "other"),
    "begun": ({MARKED: "", LOCK_NAME: "", "data.json": "{}"}, "begun"),
    "begun, and a write that was stopped": ({MARKED: "", ".data.json.tmp": "{"}, "begun"),
    "files without content": ({MARKED: "", "captions/plain.jsonl": ""}, "begun"),
    "done something": ({MARKED: "", "captions/plain.jsonl": "{}"}, "run"),
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.noun)
@pytest.mark.parametrize(("files", "contents"), CASES.values(), ids=CASES)
def test_what_a_folder_holds(tmp_path, kind: FolderKind, files, contents):
    for name, text in files.items():
        path = tmp_path / (kind.marker if name == MARKED else name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'{{"format": "{kind.format}"}}' if name == MARKED else text)
    assert contents_of(tmp_path, kind) == contents
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    refused = {
        "auto": contents == "other",
        "must": contents in ("other", "nothing"),
        "never": contents in ("other", "run"),
    }
    for resume, is_refused in refused.items():
        if is_refused:
            for look in (check_claim, claim):
                with pytest.raises(UsageError, match=kind.noun):
                    look(tmp_path, kind, resume)
            assert all(path.stat().st_mtime_ns == at for path, at in before.items())
        else:
            assert check_claim(tmp_path, kind, resume) == contents
    if contents != "other":
        lock = claim(tmp_path, kind, "auto")
        with pytest.raises(UsageError, match="in use by another run"):
            claim(tmp_path, kind, "auto")
        lock.release()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.noun)
def test_a_file_is_no_folder_and_the_other_kind_is_left_alone(tmp_path, kind):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="file is a file: expected a folder"):
        claim(tmp_path / "file", kind, "auto")
    [other] = [x for x in KINDS if x is not kind]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / other.marker).write_text(f'{{"format": "{other.format}"}}')
    with pytest.raises(UsageError, match=f"holds no {kind.noun} .it has no {kind.marker}"):
        claim(tmp_path / "run", kind, "auto")


def test_only_training_offers_to_overwrite(tmp_path):
    for kind, says in zip(KINDS, (True, False), strict=True):
        with pytest.raises(UsageError, match=f"{kind.other}:\n  a: 1 in the run, 2 now\n") as error:
            check_same(tmp_path, kind, ["a: 1 in the run, 2 now"])
        assert ("overwrite" in str(error.value)) == says
    assert plain({"a": (1, 2)}) == {"a": [1, 2]}
