"""Captions and redraws of a run: each is kept as it is done, and only what is missing is made.

Several processes (`uae.core.ranks`) share the batches, which are those of one process.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from PIL import Image

from uae.backends.circuit_breaker import Outages
from uae.backends.failure import Failure
from uae.backends.roles import Caption, Captioner, Written
from uae.benchmarks.unified_bench.budgets import PLAIN, Method, write_within
from uae.benchmarks.unified_bench.task import Task, opened, read_captions
from uae.core.errors import UnfitName
from uae.core.ranks import gathered, once, other_paths, own_path, share
from uae.data.captions import CaptionRow, CaptionsWriter, take_in
from uae.data.folder import NamedImage, write_image
from uae.data.opening import opens

T = TypeVar("T")
Failures = Mapping[str, Mapping[str, Failure]]
"""Why there is no caption or redraw: by variant, then by image."""
Show = Callable[[str, int, int], None]
"""Told (what, done, in all)."""


def batches(
    names: Sequence[str], missing: Collection[str], size: int, *, whole: bool
) -> list[list[str]]:
    """Split the names that are missing into batches.

    Args:
        names: All of them.
        missing: What is to be made.
        size: Names in a batch.
        whole: Keep the batches of all names, and leave out those with nothing missing: the result
            of a batch may depend in its last digits on all that is in it, and a run that was
            stopped is to end as if it had not been.
    """
    chosen = names if whole else list(missing)
    wanted = set(missing)
    parts = [list(chosen[i : i + size]) for i in range(0, len(chosen), size)]
    return [part for part in parts if wanted.intersection(part)]


def _own_batches(
    task: Task, names: Sequence[str], missing: Collection[str], *, whole: bool
) -> Sequence[list[str]]:
    """Return this rank's batches; what is made one by one comes so, and an outage shows at once."""
    return share(batches(names, missing, task.batch_size if whole else 1, whole=whole))


class Once(Generic[T]):
    """Loads a thing at the first call, and returns it at every later one."""

    def __init__(self, load: Callable[[], T]) -> None:
        self._load = load
        self._loaded: T | None = None

    def __call__(self) -> T:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded


# -- captions ---------------------------------------------------------------------------------


def write_captions(task: Task, todo: Sequence[str], show: Show) -> Failures:
    """Write the captions that are missing; return those that failed.

    Without its plain caption an image has none within a budget either; one within a budget that
    fails leaves its point of the curve empty for that image.

    Raises:
        RunFailed: The captioner failed for several images running; what is written stays.
    """
    captioner = Once(task.captioner)
    outages = _outages("captioner", task, has_answered=bool(read_captions(task, PLAIN)))
    failures: dict[str, Mapping[str, Failure]] = {
        PLAIN: _write_plain(task, captioner, todo, show, outages)
    }
    good = [name for name in todo if name not in failures[PLAIN]]
    for method in task.curve.methods:
        failures |= _write_curve(task, captioner, method, good, show, outages)
    return failures


def _write_plain(
    task: Task, captioner: "Once[Captioner]", todo: Sequence[str], show: Show, outages: Outages
) -> dict[str, Failure]:
    failures: dict[str, Failure] = {}
    missing = _missing(task, PLAIN, todo)
    whole = bool(missing) and captioner().in_batches
    with _writer(task.captions_path(PLAIN)) as writer:
        for batch in _own_batches(task, todo, missing, whole=whole):
            items, unreadable = opened(task, batch)
            failures |= unreadable
            captions = captioner().write(items, task.plain) if items else []
            failures |= _append(task, writer, missing, items, captions)
            _count(outages, items, captions)
            show("captions", _place(todo, batch), len(todo))
    return _joined(failures)


def _write_curve(
    task: Task,
    captioner: "Once[Captioner]",
    method: Method,
    names: Sequence[str],
    show: Show,
    outages: Outages,
) -> Failures:
    assert task.tokens is not None, "a curve needs a tokenizer"
    curve, plain = task.curve, read_captions(task, PLAIN)
    lacking = {size: _missing(task, f"{method}-{size}", names) for size in curve.sizes}
    missing = [x for x in names if any(x in lacks for lacks in lacking.values())]
    failures: dict[str, dict[str, Failure]] = {f"{method}-{size}": {} for size in curve.sizes}
    whole = bool(missing) and captioner().in_batches
    with ExitStack() as stack:
        writers = {
            size: stack.enter_context(_writer(task.captions_path(f"{method}-{size}")))
            for size in curve.sizes
        }
        for batch in _own_batches(task, names, missing, whole=whole):
            items, unreadable = opened(task, batch)
            rows = [plain[item.name] for item in items]
            texts = [Written(row.caption, row.is_truncated) for row in rows]
            found = write_within(
                captioner(), items, texts, method, curve.sizes, task.tokens, curve.num_samples
            )
            for budget, captions in found.items():
                num = budget.num_tokens
                failed = _append(task, writers[num], lacking[num], items, captions)
                failed |= {x: why for x, why in unreadable.items() if x in lacking[num]}
                failures[budget.name] |= failed
            _count(outages, items, list(found.values())[-1])  # of each image one
            show(f"captions, {method}", _place(names, batch), len(names))
    return {variant: _joined(found) for variant, found in failures.items()}


