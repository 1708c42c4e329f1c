"""The options in docs/cli.md, one section a command, written from the help of each.

    python scripts/cli_docs.py        # after a flag or its docstring has changed

A test compares the page with what this writes.
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from cyclopts import App

from uae.cli.app import VERBS, build_app

PAGE = Path(__file__).parents[1] / "docs/cli.md"
BEGIN = "<!-- from here on written by scripts/cli_docs.py -->\n"


def page_text(text: str) -> str:
    """Return the page with its generated part made anew; what stands before the marker stays."""
    by_hand, marker, _ = text.partition(BEGIN)
    assert marker, f"{PAGE} lacks the line {BEGIN}"
    return by_hand + BEGIN + "\n" + "\n".join(section(name, app) for name, app in commands())


def commands() -> Iterator[tuple[str, App]]:
    """Yield each command by its whole name."""
    uae = build_app()
    for name in VERBS:
        uae[name].help = None  # the docstring, not its first paragraph alone
        yield f"uae {name}", uae[name]
    benchmarks = uae["eval"]
    for name in sorted(name for name in benchmarks if not name.startswith("-")):
        yield f"uae eval {name}", benchmarks[name]


def section(name: str, app: App) -> str:
    """Return summary, examples and options of a command; those of every command are left out."""
    text = app.generate_docs().partition("```\n\n")[2].partition("**Output**:")[0]
    summary, _, rest = text.partition("\n\n")
    examples, _, rest = rest.removeprefix("Try:\n").partition("\n\n")
    fence = f"```console\n{textwrap.dedent(examples)}\n```"
    text = "\n\n".join([f"### {name}", summary, fence, rest.strip()])
    text = re.sub(r"^(\* `--[a-z-]+), -", r"\1`, `-", text, flags=re.MULTILINE)  # each by itself
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page_text(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
