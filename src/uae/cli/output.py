"""The output of every verb: data on stdout, everything else on stderr.

Of several processes (`uae.core.ranks`) the first writes everything, the others only warnings and
errors.
"""

import json
import logging
import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from uae.core.errors import UsageError
from uae.core.ranks import current, prefix
from uae.core.unicode import escaped, readable

log = logging.getLogger(__name__)

Format = Literal["auto", "human", "json", "quiet"]
OUTPUT = Group("Output", sort_key=9)
STDIN = "/dev/stdin"
"""The file that the argument `-` stands for."""

SWITCH = Parameter(negative="", show_default=False)
"""A flag that takes no value and has no opposite."""


def _output(*names: str) -> Parameter:
    return Parameter(name=names, negative="", show_default=False, group=OUTPUT)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Talk:
    """Format and verbosity of a verb."""

    format: Annotated[Format, Parameter(group=OUTPUT)] = "auto"
    """What stdout holds: `auto` is human on a terminal; `quiet` leaves the bare result."""
    json: Annotated[bool, _output("--json")] = False
    """Short for --format json: one JSON object, or one a line for many."""
    quiet: Annotated[bool, _output("--quiet", "-q")] = False
    """Short for --format quiet: warnings and errors only on stderr."""
    verbose: Annotated[bool, _output("--verbose", "-v")] = False
    """More on stderr, and where an error comes from."""

    def begin(self) -> None:
        """Set up logging, and keep the libraries' own talk off stderr.

        Raises:
            UsageError: The formats asked for contradict each other.
        """
        asked = {self.format} - {"auto"} | ({"json"} if self.json else set())
        if len(asked | ({"quiet"} if self.quiet else set())) > 1:
            raise UsageError("--format, --json and -q ask for different formats: give one")
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Lines())
        own = logging.getLogger("uae")
        own.handlers = [handler]
        own.setLevel(logging.INFO)
        if self.chosen == "quiet" or not current().is_first:
            own.setLevel(logging.WARNING)
        if self.verbose:
            own.setLevel(logging.DEBUG)
            return
        for variable in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
            os.environ.setdefault(variable, "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        if not sys.warnoptions:
            warnings.simplefilter("ignore")

    @property
    def chosen(self) -> Format:
        """The format asked for, by whichever flag."""
        if self.json:
            return "json"
        return "quiet" if self.quiet else self.format

    @property
    def for_reader(self) -> Literal["human", "json", "quiet"]:
        """The format of a table: `auto` gives JSON to a pipe."""
        if self.chosen == "auto":
            return "human" if sys.stdout.isatty() else "json"
        return self.chosen

    def result(self, plain: str, values: Mapping[str, Any]) -> None:
        """Write a verb's one result: JSON if asked for, else text alone."""
        write(json_line(values) if self.chosen == "json" else plain)


PLAINLY = Talk()


class _Lines(logging.Formatter):
    """`warning: ...` for warnings, the bare message for what is no fault."""

    def format(self, record: logging.LogRecord) -> str:
        text = readable(super().format(record))
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname.lower()}: {text}"
        return prefix() + text


def write(text: str) -> None:
    """Write a line of data to stdout at once, where rank 0 runs: a reader there sees it."""
    if current().is_first:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def json_line(values: Mapping[str, Any]) -> str:
    """Return one JSON object on one line; nan and infinity become null."""
    return escaped(json.dumps(_strict(values), ensure_ascii=False))


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _strict(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(inner) for inner in value]
    if isinstance(value, float) and value - value != 0:  # nan and infinity alike
        return None
    return value
