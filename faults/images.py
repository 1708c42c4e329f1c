"""Fault 32: decompression bombs, and mutated image files.

A bomb must be refused before a pixel is allocated. Each is opened in a process of its own, so that
the peak memory is its own; a large picture that is allowed is opened likewise, to show that the
measure sees pixels. Seconds are of CPU time, which other work on the machine does not lengthen.
Mutated files are opened in a child under watch: a child that dies is a crash, one that stays on a
file a hang, and either way the trial goes on with the next file.
"""

import io
import logging
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from queue import Empty
from typing import Any

from faults.hostile_images import bombs, gray_jpeg, mutated, seed_files
from faults.trials import Outcome, arguments, quantile, report
from uae.data.folder import open_image
from uae.data.opening import read_image
from uae.data.untrusted.file import UnreadableImage

log = logging.getLogger("faults.images")

MAX_BOMB_S, MAX_BOMB_MIB = 0.05, 50
SLOW_S, HANGS_AFTER_S = 2.0, 10.0
BATCH_SIZE = 5000


@dataclass(slots=True)
class Bombs:
    """Figures of the bombs that were opened."""

    seconds: list[float] = field(default_factory=list)
    largest_mib: float = 0.0
    num_refused: int = 0


@dataclass(slots=True)
class Mutated:
    """Figures of the mutated files that were opened."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    peak_mib: float = 0.0


def try_bombs() -> Bombs:
    """Open every bomb; log those that were not refused as they must be."""
    found = Bombs()
    for name, (expected, data) in bombs().items():
        reason, seconds, mib = _measure(data)
        found.seconds.append(seconds)
        found.largest_mib = max(found.largest_mib, mib)
        if reason == expected and seconds <= MAX_BOMB_S and mib <= MAX_BOMB_MIB:
            found.num_refused += 1
        else:
            log.error("%s: %s after %.3f s and %.0f MiB", name, reason, seconds, mib)
    return found


def _measure(data: bytes) -> tuple[str, float, float]:
    """Open a file in a new process; return the outcome, seconds and additional MiB."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        results, path = spawn.Queue(), Path(folder) / "image.jpg"
        path.write_bytes(data)
        child = spawn.Process(target=_open_measured, args=(path, results))
        child.start()
        outcome = results.get(timeout=120)
        child.join()
    return outcome


def _open_measured(path: Path, results: Any) -> None:
    read_image(io.BytesIO(gray_jpeg(64, 64)), path)  # loads the decoders
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before_mib = _peak_mib()
    start = time.process_time()
    try:
        open_image(path)
        reason = "opened"
    except UnreadableImage as error:
        reason = error.reason.value
    seconds = time.process_time() - start
    results.put((reason, seconds, _peak_mib() - before_mib))


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def try_mutated(num_images: int, seed: int, batch_size: int = BATCH_SIZE) -> Mutated:
    """Open `num_images` mutated files and count what came of them."""
    found, start = Mutated(), 0
    while start < num_images:
        stop = min(start + batch_size, num_images)
        batch, fault, place = _watch(start, stop, seed)
        if batch is None:  # the files of this batch before `place` are opened again
            found.faults.append(f"{place}: {fault}")
            batch, stop = _watch(start, place, seed)[0], place + 1
            assert batch is not None, "a file that was opened once did not open again"
        found.outcomes += batch.outcomes
        found.faults += batch.faults
        found.slowest_s = max(found.slowest_s, batch.slowest_s)
        found.peak_mib = max(found.peak_mib, batch.peak_mib)
        start = stop
    for fault in found.faults:
        log.error("mutated file %s", fault)
    return found


def _watch(start: int, stop: int, seed: int) -> tuple[Mutated | None, str, int]:
    """Open a range of mutated files in a child; return its figures, or its fault and the place."""
    spawn = multiprocessing.get_context("spawn")
    results, position = spawn.Queue(), spawn.Value("q", start)
    child = spawn.Process(target=_open_mutated, args=(start, stop, seed, position, results))
    child.start()
    seen, since = -1, time.perf_counter()
    while True:
        try:
            found = results.get(timeout=0.5)
            child.join()
            return found, "", stop
        except Empty:
            pass
        if position.value != seen:
            seen, since = position.value, time.perf_counter()
        if not child.is_alive() and results.empty():
            return None, f"crash, exit code {child.exitcode}", seen
        if time.perf_counter() - since > HANGS_AFTER_S:
            child.kill()
            child.join()
            return None, "hang", seen


def _open_mutated(
    start: int, stop: int, seed: int, position: "Synchronized[int]", results: Any
) -> None:
    files, found = seed_files(), Mutated()
    for index in range(start, stop):
        position.value = index
        data = mutated(files, index, seed)
        begin = time.perf_counter()
        try:
            read_image(io.BytesIO(data), Path("mutated"))
            found.outcomes["decoded"] += 1
        except UnreadableImage as error:
            found.outcomes[error.reason.value] += 1
        except BaseException as error:  # whatever it is, it is a finding
            found.faults.append(f"{index}: {type(error).__name__}")
        seconds = time.perf_counter() - begin
        if seconds > SLOW_S:
            found.faults.append(f"{index}: {seconds:.1f} s")
        found.slowest_s = max(found.slowest_s, seconds)
    found.peak_mib = _peak_mib()
    results.put(found)


def main() -> int:
    """Open the bombs, then the mutated files."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given = arguments(100_000)
    refused, allowed_mib = try_bombs(), _measure(gray_jpeg(7_000, 7_000))[2]
    opened = try_mutated(given.trials, given.seed)
    num_bombs, num_decoded = len(refused.seconds), opened.outcomes["decoded"]
    log.info("%s", dict(opened.outcomes.most_common()))
    trials = num_bombs + given.trials
    detected = refused.num_refused + given.trials - len(opened.faults)
    lost = (
        f"{len(opened.faults)} crashes, hangs or untyped errors; bombs took at most "
        f"{refused.largest_mib:.0f} MiB (a picture of 49 MP: {allowed_mib:.0f}), mutated files "
        f"{opened.slowest_s:.2f} s; {num_decoded:,} of those decoded"
    )
    return report(
        Outcome(
            number=32,
            fault="image bombs, fuzzed images",
            how=f"{num_bombs} bombs; {given.trials:,} mutated JPEG, PNG and WebP files",
            trials=trials,
            detected=detected,
            lost=lost,
            recovery_p50_s=quantile(refused.seconds, 0.5),
            recovery_p95_s=quantile(refused.seconds, 0.95),
            passed=detected == trials,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
