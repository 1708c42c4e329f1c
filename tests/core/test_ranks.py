"""Several processes as torchrun starts them: who they are, and what each gets."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from uae.cli import app as cli
from uae.core import ranks
from uae.core.device import device_of
from uae.core.errors import EnvironmentFault, UsageError
from uae.core.ranks import Ranks, check_alone, current, gathered, once, other_paths, own_path, share

VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def given_variables(monkeypatch):
    """Set the variables of torchrun, those that are not named being unset."""

    def put(**values: object) -> None:
        for variable in VARIABLES:
            monkeypatch.delenv(variable, raising=False)
        for variable, value in values.items():
            monkeypatch.setenv(variable, str(value))

    put()
    return put


def test_a_process_alone_needs_nothing(given_variables):
    assert current() == Ranks(0, 1, 0)
    given_variables(WORLD_SIZE=1, RANK="?")
    assert current() == Ranks(0, 1, 0)
    assert once(lambda: 5) == 5
    assert gathered(5) == [5]
    assert share([1, 2, 3]) == [1, 2, 3]
    check_alone("uae train")


def test_the_place_is_read_from_the_environment(given_variables):
    given_variables(WORLD_SIZE=4, RANK=3, LOCAL_RANK=1)
    assert current() == Ranks(3, 4, 1)
    assert not current().is_first
    assert own_path(Path("a/items.jsonl")) == Path("a/items-rank3.jsonl")
    assert ranks.prefix() == "rank 3: "
    given_variables(WORLD_SIZE=4, RANK=0, LOCAL_RANK=0)
    assert current().is_first
    assert own_path(Path("a/items.jsonl")) == Path("a/items.jsonl")
    assert ranks.prefix() == ""


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two': expected a number"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0': expected a number"),
        ({"WORLD_SIZE": "-2"}, "WORLD_SIZE is '-2'"),
        ({"WORLD_SIZE": "2"}, "RANK is ''"),
        ({"WORLD_SIZE": "2", "RANK": "1"}, "LOCAL_RANK is ''"),
        ({"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0"}, "RANK is 2: expected less than"),
    ],
)
def test_bad_variables_are_named(given_variables, variables, fault):
    given_variables(**variables)
    with pytest.raises(UsageError, match=fault):
        current()
    assert ranks.prefix() == ""


def test_ranks_that_cannot_meet_are_told_how_to_start(given_variables):
    given_variables(WORLD_SIZE=2, RANK=0, LOCAL_RANK=0)
    with pytest.raises(UsageError, match=r"MASTER_ADDR is not set: start .* with torchrun"):
        gathered(1)


@given(items=st.lists(st.integers(), max_size=30), size=st.integers(2, 5))
def test_shares_are_even_and_together_all(items, size):
    with pytest.MonkeyPatch.context() as patch:
        shares = []
        for rank in range(size):
            patch.setattr(ranks, "current", lambda rank=rank: Ranks(rank, size, rank))
            shares.append(list(share(items)))
    assert sorted(x for part in shares for x in part) == sorted(items)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_files_of_other_ranks_are_those_beside_a_file(tmp_path: Path):
    for name in ("items.jsonl", "items-rank2.jsonl", "items-rank11.jsonl", "other-rank1.jsonl"):
        (tmp_path / name).touch()
    names = [path.name for path in other_paths(tmp_path / "items.jsonl")]
    assert names == ["items-rank11.jsonl", "items-rank2.jsonl"]


def test_each_process_has_a_gpu_of_its_own(given_variables, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of("auto") == "cuda"
    given_variables(WORLD_SIZE=4, RANK=3, LOCAL_RANK=1)
    assert device_of("auto") == "cuda:1"
    assert device_of("cuda") == "cuda"
    assert device_of("cpu") == "cpu"
    given_variables(WORLD_SIZE=4, RANK=2, LOCAL_RANK=2)
    with pytest.raises(EnvironmentFault, match=r"torch finds 2 GPUs: .* --nproc-per-node 2"):
        device_of("auto")


def test_a_device_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert device_of("cuda:0") == "cuda:0"
    with pytest.raises(EnvironmentFault, match=r"device cuda:1: torch finds 1 GPUs"):
        device_of("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(EnvironmentFault, match=r"device cuda: torch finds no GPU"):
        device_of("cuda")
    with pytest.raises(UsageError, match=r"device 'gpu': expected auto, cpu, cuda"):
        device_of("gpu")


@pytest.mark.parametrize("verb", ["train --recipe demo --out run", "eval scenes", "scenes run"])
def test_what_cannot_be_shared_is_refused(given_variables, capsys, monkeypatch, tmp_path, verb):
    monkeypatch.chdir(tmp_path)
    given_variables(WORLD_SIZE=2, RANK=1, LOCAL_RANK=1)
    assert cli.run(verb.split()) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("rank 1: error: uae ")
    assert "runs in one process, and WORLD_SIZE is 2: start it without torchrun" in err
    assert not list(tmp_path.iterdir())


def test_a_process_alone_imports_no_torch():
    code = "import sys, uae.core.ranks as r; r.once(int); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
