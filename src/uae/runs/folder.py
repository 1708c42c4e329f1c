"""The run folder: what is in it, when it may be used, and when it is refused.

    lock  run.json  config.yaml  environment.json  data.json  metrics.jsonl  checkpoints/  ...

`run.json` is written first, marks the folder as ours and names it as the command did; nothing is
ever deleted from a folder without it. A run that has done nothing yet may become another one.
"""

import json
import logging
import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal

from uae.core.config import config_differences
from uae.core.durable import (
    answer_within,
    holds_nothing_but,
    remove,
    replace_file,
    storage_faults,
    write_synced,
)
from uae.core.environment import describe_environment, numeric_differences
from uae.core.errors import UsageError
from uae.core.identity import LISTING, write_inputs
from uae.core.lock import LOCK_NAME, RunLock, check_free
from uae.core.yaml_text import read_yaml, to_yaml
from uae.data.survey import Survey
from uae.runs.data_listing import check_data

log = logging.getLogger(__name__)

Resume = Literal["auto", "must", "never"]
Contents = Literal["nothing", "begun", "run", "other"]
"""A run that is begun has done nothing yet."""

MARKER = "run.json"
CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
CHECKPOINTS = "checkpoints"

_FORMAT = "uae-run-1"
_ANSWER_S = 4.0


def open_folder(
    folder: Path,
    config: dict[str, Any],
    config_name: str,
    resume: Resume,
    overwrite: bool,
    data: Survey | None = None,
) -> RunLock:
    """Make or take over a run folder, and lock it.

    Raises:
        UsageError: The folder is in use, not a run folder, of another run or other data, or
            against `resume`.
        EnvironmentFault: It cannot be written, or does not answer.
    """
    with storage_faults("cannot write the run folder", folder):
        contents = answer_within(_ANSWER_S, folder, partial(_survey, folder, resume))
        _check_contents(folder, contents, resume, overwrite)
        lock = RunLock(folder)
        with ExitStack() as undo:
            undo.callback(lock.release)
            _settle(folder, config, config_name, resume, overwrite, data)
            undo.pop_all()
    return lock


def check_folder(
    folder: Path, config: dict[str, Any], config_name: str, resume: Resume, overwrite: bool
) -> None:
    """Refuse what `open_folder` would refuse, but for other data; nothing is made.

    Raises:
        UsageError: As `open_folder`.
        EnvironmentFault: It cannot be read, or does not answer.
    """
    if overwrite and resume == "must":
        raise UsageError("overwrite deletes the run that resume=must asks for: give one of the two")
    with storage_faults("cannot read the run folder", folder):
        contents = answer_within(_ANSWER_S, folder, partial(contents_of, folder))
        _check_contents(folder, contents, resume, overwrite)
        if contents in ("begun", "run"):
            check_free(folder)
        if contents == "run" and not overwrite and (folder / CONFIG).exists():
            _check_config(folder, config, config_name)


def _settle(
    folder: Path,
    config: dict[str, Any],
    config_name: str,
    resume: Resume,
    overwrite: bool,
    data: Survey | None,
) -> None:
    """Decide again under the lock: another run may have come and gone since the first look."""
    contents = contents_of(folder)
    _check_contents(folder, contents, resume, overwrite)
    if contents == "begun" or (contents == "run" and overwrite):
        _erase(folder)
    if (folder / CONFIG).exists():
        _check_config(folder, config, config_name)
        if data is not None:
            check_data(folder, data)
        _warn_of_environment(folder)
    else:
        _create(folder, config, config_name, data)
    (folder / CHECKPOINTS).mkdir(exist_ok=True)


def _survey(folder: Path, resume: Resume) -> Contents:
    """Look into the folder; if it may be ours, make it and try a synced write."""
    contents = contents_of(folder)
    if contents == "other" or (contents == "nothing" and resume == "must"):
        return contents
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".probe-{os.getpid()}"
    write_synced(probe, b"uae\n")
    probe.unlink()
    return contents


