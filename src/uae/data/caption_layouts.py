"""Layouts of caption files in a folder of images, recognised by their names alone.

Tables have a row for each image; sidecars lie beside their image and hold its caption. The first of
these goes before the others where an image has several:

    captions.jsonl                     as `uae caption` writes it
    metadata.jsonl, .csv, .parquet     `datasets` ImageFolder
    metadata.json, meta_lat.json ...   kohya's sd-scripts
    IMAGE.caption                      kohya's sentences; its .txt are then tags
    IMAGE.txt                          kohya, OneTrainer, SimpleTuner

A table nearer to the image goes before one of the same name in a folder above. A sidecar's name is
that of the image with its suffix replaced, or, which goes first, with another one appended:
`img.txt` or `img.jpg.txt` for `img.jpg`, in capitals or not.
"""

import posixpath
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

CAPTIONS_NAME = "captions.jsonl"
"""Name of our own table beside a folder's images."""
METADATA_NAME = "metadata.jsonl"
"""Name of the table that `datasets` reads."""
SIDECARS = (".caption", ".txt")
"""Suffixes of sidecars; the first goes before the second."""

_TABLES = (
    CAPTIONS_NAME,
    METADATA_NAME,
    "metadata.csv",
    "metadata.parquet",
    "metadata.json",
    "meta_lat.json",
    "meta_clean.json",
    "meta_cap_dd.json",
    "meta_cap.json",
)


def loose(path: str) -> str:
    """Return a spelling that is the same for names of one file: composed, its suffix small."""
    plain = unicodedata.normalize("NFC", path)
    stem, suffix = split(plain)
    return stem + suffix.lower()


def split(path: str) -> tuple[str, str]:
    """Split a path with "/" into what stands before its suffix, and the suffix."""
    dot = path.rfind(".")  # pathlib takes ten times as long, which large folders feel
    if dot <= path.rfind("/") + 1 or dot == len(path) - 1:
        return path, ""
    return path[:dot], path[dot:]


def tables(files: Iterable[str]) -> list[str]:
    """Return the tables among a folder's files, what goes first first."""

    def place(file: str) -> tuple[int, int, str]:
        return _TABLES.index(posixpath.basename(file)), -file.count("/"), file

    return sorted((file for file in files if posixpath.basename(file) in _TABLES), key=place)


def sidecars(names: Sequence[str], files: Iterable[str]) -> Mapping[str, list[str]]:
    """Return the sidecars of each image that has one, what goes first first.

    Args:
        names: The images of a folder.
        files: Its other files.
    """
    whole: dict[str, list[str]] = {}
    stems: dict[str, list[str]] = {}
    for name in names:
        spelled = loose(name)
        whole.setdefault(spelled, []).append(name)
        stems.setdefault(split(spelled)[0], []).append(name)
    ranked: dict[str, list[tuple[int, int, str]]] = {}
    for file in files:
        path, suffix = split(loose(file))
        if suffix in SIDECARS:
            for kind, fitting in enumerate((whole.get(loose(path), ()), stems.get(path, ()))):
                for name in fitting:
                    ranked.setdefault(name, []).append((SIDECARS.index(suffix), kind, file))
    return {name: [file for *_, file in sorted(places)] for name, places in ranked.items()}
