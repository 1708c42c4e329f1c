"""What network and cloud disks lack: work goes on with one warning, or the fault is named."""

import errno
import fcntl
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from uae.benchmarks.results.run import BenchRun
from uae.benchmarks.results.scores import Score
from uae.core import disks
from uae.core.durable import append_whole, give_usual_rights, replace_file
from uae.core.errors import EnvironmentFault, UsageError
from uae.core.lock import RunLock, check_free
from uae.core.provenance import BenchSettings, ModelStamp
from uae.data.captions import CaptionRow, CaptionsWriter, read_rows
from uae.runs.checkpoint import load_latest
from uae.runs.rows import ItemRow
from uae.runs.run import Run

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
LACKS = [
    *[("flock", number, "no file locks") for number in NO_LOCKS],
    ("fsync", errno.EINVAL, "no way to sync"),
    ("fsync", errno.ENOSYS, "no way to sync"),
    ("fsync", errno.EOPNOTSUPP, "no way to sync"),
    ("open_folder", errno.EINVAL, "no way to sync folders"),
    ("open_folder", errno.EACCES, "no way to sync folders"),
    ("open_folder", errno.EISDIR, "no way to sync folders"),
    ("ftruncate", errno.EINVAL, "no way to shorten files"),
    ("ftruncate", errno.ENOSYS, "no way to shorten files"),
    ("chmod", errno.EPERM, "no rights of single files"),
    ("chmod", errno.EOPNOTSUPP, "no rights of single files"),
    ("replace", errno.EEXIST, ""),
]
"""Calls, the errors by which disks say that they do not offer them, and words of the warning."""
FAULTS = [
    ("flock", errno.EIO, "check that the disk is mounted"),
    ("flock", errno.EACCES, "this user may write to"),
    ("flock", errno.ESTALE, "check that the disk is mounted"),
    ("fsync", errno.EIO, "check that the disk is mounted"),
    ("fsync", errno.ENOSPC, "free some space"),
    ("replace", errno.EROFS, "this user may write to"),
    ("replace", errno.ENOSYS, "choose a folder on another disk"),
    ("open_append", errno.EINVAL, "choose a folder on another disk"),
    ("open_append", errno.EOPNOTSUPP, "choose a folder on another disk"),
    ("open_append", errno.EROFS, "this user may write to"),
]
"""Calls and errors that end the work, with words of the advice."""


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch):
    monkeypatch.setattr(disks, "_said", set())


def refusing(number: int, call: Callable[..., object], when: Callable[..., bool]) -> object:
    """Return a call that fails with an error where `when` says so of its arguments."""

    def refuse(*arguments: object, **named: object) -> object:
        if when(*arguments):
            path = next((str(x) for x in arguments if isinstance(x, str | Path)), None)
            raise OSError(number, os.strerror(number), path)
        return call(*arguments, **named)

    return refuse


@pytest.fixture
def fail(monkeypatch) -> Callable[[str, int], None]:
    """Make a call of the operating system fail, as a disk does that lacks it."""

    def set_up(call: str, number: int) -> None:
        where, name, when = {
            "flock": (fcntl, "flock", lambda *_: True),
            "open_folder": (os, "open", lambda _, flags, *__: bool(flags & os.O_DIRECTORY)),
            "open_append": (os, "open", lambda _, flags, *__: bool(flags & os.O_APPEND)),
            "replace": (os, "replace", lambda _, to: number != errno.EEXIST or os.path.exists(to)),
        }.get(call, (os, call, lambda *_: True))
        monkeypatch.setattr(where, name, refusing(number, getattr(where, name), when))
        if call == "open_append":  # which opens streams too, out of reach
            opens = refusing(number, Path.open, lambda _, mode="r", *__: "a" in mode)
            monkeypatch.setattr(Path, "open", opens)

    return set_up


def train(folder: Path) -> None:
    """Begin a run, save twice and take it up again."""
    weights = {"weight": torch.arange(6.0)}
    for first in (0, 2):
        with Run.open(folder, {"seed": 0}, "Recipe") as run:
            checkpoint = run.latest("rl")
            assert (checkpoint.step if checkpoint else 0) == first
            for step in range(first, first + 2):
                with run.metrics.step(step, "encoder_rl", 4):
                    run.metrics.write({"reward/mean": float(step)})
                run.checkpoint("rl", step + 1, weights, {"step": step + 1})
    checkpoint = load_latest(folder / "checkpoints" / "rl")
    assert checkpoint is not None
    assert torch.equal(checkpoint.tensors["weight"], weights["weight"])


def caption(folder: Path) -> None:
    """Write captions, stop, and go on."""
    for name in ("a.jpg", "b.jpg"):
        with CaptionsWriter(folder / "captions.jsonl") as writer:
            assert writer.missing([name]) == [name]
            writer.append(CaptionRow(image=name, caption="a red circle"))
    assert [row.image for row in read_rows(folder / "captions.jsonl")] == ["a.jpg", "b.jpg"]


