"""Metrics and sample tables in trackio (extra `track`), kept inside the run folder.

Nothing leaves the machine: variables that would send runs to a server are set aside while the run
is opened, and the Hub client is offline meanwhile, which otherwise looks up the user's name.
"""

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from PIL import Image

from uae.core.errors import EnvironmentFault

FOLDER = "trackio"
_PROJECT = "uae"
_REMOTE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_BUCKET_ID", "TRACKIO_WEBHOOK_URL")


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One fixed image of an evaluation, with what the model made of it."""

    image: Image.Image
    caption: str
    redraw: Image.Image
    reward: float


def check_installed() -> None:
    """Look for trackio; its lack is an `EnvironmentFault`."""
    if importlib.util.find_spec("trackio") is None:
        raise EnvironmentFault(
            'trackio is not installed: pip install "uae[track]", or leave tracking off '
            "(metrics.jsonl is written in any case)"
        )


class Tracker:
    """A trackio run of the run folder's name, in `FOLDER/trackio`."""

    def __init__(self, run_folder: Path, config: Mapping[str, Any]) -> None:
        """Open the run, or take it up; a fault where trackio writes elsewhere already."""
        check_installed()
        folder = (run_folder / FOLDER).resolve()
        self._trackio = _import_for(folder)
        with _local_only():
            self._run = self._trackio.init(
                project=_PROJECT,
                name=run_folder.resolve().name,
                config=dict(config),
                resume="allow",
                embed=False,
                auto_log_cpu=False,
            )

    def log(self, step: int, stage: str, values: Mapping[str, int | float]) -> None:
        """Send a line of metrics, named by stage: the steps of two stages overlap."""
        self._run.log({f"{stage}/{name}": value for name, value in values.items()}, step=step)

    def table(self, step: int, stage: str, rows: Sequence[SampleRow]) -> None:
        """Send a table image | caption | redraw | reward."""
        picture = self._trackio.Image
        table = self._trackio.Table(
            columns=["image", "caption", "redraw", "reward"],
            data=[[picture(r.image), r.caption, picture(r.redraw), r.reward] for r in rows],
        )
        self._run.log({f"{stage}/samples": table}, step=step)

    def finish(self) -> None:
        with _local_only():
            self._trackio.finish()


def _import_for(folder: Path) -> Any:
    """Import trackio with its database in `folder`; it reads the variable once, on import."""
    os.environ["TRACKIO_DIR"] = str(folder)
    trackio = importlib.import_module("trackio")
    used = importlib.import_module("trackio.utils").TRACKIO_DIR
    if Path(used) != folder:
        raise EnvironmentFault(
            f"trackio already writes to {used} in this process, not to {folder}: start the run in "
            "a process of its own, or leave tracking off"
        )
    return trackio


@contextlib.contextmanager
def _local_only() -> Iterator[None]:
    """Keep trackio off the network, and its talk off stdout, which is for data."""
    aside = {name: os.environ.pop(name) for name in _REMOTE if name in os.environ}
    offline, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        os.environ.update(aside)
