"""The folder of a training run: what is in it, and when it may be taken up again.

    lock  run.json  config.yaml  environment.json  data.json  metrics.jsonl  checkpoints/  ...

`run.json` is written first, marks the folder as ours and names it as the command did; nothing is
ever deleted from a folder without it.
"""

import json
import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from uae.core.config import config_differences
from uae.core.durable import remove, replace_file, storage_faults
from uae.core.environment import describe_environment, numeric_differences
from uae.core.errors import UsageError
from uae.core.lock import LOCK_NAME, RunLock
from uae.core.yaml_text import read_yaml, to_yaml
from uae.data.survey import Survey
from uae.runs.claim import (
    FolderKind,
    Resume,
    check_claim,
    check_same,
    claim,
    contents_of,
    marker_of,
    plain,
)
from uae.runs.cut_captions import CUT
from uae.runs.inputs import LISTING, check_data, write_inputs

log = logging.getLogger(__name__)

MARKER = "run.json"
CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
CHECKPOINTS = "checkpoints"

TRAINING = FolderKind(
    noun="run",
    other="another configuration",
    marker=MARKER,
    format="uae-run-1",
    early=(CONFIG, ENVIRONMENT, LISTING, CUT, ".*.tmp"),
    can_overwrite=True,
)


def open_folder(
    folder: Path,
    config: dict[str, Any],
    config_name: str,
    resume: Resume,
    overwrite: bool,
    data: Survey | None = None,
) -> RunLock:
    """Make or take over a run folder, and lock it.

    Raises as `claim`, and a `UsageError` for another configuration or other data.
    """
    with storage_faults("cannot write the run folder", folder), ExitStack() as undo:
        lock = claim(folder, TRAINING, resume, overwrite)
        undo.callback(lock.release)
        contents = contents_of(folder, TRAINING)
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
        undo.pop_all()
    return lock


def check_folder(
    folder: Path, config: dict[str, Any], config_name: str, resume: Resume, overwrite: bool
) -> None:
    """Refuse what `open_folder` would refuse, but for other data; nothing is made."""
    if overwrite and resume == "must":
        raise UsageError("overwrite deletes the run that resume=must asks for: give one of the two")
    contents = check_claim(folder, TRAINING, resume, overwrite)
    if contents == "run" and not overwrite and (folder / CONFIG).exists():
        with storage_faults("cannot read the run folder", folder):
            _check_config(folder, config, config_name)


def _erase(folder: Path) -> None:
    """Delete a run, its marker excepted; the configuration last, so that a kill is no harm."""
    kept = {LOCK_NAME, MARKER, CONFIG}
    for path in folder.iterdir():
        if path.name not in kept:
            remove(path)
    (folder / CONFIG).unlink(missing_ok=True)


def _create(folder: Path, config: dict[str, Any], config_name: str, data: Survey | None) -> None:
    """Write marker, environment, data, configuration, in this order: the last completes it."""
    marker = {"format": TRAINING.format, "config_name": config_name, "folder": str(folder)}
    environment = json.dumps(describe_environment(), indent=1)
    replace_file(folder / MARKER, (json.dumps(marker, indent=1) + "\n").encode())
    replace_file(folder / ENVIRONMENT, (environment + "\n").encode())
    if data is not None:
        write_inputs(folder, data.inputs)
    replace_file(folder / CONFIG, to_yaml(plain(config)).encode())


def _check_config(folder: Path, config: dict[str, Any], config_name: str) -> None:
    marker = marker_of(folder, TRAINING) or {}
    if marker.get("config_name") != config_name:
        raise UsageError(
            f"{folder} is a run of {marker.get('config_name')}, not of {config_name}: choose "
            "another folder, or overwrite it"
        )
    try:
        before = read_yaml(folder / CONFIG)
    except UsageError as error:
        raise UsageError(f"{error}; restore the file") from error
    check_same(folder, TRAINING, config_differences(before, plain(config)))


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
