"""A benchmark run: stopped anywhere and taken up again, it ends as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from forty_items import ITEMS, SCORES, Killed, row_of, run_forty, settings

from uae.benchmarks.results.folder import SETTINGS
from uae.benchmarks.results.result import RESULT, read_result
from uae.benchmarks.results.run import BenchRun
from uae.core.errors import UsageError
from uae.core.identity import text_digests
from uae.core.provenance import BenchSettings, folder_digests
from uae.runs.rows import ITEMS as ITEMS_FILE
from uae.runs.rows import ItemRow, read_rows

PROGRAM = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from forty_items import run_forty

def before_item(item):
    print(item, flush=True)
    time.sleep(0.02)

run_forty(Path(sys.argv[1]), before_item=before_item)
"""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("whole")
    run_forty(folder)
    return (folder / RESULT).read_bytes()


# -- stops --------------------------------------------------------------------------------------


def test_ten_stops_change_nothing(tmp_path: Path, uninterrupted: bytes):
    rng = random.Random(5)
    stops = rng.sample(ITEMS, 10)
    torn = [b"", b"{", b'{"item": "99", "samples": {"right"', b"\xff\xfe", b"\0\0\0"]

    def before_item(item: str) -> None:
        if item in stops:
            stops.remove(item)
            raise Killed

    num_runs = 0
    while not (tmp_path / RESULT).exists():
        num_runs += 1
        try:
            run_forty(tmp_path, before_item=before_item)
        except Killed:
            with (tmp_path / ITEMS_FILE).open("ab") as file:
                file.write(rng.choice(torn))
    assert num_runs == 11
    assert (tmp_path / RESULT).read_bytes() == uninterrupted


def test_the_order_of_items_changes_nothing(tmp_path: Path, uninterrupted: bytes):
    run_forty(tmp_path, items=random.Random(0).sample(ITEMS, len(ITEMS)))
    assert (tmp_path / RESULT).read_bytes() == uninterrupted


def test_a_killed_process_is_taken_up(tmp_path: Path, uninterrupted: bytes):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "17":
                break
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert 17 <= len(read_rows(tmp_path / ITEMS_FILE)) < 40
    done: list[str] = []
    run_forty(tmp_path, before_item=done.append, resume="must")
    assert done
    assert "3" not in done
    assert (tmp_path / RESULT).read_bytes() == uninterrupted


def test_a_whole_row_without_its_line_break_is_kept(tmp_path: Path, uninterrupted: bytes):
    run_forty(tmp_path)
    data = (tmp_path / ITEMS_FILE).read_bytes()
    (tmp_path / ITEMS_FILE).write_bytes(data[:-1])
    (tmp_path / RESULT).unlink()
    done: list[str] = []
    run_forty(tmp_path, before_item=done.append)
    assert not done
    assert (tmp_path / ITEMS_FILE).read_bytes() == data
    assert (tmp_path / RESULT).read_bytes() == uninterrupted


def test_every_torn_length_of_a_row_is_redone(tmp_path: Path):
    run_forty(tmp_path, items=ITEMS[:3])
    data = (tmp_path / ITEMS_FILE).read_bytes()
    start = data[:-1].rindex(b"\n") + 1
    for end in range(start, len(data) - 1):
        (tmp_path / ITEMS_FILE).write_bytes(data[:end])
        assert [row.item for row in read_rows(tmp_path / ITEMS_FILE)] == ["0", "1"]
    with BenchRun.open(tmp_path, settings()) as run:
        assert list(run.todo(ITEMS[:3], str)) == ["2"]
        assert (tmp_path / ITEMS_FILE).read_bytes() == data[:start]


def test_a_finished_run_does_nothing_again(tmp_path: Path):
    first = run_forty(tmp_path)
    done: list[str] = []
    assert run_forty(tmp_path, before_item=done.append) == first
    assert not done


# -- what is done again -------------------------------------------------------------------------


def test_what_may_pass_is_tried_again_if_asked(tmp_path: Path):
    def run(excluded: str, **options) -> list[str]:
        done = []
        with BenchRun.open(tmp_path, settings(), **options) as run:
            for item in run.todo(["a", "b", "c"], str):
                done.append(item)
                if item == "a" or not excluded:
                    run.add(ItemRow(item=item, samples={"right": 1.0}))
                else:
                    run.add(ItemRow(item=item, excluded=excluded, can_retry=item == "b"))
            run.finish(SCORES[:1])
        return done

    assert run("no reply") == ["a", "b", "c"]
    assert run("no reply") == []
    assert read_result(tmp_path).num_excluded == 2
    assert run("", retry_failed=True) == ["b"]
    assert read_result(tmp_path).by_name("overall").n == 2