def _missing(task: Task, variant: str, names: Sequence[str]) -> Collection[str]:
    """Take captions of a stopped run's ranks into a variant's file; return who has none there."""

    def look() -> dict[str, None]:
        path = task.captions_path(variant)
        take_in(path, other_paths(path))
        found = read_captions(task, variant)
        return {name: None for name in names if name not in found}

    return once(look)


@contextmanager
def _writer(path: Path) -> Iterator[CaptionsWriter]:
    """Open what this rank appends to; at the end of all ranks the file holds what each wrote."""
    with CaptionsWriter(own_path(path)) as writer:
        yield writer
    once(lambda: take_in(path, other_paths(path)))


def _outages(asked: str, task: Task, *, has_answered: bool) -> Outages:
    return Outages(asked, task.out, has_answered=has_answered, again="repeat the command")


def _count(
    outages: Outages, items: Sequence[NamedImage], captions: Sequence[Written | Failure]
) -> None:
    """Take in what became of some images; raises as `Outages.add`."""
    for item, caption in zip(items, captions, strict=True):
        outages.add(item.name, *_said(caption))


def _said(outcome: object) -> tuple[str, str]:
    """Return reason and detail of a failure, and nothing of anything else."""
    return (outcome.reason, outcome.detail) if isinstance(outcome, Failure) else ("", "")


def _joined(failures: dict[str, Failure]) -> dict[str, Failure]:
    """Return the failures of all ranks."""
    return {name: x for part in gathered(failures) for name, x in part.items()}


def _place(names: Sequence[str], batch: Sequence[str]) -> int:
    """Return how many names stand up to the end of a batch."""
    return names.index(batch[-1]) + 1


def _append(
    task: Task,
    writer: CaptionsWriter,
    missing: Collection[str],
    items: Sequence[NamedImage],
    captions: Sequence[Written | Failure],
) -> dict[str, Failure]:
    """Write the captions that are missing, and return the failures."""
    failures = {}
    for item, caption in zip(items, captions, strict=True):
        if item.name not in missing:
            continue
        if isinstance(caption, Failure):
            failures[item.name] = caption
        else:
            writer.append(
                CaptionRow(
                    image=item.name,
                    caption=caption.text,
                    num_tokens=task.tokens.count(caption.text) if task.tokens else None,
                    is_truncated=caption.is_truncated,
                )
            )
    return failures


# -- redraws ----------------------------------------------------------------------------------


def draw_redraws(task: Task, todo: Sequence[str], show: Show) -> Failures:
    """Draw what is missing; return the captions that were not drawn.

    Raises:
        RunFailed: The generator failed several times running; what is drawn stays.
    """
    generator = Once(task.generator)
    outages = _outages("generator", task, has_answered=(task.out / "images").exists())
    failures: dict[str, dict[str, Failure]] = {variant: {} for variant in task.variants}
    for variant in task.variants:
        captions = read_captions(task, variant)
        wanted = [name for name in todo if name in captions]
        missing = _not_drawn(task, variant, wanted)
        whole = bool(missing) and generator().in_batches
        for batch in _own_batches(task, wanted, missing, whole=whole):
            rows = [Caption(name, captions[name].caption) for name in batch]
            for name, drawn in zip(batch, generator().draw(rows), strict=True):
                if name not in missing:
                    continue
                if isinstance(drawn, Failure):
                    failures[variant][name] = drawn
                elif unsaved := save(drawn, task.redraw_path(variant, name)):
                    failures[variant][name] = unsaved
                outages.add(name, *_said(drawn))
            show(f"redraws, {variant}", _place(wanted, batch), len(wanted))
    return {variant: _joined(found) for variant, found in failures.items()}


def both(first: Failures, second: Failures) -> Failures:
    """Return the failures of captions and redraws together."""
    variants = dict.fromkeys([*first, *second])
    return {x: {**first.get(x, {}), **second.get(x, {})} for x in variants}


def _not_drawn(task: Task, variant: str, names: Sequence[str]) -> Collection[str]:
    return once(
        lambda: {name: None for name in names if not opens(task.redraw_path(variant, name))}
    )


def save(image: Image.Image, path: Path) -> Failure | None:
    """Write an image as PNG, or return why its disk takes no file of this name."""
    try:
        write_image(image.convert("RGB"), path)
    except UnfitName as error:
        return Failure("the disk refuses the name of its redraw", str(error))
    return None
