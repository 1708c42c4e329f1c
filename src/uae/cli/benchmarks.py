"""`uae eval NAME` and `uae eval NAME-images`: made from the benchmarks of the table."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from uae.benchmarks.benchmark import Benchmark, Means, PromptImages
from uae.benchmarks.table import BENCHMARKS
from uae.cli.judge_choice import JudgeChoice
from uae.cli.options import RunChoice, carry_out, check_folder
from uae.cli.output import PLAINLY, SWITCH, Talk
from uae.cli.prompt_drawing import DrawingChoice, begin, draw, finish
from uae.cli.startup import quick_start
from uae.core.ranks import once

if TYPE_CHECKING:
    from uae.backends.judge import Judge

RetryFailed = Annotated[bool, SWITCH, Parameter(help="Ask again where the judge gave no answer.")]
OutFolder = Annotated[Path, Parameter(help="Folder for the images.")]

AFTER = "uae compare RUN_A RUN_B"
UAE_TINY = DrawingChoice()


def add_benchmarks(app: App) -> None:
    """Add the verbs of all benchmarks."""
    for name, benchmark in BENCHMARKS.items():
        verb = _judged_verb(name, benchmark) if benchmark.is_judged else _verb(name, benchmark)
        _add(app, name, verb, benchmark, AFTER, given=Annotated[Path, benchmark.given])
        if images := benchmark.images:
            _add(app, f"{name}-images", _drawing_verb(images), images, images.after)


def _add(
    app: App,
    name: str,
    verb: Callable[..., int],
    of: Benchmark[Any] | PromptImages[Any],
    after: str,
    **types: Any,
) -> None:
    """Add a verb whose flags and help are those of an object."""
    can_lack = all(_is_optional(field) for field in fields(of.options))
    types["options"] = of.options
    defaults = {"options": of.options() if can_lack else inspect.Parameter.empty}
    signature = inspect.signature(verb)
    parameters = [
        x.replace(
            annotation=types.get(x.name, x.annotation), default=defaults.get(x.name, x.default)
        )
        for x in signature.parameters.values()
    ]
    verb.__annotations__ |= types
    verb.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore[reportFunctionMemberAccess]
    app.command(verb, name=name, help=inspect.getdoc(of), help_epilogue=f"Next: {after}")


def _is_optional(field: Field[Any]) -> bool:
    """Whether a flag may be left out."""
    return field.default is not MISSING or field.default_factory is not MISSING


def _verb(name: str, benchmark: Benchmark[Any]) -> Callable[..., int]:
    def verb(given: Path, /, *, options: Any = None, place: RunChoice, talk: Talk = PLAINLY) -> int:
        return _measure(name, benchmark, given, options, place, talk)

    return verb


def _judged_verb(name: str, benchmark: Benchmark[Any]) -> Callable[..., int]:
    def verb(
        given: Path,
        /,
        *,
        options: Any = None,
        chosen: JudgeChoice,
        place: RunChoice,
        retry_failed: RetryFailed = False,
        talk: Talk = PLAINLY,
    ) -> int:
        return _measure(name, benchmark, given, options, place, talk, chosen, retry_failed)

    return verb


def _measure(
    name: str,
    benchmark: Benchmark[Any],
    given: Path,
    options: Any,
    place: RunChoice,
    talk: Talk,
    chosen: JudgeChoice | None = None,
    retry_failed: bool = False,
) -> int:
    """Plan a run, carry it out, and return the exit code."""
    talk.begin()
    place.check()
    if chosen:
        chosen.check()

    def judge() -> "Judge":
        assert chosen, f"{name} has no judge"
        with quick_start():
            return chosen.load(place.device, place.out)

    plan = benchmark.plan(
        given, options or benchmark.options(), Means(place.out, place.device, judge)
    )
    return carry_out(name, benchmark.unit, plan, place, talk, retry_failed)


def _drawing_verb(images: PromptImages[Any]) -> Callable[..., int]:
    def verb(
        *,
        out: OutFolder,
        options: Any = None,
        chosen: DrawingChoice = UAE_TINY,
        talk: Talk = PLAINLY,
    ) -> int:
        talk.begin()
        check_folder(out, "--out")
        prompts = images.read(options or images.options())
        drawing = begin(chosen, out, prompts.name, prompts.sha256, lambda: prompts.prepare(out))
        counts = draw(drawing, prompts.pictures(out), talk)
        return finish(images.after, drawing, once(lambda: prompts.table(out)), counts, talk)

    return verb