def contents_of(folder: Path) -> Contents:
    """Tell an empty or missing folder from a run folder and from anything else."""
    if not folder.exists():
        return "nothing"
    if not folder.is_dir():
        return "other"
    if _marker(folder) is not None:
        own = {LOCK_NAME, MARKER, CONFIG, ENVIRONMENT, LISTING}
        return "begun" if holds_nothing_but(folder, own) else "run"
    foreign = [p for p in folder.iterdir() if p.name != LOCK_NAME and not _is_leftover(p.name)]
    return "other" if foreign else "nothing"


def _marker(folder: Path) -> dict[str, str] | None:
    """Return the content of `run.json` if it is ours."""
    try:
        content = json.loads((folder / MARKER).read_text())
        return content if content["format"] == _FORMAT and content["config_name"] else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _is_leftover(name: str) -> bool:
    """Tell what an interrupted creation may have left beside the lock."""
    return name.startswith(".probe-") or name == f".{MARKER}.tmp"


def check_contents(folder: Path, resume: Resume, overwrite: bool) -> None:
    """Refuse a folder that may not be used, before anything is loaded; `open_folder` looks again.

    Raises:
        UsageError: It holds something else, or is against `resume`.
        EnvironmentFault: It cannot be read, or does not answer.
    """
    with storage_faults("cannot read the run folder", folder):
        contents = answer_within(_ANSWER_S, folder, partial(contents_of, folder))
    _check_contents(folder, contents, resume, overwrite)


def _check_contents(folder: Path, contents: Contents, resume: Resume, overwrite: bool) -> None:
    if contents == "other":
        raise UsageError(
            f"{folder} is not empty and not a run folder (it has no {MARKER} of ours): choose an "
            "empty or new folder; nothing was changed"
        )
    if contents == "nothing" and resume == "must":
        raise UsageError(
            f"{folder} holds no run to resume: check the path, or leave resume at auto"
        )
    if contents == "run" and resume == "never" and not overwrite:
        raise UsageError(f"{folder} holds a run: resume it, choose another folder, or overwrite it")


def _erase(folder: Path) -> None:
    """Delete a run, its marker excepted; the configuration last, so that a kill is no harm."""
    kept = {LOCK_NAME, MARKER, CONFIG}
    for path in folder.iterdir():
        if path.name not in kept:
            remove(path)
    (folder / CONFIG).unlink(missing_ok=True)


def _create(folder: Path, config: dict[str, Any], config_name: str, data: Survey | None) -> None:
    """Write marker, environment, data, configuration, in this order: the last completes it."""
    marker = {"format": _FORMAT, "config_name": config_name, "folder": str(folder)}
    environment = json.dumps(describe_environment(), indent=1)
    replace_file(folder / MARKER, (json.dumps(marker, indent=1) + "\n").encode())
    replace_file(folder / ENVIRONMENT, (environment + "\n").encode())
    if data is not None:
        write_inputs(folder, data.inputs)
    replace_file(folder / CONFIG, to_yaml(_plain(config)).encode())


def _check_config(folder: Path, config: dict[str, Any], config_name: str) -> None:
    marker = _marker(folder)
    assert marker is not None, f"{folder} has a configuration but no marker"
    if marker["config_name"] != config_name:
        raise UsageError(
            f"{folder} is a run of {marker['config_name']}, not of {config_name}: choose another "
            "folder, or overwrite it"
        )
    try:
        before = read_yaml(folder / CONFIG)
    except UsageError as error:
        raise UsageError(f"{error}; restore the file") from error
    differences = config_differences(before, _plain(config))
    if differences:
        raise UsageError(
            f"{folder} is a run with another configuration:\n  "
            + "\n  ".join(differences)
            + "\nrepeat it as it was to resume, choose another folder, or overwrite it"
        )


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """Reduce to what YAML gives back: tuples become lists, keys strings."""
    return json.loads(json.dumps(config))


def _warn_of_environment(folder: Path) -> None:
    before = json.loads((folder / ENVIRONMENT).read_text())
    differences = numeric_differences(before, describe_environment())
    if differences:
        log.warning(
            "%s was begun in another environment, so the rest may not be bitwise what it would "
            "have been: %s",
            folder,
            ", ".join(differences),
        )
