"""Captions and redraws of a run: each is kept as it is done, and only what is missing is made.

Several processes (`uae.core.ranks`) share the batches, which are those of one process.
"""

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from PIL import Image

from uae.backends.circuit_breaker import Outages
from uae.backends.failure import Failure
from uae.backends.roles import Caption, Captioner, Generator, Written
from uae.benchmarks.unified_bench.budgets import PLAIN, Method, write_within
from uae.benchmarks.unified_bench.task import Task
from uae.core.errors import UnfitName
from uae.core.ranks import current, gathered, once, own_path, share
from uae.data.captions import CaptionRow, CaptionsWriter, take_in
from uae.data.folder import NamedImage, write_image
from uae.data.opening import open_image, opens
from uae.data.untrusted.file import UnreadableImage
from uae.runs.cut_captions import count_cut

Half = TypeVar("Half", Captioner, Generator)
Failures = dict[str, dict[str, Failure]]
"""Why there is no caption or redraw: by variant, then by image."""
Show = Callable[[str, int, int], None]
"""Told (what, done, in all)."""


def make_missing(task: Task, names: Sequence[str], show: Show) -> Failures:
    """Write the captions and draw the redraws that are missing; return what failed.

    Without its plain caption an image has none within a budget either, and no redraw; one within a
    budget that fails leaves its point of the curve empty for that image.
    """
    failures = _write_captions(task, names, show)
    described = [name for name in names if name not in failures[PLAIN]]
    redraws = _draw_redraws(task, described, show)
    return {variant: failures[variant] | redraws[variant] for variant in task.variants}


class _Maker(Generic[Half]):
    """A half at work: loaded for the first batch that lacks something, stopped by outages."""

    def __init__(
        self, role: str, load: Callable[[], Half], task: Task, show: Show, *, has_answered: bool
    ) -> None:
        self.load = functools.cache(load)
        self.task = task
        self._show = show
        again = "repeat the command"
        self._outages = Outages(role, task.out, has_answered=has_answered, again=again)

    def batches(
        self, what: str, names: Sequence[str], missing: Collection[str]
    ) -> Iterator[list[str]]:
        """Yield this rank's batches of names, and show how far it is after each.

        A half that works in batches gets those of all names, without the ones that lack nothing:
        the result of a batch may depend in its last digits on all that is in it, and a run that was
        stopped is to end as if it had not been. What is made one by one comes so, and an outage
        shows at once.
        """
        batches = [[name] for name in names if name in missing]
        if batches and self.load().in_batches:
            size = self.task.batch_size
            whole = [list(names[i : i + size]) for i in range(0, len(names), size)]
            batches = [batch for batch in whole if any(name in missing for name in batch)]
        for batch in share(batches):
            yield batch
            self._show(what, names.index(batch[-1]) + 1, len(names))

    def count(self, name: str, outcome: object) -> None:
        """Take in what became of an image; raises as `Outages.add`."""
        is_failure = isinstance(outcome, Failure)
        reason, detail = (outcome.reason, outcome.detail) if is_failure else ("", "")
        self._outages.add(name, reason, detail)


def _write_captions(task: Task, names: Sequence[str], show: Show) -> Failures:
    has_answered = bool(task.captions(PLAIN))
    maker = _Maker("captioner", task.captioner, task, show, has_answered=has_answered)
    failures = _write(
        maker,
        "captions",
        names,
        [PLAIN],
        lambda items: {PLAIN: maker.load().write(items, task.plain)},
    )
    described = [name for name in names if name not in failures[PLAIN]]
    for method in task.curve.methods:
        failures |= _write_curve(maker, method, described)
    return failures


def _write_curve(maker: _Maker[Captioner], method: Method, names: Sequence[str]) -> Failures:
    curve, tokens = maker.task.curve, maker.task.tokens
    assert tokens is not None, "a curve needs a tokenizer"
    rows = maker.task.captions(PLAIN)

    def within(items: Sequence[NamedImage]) -> Mapping[str, Sequence[Written | Failure]]:
        plain = [Written(x.caption, x.is_truncated) for x in (rows[item.name] for item in items)]
        return write_within(maker.load(), items, plain, method, curve, tokens)

    variants = list(curve.variants(method).values())
    return _write(maker, f"captions, {method}", names, variants, within)