def measure(folder: Path) -> None:
    """Begin a benchmark, take it up again and end it."""
    model = ModelStamp(name="m", dtype="float32", backend="none")
    settings = BenchSettings(benchmark="b", version="1", model=model)
    for items in (["x"], ["x", "y"]):
        with BenchRun.open(folder, settings) as run:
            for item in run.todo(items, str):
                run.add(ItemRow(item=item, samples={"answer": 1.0}))
    with BenchRun.open(folder, settings) as run:
        assert not list(run.todo(["x", "y"], str))
        assert run.finish([Score(name="accuracy", sample="answer")]).num_items == 2


WORK = {"train": train, "caption": caption, "measure": measure}


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize(("call", "number", "words"), LACKS)
def test_work_goes_on_without_what_a_disk_lacks(
    work, call, number, words, tmp_path, fail, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING, "uae")
    fail(call, number)
    WORK[work](tmp_path / "out")
    lines = [record.getMessage() for record in caplog.records if "its disk" in record.getMessage()]
    assert len(lines) == len({line.partition("its disk")[2] for line in lines})  # each said once
    assert all(words in line and str(tmp_path) in line for line in lines)
    if call == "flock":
        assert len(lines) == 1
        assert "start no second one" in lines[0]


@pytest.mark.parametrize(
    ("work", "call", "number", "advice"),
    [
        (work, *fault)
        for work in WORK
        for fault in FAULTS
        if work != "caption" or fault[0] not in ("fsync", "replace")  # neither synced nor moved
    ],
)
def test_any_other_fault_names_place_cause_and_what_helps(
    work, call, number, advice, tmp_path, fail
):
    fail(call, number)
    with pytest.raises(EnvironmentFault) as error:
        WORK[work](tmp_path / "out")
    message = str(error.value)
    assert str(tmp_path / "out") in message
    assert os.strerror(number) in message
    assert advice in message


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EWOULDBLOCK])
def test_a_lock_that_another_holds_is_no_lack(number, tmp_path, fail, caplog):
    (tmp_path / "lock").write_text('{"pid": 7, "host": "there"}')
    fail("flock", number)
    with pytest.raises(UsageError, match=r"in use by another run \(process 7 on there\)"):
        RunLock(tmp_path)
    with pytest.raises(UsageError, match="in use by another run"):
        check_free(tmp_path)
    with pytest.raises(UsageError, match="another process is writing to it"):
        CaptionsWriter(tmp_path / "captions.jsonl")
    assert not caplog.records


def test_a_file_that_cannot_be_moved_over_another_is_replaced_or_kept(tmp_path, fail, monkeypatch):
    path = tmp_path / "file"
    fail("replace", errno.EEXIST)
    for data in (b"first", b"second"):
        replace_file(path, data)
        assert path.read_bytes() == data
    assert os.listdir(tmp_path) == ["file"]
    rename, moves = os.rename, []

    def break_at_the_second(source, target, **_):
        moves.append(source)
        if len(moves) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    monkeypatch.setattr(os, "rename", break_at_the_second)
    with pytest.raises(OSError, match="Input/output error"):
        replace_file(path, b"third")
    assert path.read_bytes() == b"second"
    assert os.listdir(tmp_path) == ["file"]


def test_the_cause_of_a_failed_append_is_not_hidden(tmp_path, fail, monkeypatch):
    fail("ftruncate", errno.EINVAL)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    descriptor = os.open(tmp_path / "rows", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with pytest.raises(OSError, match="No space left"):
        append_whole(descriptor, b"row\n")
    os.close(descriptor)


# Rights


@pytest.mark.parametrize("umask", [0o002, 0o027])
def test_every_file_of_a_model_and_a_run_has_the_rights_of_the_umask(
    umask, tmp_path, random_model_folder
):
    from uae.models.unified import UnifiedAutoEncoder

    before = os.umask(umask)
    try:
        UnifiedAutoEncoder.from_pretrained(random_model_folder).save_pretrained(tmp_path / "model")
        train(tmp_path / "run")
        measure(tmp_path / "bench")
        caption(tmp_path)
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(path.suffix == ".safetensors" for path in files) > 5
    rights = {str(path): path.stat().st_mode & 0o777 for path in files}
    assert rights == dict.fromkeys(rights, 0o666 & ~umask)


def test_other_files_beside_keep_their_rights(tmp_path):
    for name in ("weights", "private"):
        (tmp_path / name).touch(mode=0o600)
    give_usual_rights(tmp_path / "weights")
    assert (tmp_path / "weights").stat().st_mode & 0o444 != 0o400
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600
    assert len(os.listdir(tmp_path)) == 2
