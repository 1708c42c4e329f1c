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
        """Set up logging, keep the libraries' own talk off stderr, and refuse two formats."""
        formats = {self.format, self.chosen, "quiet" if self.quiet else "auto"}
        if len(formats - {"auto"}) > 1:
            raise UsageError("--format, --json and -q ask for different formats: give one")
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Lines())
        own = logging.getLogger("uae")
        own.handlers = [handler]
        is_quiet = self.chosen == "quiet" or not current().is_first
        own.setLevel(logging.WARNING if is_quiet else logging.INFO)
        if self.verbose:
            own.setLevel(logging.DEBUG)
            return
        for variable in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY", "HF_HUB_VERBOSITY"):
            os.environ.setdefault(variable, "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        if not sys.warnoptions:
            warnings.simplefilter("ignore")

    @property
    def chosen(self) -> Format:
        """The format asked for, by whichever flag."""
        return "json" if self.json else "quiet" if self.quiet else self.format

    @property
    def for_reader(self) -> Literal["human", "json", "quiet"]:
        """The format of a table: `auto` gives JSON to a pipe."""
        terminal = "human" if sys.stdout.isatty() else "json"
        return terminal if self.chosen == "auto" else self.chosen

    def result(self, plain: str, values: Mapping[str, Any]) -> None:
        """Write a verb's one result: JSON if asked for, else text alone."""
        write(json_line(values) if self.chosen == "json" else plain)


PLAINLY = Talk()


class _Lines(logging.Formatter):
    """`warning: ...` for warnings, the bare message for what is no fault."""

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return prefix() + level + readable(super().format(record))


def write(text: str) -> None:
    """Write a line of data to stdout at once, where rank 0 runs: a reader there sees it."""
    if current().is_first:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def json_line(values: Mapping[str, Any]) -> str:
    """Return one JSON object on one line; nan and infinity become null."""
    return escaped(json.dumps(_plain(values), ensure_ascii=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):  # pydantic takes no key that is no Unicode
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value, inf_nan_mode="null")