def _write(
    maker: _Maker[Captioner],
    what: str,
    names: Sequence[str],
    variants: Sequence[str],
    make: Callable[[Sequence[NamedImage]], Mapping[str, Sequence[Written | Failure]]],
) -> Failures:
    """Write variants of captions that are made together, those that are missing."""
    task = maker.task
    lacking = {variant: _not_written(task, variant, names) for variant in variants}
    missing = {name for lacks in lacking.values() for name in lacks}
    failures: Failures = {variant: {} for variant in variants}
    with ExitStack() as stack:
        writers = {x: stack.enter_context(_writer(task.captions_path(x))) for x in variants}
        for batch in maker.batches(what, names, missing):
            items, unreadable = _opened(task, batch)
            captions = make(items) if items else dict.fromkeys(variants, ())
            by_name = {
                x: dict(zip((item.name for item in items), captions[x], strict=True))
                for x in variants
            }
            for variant, outcomes in by_name.items():
                for name, outcome in (unreadable | outcomes).items():
                    if name not in lacking[variant]:
                        continue
                    if isinstance(outcome, Failure):
                        failures[variant][name] = outcome
                    else:
                        writers[variant].append(_row(task, name, outcome))
            for name, outcome in by_name[variants[-1]].items():  # of each image one
                maker.count(name, outcome)
    return {variant: _of_all_ranks(of) for variant, of in failures.items()}


def _row(task: Task, name: str, caption: Written) -> CaptionRow:
    num_tokens = task.tokens.count(caption.text) if task.tokens else None
    return CaptionRow(
        image=name, caption=caption.text, num_tokens=num_tokens, is_truncated=caption.is_truncated
    )


def _opened(task: Task, names: Sequence[str]) -> tuple[list[NamedImage], dict[str, Failure]]:
    """Open images; those that do not open are failures."""
    items, failures = [], {}
    for name in names:
        try:
            items.append(NamedImage(name, open_image(task.images[name])))
        except UnreadableImage as error:
            failures[name] = Failure("unreadable image", str(error))
    return items, failures


def _not_written(task: Task, variant: str, names: Sequence[str]) -> Collection[str]:
    """Take captions of a stopped run's ranks into a variant's file; return who has none there."""

    def look() -> set[str]:
        path = task.captions_path(variant)
        take_in(path)
        return set(names) - task.captions(variant).keys()

    return once(look)


@contextmanager
def _writer(path: Path) -> Iterator[CaptionsWriter]:
    """Open what this rank appends to; at the end of all ranks the file holds what each wrote."""
    with CaptionsWriter(own_path(path)) as writer:
        yield writer
    once(lambda: take_in(path))


def _of_all_ranks(failures: dict[str, Failure]) -> dict[str, Failure]:
    return {name: x for part in gathered(failures) for name, x in part.items()}


def _draw_redraws(task: Task, names: Sequence[str], show: Show) -> Failures:
    has_answered = (task.out / "images").exists()
    maker = _Maker("generator", task.generator, task, show, has_answered=has_answered)
    return {variant: _draw(maker, variant, names) for variant in task.variants}


def _draw(maker: _Maker[Generator], variant: str, names: Sequence[str]) -> dict[str, Failure]:
    """Draw the captions of a variant whose redraw is missing."""
    task, failures = maker.task, {}
    captions = task.captions(variant)
    wanted = [name for name in names if name in captions]
    missing = once(lambda: {x for x in wanted if not opens(task.redraw_path(variant, x))})
    if missing and current().is_first:
        texts = {name: captions[name].caption for name in wanted}
        count_cut(task.out, variant, maker.load().reader, texts)
    for batch in maker.batches(f"redraws, {variant}", wanted, missing):
        rows = [Caption(name, captions[name].caption) for name in batch]
        for name, drawn in zip(batch, maker.load().draw(rows), strict=True):
            if name not in missing:
                continue
            if isinstance(drawn, Failure):
                failures[name] = drawn
            elif unsaved := save(drawn, task.redraw_path(variant, name)):
                failures[name] = unsaved
            maker.count(name, drawn)
    return _of_all_ranks(failures)


def save(image: Image.Image, path: Path) -> Failure | None:
    """Write an image as PNG, or return why its disk takes no file of this name."""
    try:
        write_image(image.convert("RGB"), path)
    except UnfitName as error:
        return Failure("the disk refuses the name of its redraw", str(error))
    return None
