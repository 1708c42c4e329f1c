"""`python -m bases build` makes uae-tiny again; `python -m bases untrained` without its drawing."""

from pathlib import Path

from cyclopts import App

from uae.cli.app import app_of, main
from uae.cli.output import PLAINLY, Talk
from uae.core.errors import UsageError
from uae.core.ranks import check_alone


def build(
    *,
    out: Path,
    talk: Talk = PLAINLY,
) -> int:
    """Train uae-tiny from nothing, in hours on two cores; stopped, the same command goes on.

    Try:
        python -m bases build --out runs/bases

    Args:
        out: Folder for the parts, the decoder's runs and the model, OUT/uae-tiny.
        talk: Format and verbosity.
    """
    talk.begin()
    check_alone("python -m bases build")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: expected a folder")
    from bases.build import build_all

    model = build_all(out)
    talk.result(str(model), {"model": str(model)})
    return 0


def untrained(
    *,
    out: Path,
    talk: Talk = PLAINLY,
) -> int:
    """Write uae-tiny with a decoder that has learned nothing, to watch stage 1 from its beginning.

    Try:
        python -m bases untrained --out runs/untrained

    Args:
        out: Model folder to write; must not exist.
        talk: Format and verbosity.
    """
    talk.begin()
    if out.exists():
        raise UsageError(f"{out} exists: name a new folder, or delete this one")
    from bases.build import forget_drawing

    forget_drawing(out)
    talk.result(str(out), {"out": str(out)})
    return 0


FIRST_PART = "bases/recipes/uae-tiny-decoder/1-from-nothing.yaml"
NEXT = {
    build: "uae eval scenes --model OUT/uae-tiny",
    untrained: f"uae train --recipe {FIRST_PART} --model OUT",
}
"""The verbs, each with what its help names as the next command."""


def build_app() -> App:
    """Map names to verbs."""
    return app_of(NEXT, "python -m bases", "The weights that come with the package.")


if __name__ == "__main__":
    main(build_app())
