"""New folders of models: there whole or not at all, with weights as hard links where that works."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from uae.core.durable import give_usual_rights, storage_faults
from uae.core.errors import UsageError

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give a hidden folder to write in, which becomes `out` at the end, or goes at an error.

    Raises:
        UsageError: `out` is there already.
        EnvironmentFault: The disk refuses.
    """
    if out.exists():
        raise UsageError(f"--out {out} exists already: give a new folder")
    draft = out.with_name(f".{out.name}")
    with storage_faults("cannot write the model in", out):
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        try:
            yield draft
            for path in draft.rglob("*"):
                # the rights of a linked file are those of its other name too
                if path.is_file() and not path.is_symlink() and path.stat().st_nlink == 1:
                    give_usual_rights(path)
            draft.rename(out)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def put(source: Path, target: Path, without: Sequence[str] = ()) -> None:
    """Copy a folder into another, but for files of some patterns; weights are linked."""
    ignore = shutil.ignore_patterns(*without)
    shutil.copytree(source, target, ignore=ignore, copy_function=link, dirs_exist_ok=True)


def link(source: str | Path, target: str | Path) -> None:
    """Give a weights file a second name; any other file, or on another disk, is copied."""
    if Path(source).suffix == ".safetensors":
        try:
            os.link(os.path.realpath(source), target)  # a download is a link by itself
            return
        except OSError:
            pass
    shutil.copyfile(source, target)


def linked_in_words(folder: Path) -> str:
    """Say how many weights files of a folder are second names of others."""
    files = [*folder.rglob("*.safetensors")]
    num_linked = sum(path.stat().st_nlink > 1 for path in files)
    return f"{len(files)} weights files, {num_linked} of them hard links"
