"""`uae report`: write a run's page again from what its folder holds."""

from pathlib import Path

from uae.cli.output import PLAINLY, Talk
from uae.core.errors import UsageError

RUN_MARKER = "run.json"


def report(run: Path, /, *, talk: Talk = PLAINLY) -> int:
    """Write the report of a run again, from its metrics and evaluations.

    Try:
        uae report runs/demo

    Args:
        run: A folder written by `uae train`.
        talk: Format and verbosity.
    """
    talk.begin()
    if not (run / RUN_MARKER).is_file():
        fault = f"has no {RUN_MARKER}" if run.is_dir() else "does not exist"
        raise UsageError(f"{run} {fault}: expected a folder written by `uae train`")
    from uae.scenes.run_images import run_images
    from uae.train.run_report import read_recipe, write_run_report

    recipe = read_recipe(run)
    write_run_report(run, recipe, run_images(recipe).evaluator)
    path = run / "report.html"
    talk.result(str(path), {"run": str(run), "report": str(path)})
    return 0
