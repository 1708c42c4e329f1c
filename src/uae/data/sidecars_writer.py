"""Captions as text files beside images, kept with a record of what was written.

The record is a captions file (`captions_file`). A row is appended before its sidecar is written, so
whatever stopped a job is mended by the next. A file that does not hold just what its row says was
written, or changed, by somebody else: it stays, and its image is left out.
"""

import errno
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

from uae.core.durable import replace_file, storage_faults
from uae.data.caption_layouts import sidecars, split
from uae.data.captions import CaptionRow, CaptionsWriter, read_rows

RECORD_NAME = ".captions.jsonl"
"""Name of the record among the images; hidden, so that sidecars changed by hand go before it."""
SUFFIX = ".txt"


class SidecarsWriter:
    """Writes `IMAGE.txt`; where images differ in their suffix alone, `IMAGE.SUFFIX.txt`.

    with SidecarsWriter(path, images) as captions:
        for name in captions.missing(images):
            captions.append(CaptionRow(image=name, ...))
    """

    def __init__(self, record: Path, images: Mapping[str, Path]) -> None:
        """Open or create the record.

        Args:
            record: Captions file of what was written.
            images: Path of each image by its name.

        Raises:
            UsageError: Another process is writing to the record, or a line of it is wrong.
        """
        self._images = images
        self._beside = _beside(images)
        stems = Counter(split(name)[0] for name in images)
        self._shared = {stem for stem, count in stems.items() if count > 1}
        self._record = CaptionsWriter(record)
        self.left_out: dict[str, tuple[str, str]] = {}
        """Images without a sidecar of ours: the reason in words that many share, and its own."""

    def missing(self, images: Iterable[str]) -> list[str]:
        """Return those of `images` that need a caption, and write sidecars that a stop held up."""
        captions = {row.image: row.caption for row in read_rows(self._record.path)}
        todo = []
        for name in images:
            foreign = [x for x in self._beside.get(name, ()) if not self._is_own(x, name, captions)]
            if foreign:
                self._leave_out(name, f"{foreign[0].name} is not as this command writes it")
            elif name in captions:
                self._write(name, captions[name])
            else:
                todo.append(name)
        return todo

    def append(self, row: CaptionRow) -> None:
        """Keep a row, then write its sidecar.

        Raises:
            EnvironmentFault: One cannot be written; names it.
        """
        self._record.append(row)
        self._write(row.image, row.caption)

    def _place(self, name: str) -> Path:
        image = self._images[name]
        if split(name)[0] in self._shared:
            return image.with_name(image.name + SUFFIX)
        return image.with_name(split(image.name)[0] + SUFFIX)

    def _is_own(self, sidecar: Path, name: str, captions: Mapping[str, str]) -> bool:
        return name in captions and sidecar.read_bytes() == _content(captions[name])

    def _write(self, name: str, caption: str) -> None:
        path = self._place(name)
        with storage_faults("cannot write", path):
            try:
                if not path.exists():
                    replace_file(path, _content(caption))
                elif path.read_bytes() != _content(caption):
                    self._leave_out(name, f"{path.name} was written meanwhile")
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                self.left_out[name] = ("name too long", f"for {path.name} beside it")

    def _leave_out(self, name: str, detail: str) -> None:
        self.left_out[name] = ("has a caption file", detail)

    def __enter__(self) -> "SidecarsWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._record.__exit__(kind, error, traceback)


def _content(caption: str) -> bytes:
    return f"{caption}\n".encode()


def _beside(images: Mapping[str, Path]) -> dict[str, list[Path]]:
    """Return the sidecars of all kinds that images have, by image."""
    by_folder: dict[Path, dict[str, str]] = {}
    for name, path in images.items():
        by_folder.setdefault(path.parent, {})[path.name] = name
    found = {}
    for folder, names in by_folder.items():
        for file, beside in sidecars(list(names), os.listdir(folder)).items():
            found[names[file]] = [folder / sidecar for sidecar in beside]
    return found
