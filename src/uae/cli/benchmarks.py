"""`uae eval NAME` and `uae eval NAME-images`: made from the benchmarks of the table."""

from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import partial
from inspect import Parameter as Argument
from inspect import Signature, getdoc
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from uae.benchmarks.benchmark import Benchmark, Means, PromptImages
from uae.benchmarks.table import BENCHMARKS
from uae.cli.answerer import AnswererChoice
from uae.cli.judge_choice import JudgeChoice
from uae.cli.options import RunChoice, carry_out, check_folder
from uae.cli.output import PLAINLY, SWITCH, Talk
from uae.cli.prompt_drawing import DrawingChoice, draw_set
from uae.cli.startup import quick_start

AGAIN = {
    "judge": (JudgeChoice, "Ask again where the judge gave no answer."),
    "model": (AnswererChoice, "Ask again where the model gave no reply."),
}
"""Whom a benchmark asks: the flags that choose it, and the help of --retry-failed."""

AFTER = "uae compare RUN_A RUN_B"


def add_benchmarks(app: App) -> None:
    """Add the verbs of all benchmarks."""
    for name, benchmark in BENCHMARKS.items():
        types = {"options": benchmark.options, "place": RunChoice}
        if benchmark.asked:
            choice, help_text = AGAIN[benchmark.asked]
            retry = Annotated[bool, SWITCH, Parameter(help=help_text)]
            types = {"chosen": choice, **types, "retry_failed": retry}
        given = Annotated[Path, benchmark.given]
        _add(app, name, partial(_measure, name, benchmark), benchmark, AFTER, types, given)
        if images := benchmark.images:
            out = Annotated[Path, Parameter(help="Folder for the images.")]
            types = {"out": out, "options": images.options, "chosen": DrawingChoice}
            _add(app, f"{name}-images", partial(_draw, images), images, images.after, types)


def _add(
    app: App,
    name: str,
    work: Callable[..., int],
    of: Benchmark[Any] | PromptImages[Any],
    after: str,
    types: dict[str, Any],
    given: Any = None,
) -> None:
    """Add a verb with the help of an object, flags of these types and perhaps an argument."""

    arguments = [Argument("given", Argument.POSITIONAL_ONLY, annotation=given)] if given else []
    arguments += [
        Argument(x, Argument.KEYWORD_ONLY, default=_default(kind), annotation=kind)
        for x, kind in (types | {"talk": Talk}).items()
    ]
    defaults = {x.name: x.default for x in arguments if x.default is not Argument.empty}

    def verb(*arguments: Any, **flags: Any) -> int:
        return work(*arguments, **(defaults | flags))

    verb.__annotations__ = {x.name: x.annotation for x in arguments} | {"return": int}
    verb.__signature__ = Signature(arguments)  # pyright: ignore[reportFunctionMemberAccess]
    app.command(verb, name=name, help=getdoc(of), help_epilogue=f"Next: {after}")


def _default(kind: Any) -> Any:
    """Return the value of flags that may all be left out."""
    if kind is Talk:
        return PLAINLY
    if not isinstance(kind, type):
        return False if kind.__origin__ is bool else Argument.empty
    needed = [x for x in fields(kind) if x.default is MISSING and x.default_factory is MISSING]
    return Argument.empty if needed else kind()


def _measure(
    name: str,
    benchmark: Benchmark[Any],
    given: Path,
    *,
    options: Any,
    place: RunChoice,
    talk: Talk,
    chosen: Any = None,
    retry_failed: bool = False,
) -> int:
    """Plan a run, carry it out, and return the exit code."""
    talk.begin()
    place.check()
    if chosen:
        chosen.check()

    def load() -> Any:
        assert chosen, f"{name} asks nobody"
        with quick_start():
            return chosen.load(place.device, place.out)

    means = Means(place.out, place.device, judge=load, model=load)
    plan = benchmark.plan(given, options, means)
    return carry_out(name, benchmark.unit, plan, place, talk, retry_failed)


def _draw(
    images: PromptImages[Any],
    *,
    out: Path,
    options: Any,
    chosen: DrawingChoice,
    talk: Talk,
) -> int:
    """Draw a benchmark's prompts, and return the exit code."""
    talk.begin()
    check_folder(out, "--out")
    return draw_set(images.read(options), images.after, chosen, out, talk)