def test_a_retry_that_is_stopped_leaves_no_old_result(tmp_path: Path):
    with BenchRun.open(tmp_path, settings()) as run:
        for item in run.todo("ab", str):
            run.add(ItemRow(item=item, excluded="no reply", can_retry=True))
        run.finish(SCORES[:1])
    assert (tmp_path / RESULT).exists()
    with BenchRun.open(tmp_path, settings(), retry_failed=True) as run:
        assert not run.rows
    assert not (tmp_path / RESULT).exists()


# -- what it says -------------------------------------------------------------------------------


def test_the_result_says_what_was_left_out_and_what_it_depends_on(tmp_path: Path):
    result = run_forty(tmp_path)
    assert result == read_result(tmp_path)
    values = json.loads((tmp_path / RESULT).read_text())
    assert values["settings"]["benchmark"] == "forty"
    assert values["settings"]["model"]["dtype"] == "float32"
    assert values["settings"]["model"]["seeds"] == {"noise": 1}
    assert values["environment"]["packages"]["numpy"]
    assert (values["num_items"], values["num_excluded"]) == (40, 6)
    left_out = {str(i): f"no {i}" for i in (3, 10, 17, 24, 31, 38)}
    assert values["excluded"] == [{"reason": "bad luck", "num_items": 6, "items": left_out}]
    overall = values["scores"][0]
    assert (overall["name"], overall["n"], overall["num_excluded"]) == ("overall", 34, 6)
    rows = [row_of(item) for item in ITEMS]
    right = [row.samples["right"] for row in rows if row.samples]
    assert overall["value"] == pytest.approx(sum(right) / 34)
    assert overall["low"] < overall["value"] < overall["high"]


def test_another_environment_is_said_once(tmp_path: Path, caplog):
    run_forty(tmp_path)
    content = json.loads((tmp_path / SETTINGS).read_text())
    content["environment"]["packages"]["numpy"] = "1.0"
    (tmp_path / SETTINGS).write_text(json.dumps(content))
    for _ in range(2):
        (change,) = run_forty(tmp_path).environment_changes
        assert change.startswith("numpy 1.0 -> ")
    assert caplog.text.count("was begun in another environment") == 1


def test_an_unfinished_run_has_no_result(tmp_path: Path):
    with pytest.raises(UsageError, match=r"holds no result\.json: .* that is finished"):
        read_result(tmp_path)
    (tmp_path / RESULT).write_text('{"format": "uae-result-1"}')
    with pytest.raises(UsageError, match=r"is damaged \(KeyError"):
        read_result(tmp_path)
    (tmp_path / RESULT).write_text('{"format": "uae-result-0"}')
    with pytest.raises(UsageError, match="format 'uae-result-0' found"):
        read_result(tmp_path)


def test_digests_tell_model_files_apart(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "w.safetensors").write_bytes(b"abc")
    (tmp_path / ".cache").write_bytes(b"x")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert folder_digests(tmp_path) == {"a/w.safetensors": digest}
    with pytest.raises(UsageError, match="is no folder"):
        folder_digests(tmp_path / "b")


# -- other data ---------------------------------------------------------------------------------


def with_inputs(**kinds: dict[str, str]) -> BenchSettings:
    return replace(settings(), inputs={kind: text_digests(x) for kind, x in kinds.items()})


def test_other_data_are_refused_by_name_and_kind(tmp_path: Path):
    before = with_inputs(image={"a": "1", "b": "2"}, caption={"a": "x"}, prompt={"0": "p"})
    with BenchRun.open(tmp_path, before) as run:
        run.add(ItemRow(item="a", samples={"right": 1.0}))
    BenchRun.open(tmp_path, before).__exit__()
    now = with_inputs(image={"b": "3", "c": "1", "d": "1"}, caption={"a": "y"}, prompt={"0": "p"})
    with pytest.raises(UsageError) as error:
        BenchRun.open(tmp_path, now)
    assert (
        "images: 2 added (first c), 1 removed (first a), 1 changed (first b)\n"
        "  captions: 1 changed (first a)\nrepeat it as it was"
    ) in str(error.value)
    (tmp_path / "data.json").unlink()  # as a run of before
    BenchRun.open(tmp_path, now).__exit__()


@pytest.mark.parametrize("left", [{}, {"captions/plain.jsonl": b"", "images/plain/": b""}])
def test_a_run_that_has_done_nothing_becomes_another(tmp_path: Path, left: dict[str, bytes]):
    """What it left are files without content, and folders."""
    BenchRun.open(tmp_path, with_inputs(image={"a": "1"})).__exit__()
    for name, data in left.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).write_bytes(data)
    BenchRun.open(tmp_path, with_inputs(image={"a": "2"})).__exit__()
    (tmp_path / "captions").mkdir(exist_ok=True)
    (tmp_path / "captions" / "plain.jsonl").write_text("{}\n")
    with pytest.raises(UsageError, match=r"images: 1 changed \(first a\)"):
        BenchRun.open(tmp_path, with_inputs(image={"a": "1"}))
