import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from uae.core import environment
from uae.core.config import config_differences
from uae.core.durable import answer_within
from uae.core.environment import describe_environment, numeric_differences, source_revision
from uae.core.errors import EnvironmentFault, Stopped, UsageError
from uae.runs import run
from uae.runs.claim import contents_of
from uae.runs.folder import CONFIG, ENVIRONMENT, MARKER, TRAINING
from uae.runs.metrics import METRICS, read_metrics
from uae.runs.run import Run, own_command

CONFIG_A = {"seed": 0, "decoder_rl": {"lr": 1e-5, "layers": (1, 2)}, "data": {"folder": ""}}
WEIGHT = {"weight": torch.arange(4.0)}


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def run_steps(folder: Path, start: int, end: int, **options) -> None:
    with Run.open(folder, CONFIG_A, **options) as run:
        run.latest("rl")
        for step in range(start, end):
            with run.metrics.step(step, "encoder_rl", end):
                run.metrics.write({"reward/mean": float(step)})
            run.checkpoint("rl", step + 1, WEIGHT, {"step": step + 1})


def test_a_new_run_writes_what_it_is_before_its_first_step(tmp_path):
    with Run.open(tmp_path / "deep" / "run", CONFIG_A, "Recipe") as run:
        assert yaml.safe_load((run.folder / CONFIG).read_text()) == {
            "seed": 0,
            "decoder_rl": {"lr": 1e-5, "layers": [1, 2]},
            "data": {"folder": ""},
        }
        assert json.loads((run.folder / MARKER).read_text())["config_name"] == "Recipe"
        assert json.loads((run.folder / ENVIRONMENT).read_text()) == describe_environment()
        assert run.latest("rl") is None
        assert (run.folder / METRICS).read_bytes() == b""


def test_a_run_goes_on_after_its_newest_checkpoint(tmp_path):
    run_steps(tmp_path, 0, 3)
    with Run.open(tmp_path, CONFIG_A) as run:
        with run.metrics.step(3, "encoder_rl", 5):
            run.metrics.write_at(3, "encoder_rl", {"reward/mean": 9.0})
        checkpoint = run.latest("rl")
        assert checkpoint is not None
        assert (checkpoint.step, checkpoint.state) == (3, {"step": 3})
        assert torch.equal(checkpoint.tensors["weight"], WEIGHT["weight"])
        assert run.latest("another") is None
    assert [x["step"] for x in read_metrics(tmp_path / METRICS) if x["session"]] == [0, 1, 2]


def test_another_configuration_is_refused_key_by_key(tmp_path):
    run_steps(tmp_path, 0, 1)
    before = files(tmp_path)
    other = {"seed": 0, "decoder_rl": {"lr": 2e-5, "layers": (1, 2)}, "extra": 1}
    with pytest.raises(UsageError) as error:
        Run.open(tmp_path, other)
    message = str(error.value)
    assert "decoder_rl.lr: 1e-05 in the run, 2e-05 now" in message
    assert "extra: absent in the run, 1 now" in message
    assert "data: {'folder': ''} in the run, absent now" in message
    assert "seed" not in message
    assert error.value.exit_code == 2
    assert files(tmp_path) == before


def test_another_kind_of_run_is_refused(tmp_path):
    run_steps(tmp_path, 0, 1)
    with pytest.raises(UsageError, match="is a run of Recipe, not of Evaluation"):
        Run.open(tmp_path, CONFIG_A, "Evaluation")


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": "must"}])
@pytest.mark.parametrize("name", ["notes.txt", ".git", "config.yaml", "run.json"])
def test_a_folder_that_is_no_run_is_never_touched(tmp_path, name, options):
    (tmp_path / name).write_text("{}")
    with pytest.raises(UsageError, match="not empty and holds no run"):
        Run.open(tmp_path, CONFIG_A, **options)
    assert files(tmp_path) == {name: b"{}"}


def test_resume_must_needs_a_run(tmp_path):
    with pytest.raises(UsageError, match="no run to resume"):
        Run.open(tmp_path / "absent", CONFIG_A, resume="must")
    assert not (tmp_path / "absent").exists()
    run_steps(tmp_path / "run", 0, 1)
    run_steps(tmp_path / "run", 1, 2, resume="must")


def test_resume_never_refuses_a_run(tmp_path):
    run_steps(tmp_path, 0, 1, resume="never")
    with pytest.raises(UsageError, match="holds a run"):
        Run.open(tmp_path, CONFIG_A, resume="never")


def test_overwrite_starts_again(tmp_path):
    run_steps(tmp_path, 0, 2)
    (tmp_path / "report.html").write_text("old")
    with Run.open(tmp_path, {"seed": 1}, overwrite=True) as run:
        assert run.latest("rl") is None
    assert yaml.safe_load((tmp_path / CONFIG).read_text()) == {"seed": 1}
    assert not (tmp_path / "report.html").exists()
    with pytest.raises(UsageError, match="one of the two"):
        Run.open(tmp_path, CONFIG_A, overwrite=True, resume="must")


