"""Questions of a run: a file that is read whole before the first one is put."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from uae.benchmarks.answers import RULES
from uae.benchmarks.mmt_bench.benchmark import MmtOptions
from uae.benchmarks.results.notes import gaps_option, part_option
from uae.core.errors import UsageError
from uae.core.identity import file_digest, text_digest
from uae.core.provenance import BenchSettings, ModelStamp
from uae.core.ranks import current, gathered
from uae.data.questions import QuestionRow, decode_images, read_tsv, refuse
from uae.data.untrusted.file import UnreadableImage
from uae.report.format import listed

BENCHMARK, TEXT_BENCHMARK = "mmt-bench", "text-questions"
VAL, NUM_VAL = "VAL", 3127
"""The published split with answers, and its size."""
UNREADABLE = "questions without a readable image"

_MAX_LISTED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class MmtTask:
    """Questions that a run asks, of a file.

    Attributes:
        items: Their names, in the order of the file.
        num_val: Those of split VAL; 0 of text alone.
        faults: Why images do not decode, by the question's name.
        digests: sha256 of each question with its images, by its name.
    """

    tsv: Path
    options: MmtOptions
    items: tuple[str, ...]
    num_val: int = 0
    faults: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str | None] = field(default_factory=dict)

    @classmethod
    def read(cls, tsv: Path, options: MmtOptions | None = None) -> "MmtTask":
        """Read all rows that will be asked and decode their images, of which none is kept.

        Of several processes each decodes a share.

        Raises:
            UsageError: The file is wrong, or has no rows; or an image does not decode, and that is
                not allowed. Names the file, and line and column of all wrong rows, or the rows.
        """
        options, ranks = options or MmtOptions(), current()
        digests: dict[str, str | None] = {}
        faults: dict[str, str] = {}
        num_val = 0
        wrong: list[UsageError] = []
        for row in _rows(tsv, options, wrong.append):
            if not options.text_only:
                num_val += row.split == VAL
                if len(digests) % ranks.size == ranks.rank and (fault := _fault(row)):
                    faults[str(row.index)] = fault
            digests[str(row.index)] = text_digest(repr(replace(row, where="")))
        _check_rows(tsv, wrong)
        if not digests:
            raise UsageError(f"{tsv} has no rows below its first line: expected one per question")
        of_all = {name: fault for part in gathered(faults) for name, fault in part.items()}
        in_order = {name: of_all[name] for name in digests if name in of_all}
        if in_order and not options.allow_missing:
            named = {UNREADABLE: [f"index {name}: {fault}" for name, fault in in_order.items()]}
            raise UsageError(
                f"{tsv}: not all of {len(digests)} questions can be asked:\n{listed(named)}\n"
                "Repair them; or give --allow-missing, and the result will be marked"
            )
        return cls(
            tsv=tsv,
            options=options,
            items=tuple(digests),
            num_val=num_val,
            faults=in_order,
            digests=digests,
        )

    def rows(self) -> Iterator[QuestionRow]:
        """Read the questions again, one by one, images still encoded."""
        return _rows(self.tsv, self.options)

    @property
    def digest(self) -> str:
        return file_digest(self.tsv)

    @property
    def gaps(self) -> Mapping[str, Sequence[str]]:
        """What the file lacks: names by what is amiss, as `gaps_option` takes them."""
        return {UNREADABLE: list(self.faults)} if self.faults else {}

    def settings(self, stamp: ModelStamp) -> BenchSettings:
        part = part_option(self.num_val, NUM_VAL, f"questions of {VAL}") if self.num_val else {}
        return BenchSettings(
            benchmark=TEXT_BENCHMARK if self.options.text_only else BENCHMARK,
            version=RULES,
            model=stamp,
            data={"tsv": self.digest},
            options={
                "prompt": self.options.prompt,
                "limit": self.options.limit,
                "likelihood": self.options.likelihood,
                "hidden_answers": self.options.hidden_answers,
                **part,
                **gaps_option(self.gaps),
            },
            inputs={"question": self.digests},
        )


def _check_rows(tsv: Path, wrong: Sequence[UsageError]) -> None:
    """Raise one error of all."""
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        lines = [f"  {str(error).removeprefix(f'{tsv}, ')}" for error in wrong[:_MAX_LISTED]]
        more = len(wrong) - len(lines)
        lines += [f"  ... and {more} more"] if more else []
        raise UsageError("\n".join([f"{tsv}: {len(wrong)} rows are wrong:", *lines]))


def _rows(
    tsv: Path, options: MmtOptions, note: Callable[[UsageError], None] = refuse
) -> Iterator[QuestionRow]:
    return read_tsv(
        tsv,
        hidden_answers=options.hidden_answers,
        text_only=options.text_only,
        limit=options.limit,
        note=note,
    )


def _fault(row: QuestionRow) -> str:
    try:
        decode_images(row)
    except UnreadableImage as error:
        return f"{error.reason}: {error.detail}"
    return ""
