"""Captions longer than their generator reads: counted by its tokenizer, kept in the run's folder.

They are counted before they are drawn, so a result says of them whatever stops and goes on.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from uae.core.durable import replace_file, storage_faults
from uae.core.errors import UsageError

CUT = "cut_captions.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reader:
    """How much of a caption a generator reads: tokens by its own tokenizer."""

    num_tokens: Callable[[str], int]
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CutCaptions:
    """How many of some captions are longer than what is read of each.

    Attributes:
        captions: Which: a variant of a run's, "prompts", or "data" that is trained on.
        max_tokens: Most tokens that the generator reads; the rest it ignores, or never learned.
        num_cut: Captions with more.
        num_captions: All of them.
    """

    captions: str
    max_tokens: int
    num_cut: int
    num_captions: int

    def __str__(self) -> str:
        return (
            f"{self.num_cut} of {self.num_captions} captions ({self.captions}) have more than the "
            f"{self.max_tokens} tokens that the generator reads"
        )


def count_cut(folder: Path, captions: str, reader: Reader | None, texts: Mapping[str, str]) -> None:
    """Count captions that are too long, say so, and keep the count; texts are by their names."""
    if reader is None:
        return
    long = [name for name, text in texts.items() if reader.num_tokens(text) > reader.max_tokens]
    cut = CutCaptions(
        captions=captions,
        max_tokens=reader.max_tokens,
        num_cut=len(long),
        num_captions=len(texts),
    )
    if long:
        log.warning(
            "%s (first %s): what stands after them is not drawn, or may be ignored", cut, long[0]
        )
    kept = {x.captions: x for x in read_cut(folder)} | {captions: cut}
    with storage_faults("cannot write", folder / CUT):
        rows = [asdict(x) for x in kept.values()]
        replace_file(folder / CUT, (json.dumps(rows, indent=1) + "\n").encode())


def read_cut(folder: Path) -> tuple[CutCaptions, ...]:
    """Return the counts of a folder; none where no limit is known.

    Raises:
        UsageError: The file is damaged.
    """
    try:
        rows = json.loads((folder / CUT).read_text(encoding="utf-8"))
        return tuple(CutCaptions(**row) for row in rows)
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError) as error:
        raise UsageError(f"{folder / CUT} is damaged ({error}): take it away to go on") from error
