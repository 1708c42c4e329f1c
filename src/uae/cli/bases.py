"""`uae bases build`: make the weights of uae-tiny again; `uae bases untrained`: without drawing."""

from pathlib import Path

from cyclopts import App

from uae.cli.output import PLAINLY, Talk
from uae.core.errors import UsageError
from uae.core.ranks import check_alone

bases = App(name="bases", help="The weights that come with the package.", help_format="plaintext")


@bases.command(help_epilogue="Next: uae eval scenes --model OUT/uae-tiny")
def build(
    *,
    out: Path,
    talk: Talk = PLAINLY,
) -> int:
    """Train uae-tiny from nothing, in hours on two cores; stopped, the same command goes on.

    Try:
        uae bases build --out runs/bases

    Args:
        out: Folder for the parts, the decoder's runs and the model, OUT/uae-tiny.
        talk: Format and verbosity.
    """
    talk.begin()
    check_alone("uae bases build")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: expected a folder")
    from uae.bases.build import build_all

    model = build_all(out)
    talk.result(str(model), {"model": str(model)})
    return 0


@bases.command(help_epilogue="Next: uae train --recipe uae-tiny-decoder --model OUT")
def untrained(
    *,
    out: Path,
    talk: Talk = PLAINLY,
) -> int:
    """Write uae-tiny with a decoder that has learned nothing, to watch stage 1 from its beginning.

    Try:
        uae bases untrained --out runs/untrained

    Args:
        out: Model folder to write; must not exist.
        talk: Format and verbosity.
    """
    talk.begin()
    if out.exists():
        raise UsageError(f"{out} exists: name a new folder, or delete this one")
    from uae.bases.build import forget_drawing

    forget_drawing(out)
    talk.result(str(out), {"out": str(out)})
    return 0
