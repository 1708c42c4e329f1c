"""Parameters that an address refused in a run: kept in its folder, so that its result says so.

A refusal is written down before the request goes out without the parameter. So no row comes of a
request whose refusal a stopped run has forgotten.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from uae.backends.client import Refusal
from uae.core.durable import storage_faults
from uae.core.errors import UsageError
from uae.core.journal import read_journal, write_journal
from uae.core.ranks import other_paths, own_path

REFUSALS = "refused.jsonl"


def keeper(folder: Path) -> Callable[[Refusal], None]:
    """Return what writes a refusal into a folder, which is there by then.

    Raises:
        EnvironmentFault: When called: it cannot be written.
    """

    def keep(refusal: Refusal) -> None:
        path = own_path(folder / REFUSALS)
        with storage_faults("cannot write", path):
            _write(path, {*_read([path]), refusal})

    return keep


def read_refusals(folder: Path) -> tuple[Refusal, ...]:
    """Return what was refused in a run, by all of its ranks, sorted.

    Raises:
        UsageError: A file is damaged.
    """
    return _sorted(_read([folder / REFUSALS, *other_paths(folder / REFUSALS)]))


def gather_refusals(folder: Path) -> tuple[Refusal, ...]:
    """Take what other ranks kept into the one file of the folder, and return all."""
    found, others = read_refusals(folder), other_paths(folder / REFUSALS)
    if others:
        _write(folder / REFUSALS, found)
        for path in others:
            path.unlink()
    return found


def forget_refusals(folder: Path) -> None:
    """Take them away: the folder becomes another run's."""
    for path in (folder / REFUSALS, *other_paths(folder / REFUSALS)):
        path.unlink(missing_ok=True)


def _read(paths: Iterable[Path]) -> set[Refusal]:
    return {refusal for path in paths if path.exists() for refusal in _read_one(path)}


def _read_one(path: Path) -> list[Refusal]:
    try:
        return read_journal(path, lambda values, _where: Refusal(**values))
    except (UsageError, TypeError) as error:
        raise UsageError(
            f"{path} is damaged ({error}): take it away to go on; what the address refused before "
            "is not told then"
        ) from error


def _write(path: Path, refusals: Iterable[Refusal]) -> None:
    write_journal(path, map(asdict, _sorted(refusals)))


def _sorted(refusals: Iterable[Refusal]) -> tuple[Refusal, ...]:
    return tuple(sorted(refusals, key=lambda x: (x.base_url, x.model, x.param)))
