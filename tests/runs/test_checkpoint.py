import errno
import json
import os
import resource
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uae.core.errors import DamagedCheckpoint, EnvironmentFault, RunFailed
from uae.runs import checkpoint as module
from uae.runs.checkpoint import load_latest, read_checkpoint, save_checkpoint, step_folders
from uae.runs.manifest import MANIFEST, STATE, TENSORS


def tensors_of(step: int) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((50, 40), float(step)), "step": torch.tensor(float(step))}


def save(root: Path, step: int, keep: int = 2) -> Path:
    return save_checkpoint(root, step, tensors_of(step), {"step": step}, keep)


def flip(path: Path, place: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.uint8, torch.int64, torch.bool]
)
def test_tensors_come_back_bitwise(tmp_path, dtype):
    bits = torch.randint(0, 256, (64, 8), dtype=torch.uint8)
    value = bits.bool() if dtype == torch.bool else bits.view(dtype)  # NaN payloads included
    save_checkpoint(tmp_path, 3, {"a/b.c": value, "empty": value[:0]}, {}, keep=2)
    loaded = load_latest(tmp_path)
    assert loaded is not None
    assert loaded.tensors["a/b.c"].dtype == dtype
    assert torch.equal(loaded.tensors["a/b.c"].view(torch.uint8), value.view(torch.uint8))
    assert loaded.tensors["empty"].shape == value[:0].shape


def test_views_and_shared_storage_are_saved(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    parts = {"all": base, "row": base[1], "transposed": base.T, "expanded": base[:1].expand(3, 4)}
    save_checkpoint(tmp_path, 0, parts, {}, keep=2)
    loaded = load_latest(tmp_path)
    assert loaded is not None
    assert all(torch.equal(loaded.tensors[name], value) for name, value in parts.items())


@given(
    state=st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=5,
        ).filter(lambda value: "inf" not in repr(value)),
        max_size=5,
    )
)
@settings(max_examples=20, deadline=None)
def test_state_comes_back(tmp_path_factory, state):
    root = tmp_path_factory.mktemp("state")
    save_checkpoint(root, 1, {"weight": torch.ones(2)}, state, keep=2)
    loaded = load_latest(root)
    assert loaded is not None
    assert loaded.state == state


@pytest.mark.parametrize("state", [{"loss": float("nan")}, {"text": "x" * 2**23}])
def test_state_that_cannot_be_kept_is_refused(tmp_path, state):
    with pytest.raises(ValueError, match=r"JSON|limit"):
        save_checkpoint(tmp_path, 1, {}, state, keep=2)
    assert names(tmp_path) == []


def test_the_newest_are_kept(tmp_path):
    for step in (1, 2, 3, 10, 11):
        save(tmp_path, step, keep=3)
    assert names(tmp_path) == ["step-00000003", "step-00000010", "step-00000011"]


def test_one_is_not_enough(tmp_path):
    with pytest.raises(ValueError, match="at least 2"):
        save(tmp_path, 1, keep=1)


def test_nothing_to_load(tmp_path):
    assert load_latest(tmp_path) is None
    assert load_latest(tmp_path / "missing") is None


def test_a_step_saved_again_replaces_the_first(tmp_path):
    save(tmp_path, 1)
    save_checkpoint(tmp_path, 1, {"weight": torch.zeros(1)}, {"again": True}, keep=2)
    loaded = load_latest(tmp_path)
    assert loaded is not None
    assert loaded.state == {"again": True}
    assert names(tmp_path) == ["step-00000001"]


def test_a_later_step_of_a_run_that_went_back_is_removed(tmp_path):
    for step in (8, 12):
        save(tmp_path, step)
    flip(tmp_path / "step-00000012" / TENSORS)
    save(tmp_path, 10)
    assert names(tmp_path) == ["step-00000008", "step-00000010"]