def test_a_creation_that_was_killed_is_done_again(tmp_path):
    run_steps(tmp_path, 0, 1)
    (tmp_path / CONFIG).unlink()  # written last
    run_steps(tmp_path, 1, 2)
    assert (tmp_path / CONFIG).exists()
    (tmp_path / "early").mkdir()
    for name in ("lock", ".probe-17", ".run.json.tmp"):
        (tmp_path / "early" / name).write_text("")
    assert contents_of(tmp_path / "early", TRAINING) == "nothing"
    run_steps(tmp_path / "early", 0, 1)


def test_a_folder_in_use_is_refused_by_name(tmp_path):
    with Run.open(tmp_path, CONFIG_A):
        before = files(tmp_path)
        with pytest.raises(UsageError, match=rf"in use by another run \(process {os.getpid()} on "):
            Run.open(tmp_path, CONFIG_A)
        assert files(tmp_path) == before
    run_steps(tmp_path, 0, 1)


def test_an_error_on_opening_frees_the_folder(tmp_path, monkeypatch):
    run_steps(tmp_path, 0, 1)
    with pytest.raises(UsageError, match="another configuration"):
        Run.open(tmp_path, {"seed": 7})

    def missing(*_):
        raise EnvironmentFault("trackio is not installed")

    monkeypatch.setattr(run, "Tracker", missing)
    with pytest.raises(EnvironmentFault, match="trackio"):
        Run.open(tmp_path, CONFIG_A, track=True)
    run_steps(tmp_path, 1, 2)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_with_code_and_resume_line(tmp_path, number, code):
    before = signal.getsignal(number)
    signal.signal(number, signal.default_int_handler)
    try:
        with Run.open(tmp_path, CONFIG_A, resume_command="uae train --out RUN") as run:
            run.latest("rl")
            assert not run.should_stop
            os.kill(os.getpid(), number)
            assert run.should_stop
            run.checkpoint("rl", 1, WEIGHT, {})
            with pytest.raises(Stopped) as error:
                raise run.stopped()
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert error.value.exit_code == code
    assert signal.Signals(number).name in str(error.value)
    assert "step-00000001" in str(error.value)
    assert str(error.value).endswith("uae train --out RUN")
    run_steps(tmp_path, 1, 2)


def test_the_resume_line_does_not_overwrite(monkeypatch):
    argv = ["/usr/bin/uae", "train", "--overwrite", "--out", "my runs/a"]
    monkeypatch.setattr("sys.argv", argv)
    assert own_command() == "uae train --out 'my runs/a'"


@pytest.mark.parametrize("package", ["src/uae", "bases"])
def test_the_resume_line_names_the_package_that_was_run(package, monkeypatch):
    monkeypatch.setattr("sys.argv", [f"/checkout/{package}/__main__.py", "build", "--out", "a"])
    assert own_command() == f"python -m {Path(package).name} build --out a"


def test_a_folder_without_answer_is_an_error():
    start = time.monotonic()
    with pytest.raises(EnvironmentFault, match=r"no answer within 0\.05 s"):
        answer_within(0.05, Path("/slow"), lambda: time.sleep(1.0))
    assert time.monotonic() - start < 0.9


def test_a_changed_environment_is_said(tmp_path, caplog):
    run_steps(tmp_path, 0, 1)
    assert "bitwise" not in caplog.text
    before = json.loads((tmp_path / ENVIRONMENT).read_text())
    before["packages"]["torch"] = "1.0"
    (tmp_path / ENVIRONMENT).write_text(json.dumps(before))
    run_steps(tmp_path, 1, 2)
    assert "may not be bitwise" in caplog.text
    assert f"torch 1.0 -> {torch.__version__}" in caplog.text
    assert numeric_differences(describe_environment(), describe_environment()) == []


def test_the_environment_names_no_user_host_or_path():
    text = json.dumps(describe_environment())
    assert os.uname().nodename not in text
    assert str(Path.home()) not in text
    assert str(Path(environment.__file__).parents[2]) not in text
    assert describe_environment()["packages"]["torch"] == torch.__version__


def test_revision_is_that_of_the_checkout_only(tmp_path):
    assert source_revision(tmp_path) is None
    (tmp_path / ".git").mkdir()
    assert source_revision(tmp_path) is None


leaves = st.integers() | st.text(max_size=3) | st.booleans() | st.lists(st.integers(), max_size=2)
configs = st.recursive(
    leaves, lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=2), inner)
)


@given(a=configs, b=configs)
def test_differences_are_empty_only_for_equal_configs(a, b):
    assert config_differences(a, a) == []
    assert (config_differences(a, b) == []) == (a == b)
