"""`uae bases build`: make the weights of uae-tiny again, from nothing."""

from pathlib import Path

from cyclopts import App

from uae.commands.talk import PLAINLY, Talk
from uae.errors import UsageError

bases = App(name="bases", help="The weights that come with the package.", help_format="plaintext")


@bases.command(help_epilogue="Next: uae eval scenes --model OUT/uae-tiny")
def build(
    *,
    out: Path,
    talk: Talk = PLAINLY,
) -> int:
    """Train the parts of uae-tiny from nothing; takes hours on two cores.

    Try:
        uae bases build --out runs/bases

    Args:
        out: Folder for the parts; a part that is there already is kept.
        talk: Format and verbosity.
    """
    talk.begin()
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: expected a folder")
    from uae.bases.build import build_all

    build_all(out)
    talk.result(str(out), {"out": str(out)})
    return 0