def test_leftovers_of_a_killed_save_are_ignored_and_removed(tmp_path):
    save(tmp_path, 1)
    for leftover in (".step-00000002.tmp", ".step-00000000.old"):
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / TENSORS).write_bytes(b"half")
    loaded = load_latest(tmp_path)
    assert loaded is not None
    assert (loaded.step, loaded.skipped) == (1, ())
    save(tmp_path, 3)
    assert names(tmp_path) == ["step-00000001", "step-00000003"]


@pytest.mark.parametrize("name", [TENSORS, STATE, MANIFEST])
@pytest.mark.parametrize("damage", ["first", "middle", "last", "cut", "empty", "longer", "missing"])
def test_a_damaged_file_is_named_and_the_one_before_used(tmp_path, name, damage):
    for step in (1, 2):
        save(tmp_path, step)
    path = tmp_path / "step-00000002" / name
    data = path.read_bytes()
    if damage in ("first", "middle", "last"):
        flip(path, {"first": 0, "middle": len(data) // 2, "last": -1}[damage])
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"cut": data[:-1], "empty": b"", "longer": data + b"\n"}[damage])
    loaded = load_latest(tmp_path)
    assert loaded is not None
    assert loaded.step == 1
    assert torch.equal(loaded.tensors["weight"], tensors_of(1)["weight"])
    (skipped,) = loaded.skipped
    assert skipped.path == path.parent
    assert str(path) in skipped.reason


def test_a_wrong_digest_is_stated_with_the_right_one(tmp_path):
    folder = save(tmp_path, 1)
    expected = json.loads((folder / MANIFEST).read_text())["files"][TENSORS]["sha256"]
    flip(folder / TENSORS)
    with pytest.raises(DamagedCheckpoint, match=rf"sha256 is [0-9a-f]{{64}}, expected {expected}"):
        read_checkpoint(folder)


def test_all_damaged(tmp_path):
    for step in (1, 2):
        flip(save(tmp_path, step) / STATE)
    with pytest.raises(DamagedCheckpoint, match=r"no good checkpoint.*00000002.*00000001") as error:
        load_latest(tmp_path)
    assert isinstance(error.value, RunFailed)
    assert error.value.exit_code == 1


def test_a_renamed_folder_is_not_another_step(tmp_path):
    save(tmp_path, 1).rename(tmp_path / "step-00000005")
    with pytest.raises(DamagedCheckpoint, match="step is 1, the folder says 5"):
        read_checkpoint(tmp_path / "step-00000005")


def test_a_pickle_is_never_opened(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.ones(1)}, path)
    with pytest.raises(DamagedCheckpoint, match="never loaded"):
        read_checkpoint(path)


@pytest.fixture
def file_size_limit():
    """Limit the size of files to 4 KB: what a full disk does, at a chosen place."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, file_size_limit):
    save_checkpoint(tmp_path, 1, {"weight": torch.ones(10)}, {}, keep=2)
    with pytest.raises(EnvironmentFault, match=r"File too large; free some space") as error:
        save(tmp_path, 2)
    assert error.value.exit_code == 3
    assert names(tmp_path) == ["step-00000001"]
    loaded = load_latest(tmp_path)
    assert loaded is not None
    assert loaded.step == 1


@pytest.mark.parametrize("name", ["sync_file", "sync_folder", "write_synced", "write_manifest"])
def test_a_disk_that_fills_at_any_point_leaves_the_checkpoint_before(tmp_path, monkeypatch, name):
    save(tmp_path, 1)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, name, full)
    with pytest.raises(EnvironmentFault, match="No space left"):
        save(tmp_path, 2)
    monkeypatch.undo()
    assert names(tmp_path) == ["step-00000001"]
    assert [read_checkpoint(folder).step for folder in step_folders(tmp_path)] == [1]


def test_a_folder_that_has_gone_is_not_made_again(tmp_path):
    with pytest.raises(EnvironmentFault, match="No such file"):
        save(tmp_path / "gone" / "stage", 1)
    assert names(tmp_path) == []
