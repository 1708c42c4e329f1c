"""Fault 16: a second run on a folder in use; and the folder of a run that was killed."""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from faults.trials import Outcome, arguments, fork, quantile, report, wait
from uae.core.errors import UsageError
from uae.runs.run import Run


def hold(folder: Path, pipe: int) -> int:
    """Keep a run open until killed."""
    with Run.open(folder, {"seed": 0}):
        os.write(pipe, b"o")
        time.sleep(600)
    return 0


def refused(folder: Path, holder: int) -> bool:
    """Try to open a run that another process holds; it must be refused by name."""
    before = sorted(path.name for path in folder.iterdir())
    try:
        Run.open(folder, {"seed": 0}).__exit__()
    except UsageError as error:
        after = sorted(path.name for path in folder.iterdir())
        return f"process {holder} on" in str(error) and before == after
    return False


def opens(folder: Path) -> bool:
    """Tell whether a run can be opened."""
    try:
        Run.open(folder, {"seed": 0}).__exit__()
    except UsageError:
        return False
    return True


def main() -> int:
    """Per trial: hold, be refused, kill the holder, be let in."""
    given = arguments(50)
    found, seconds = 0, []
    with tempfile.TemporaryDirectory() as temporary:
        for trial in range(given.trials):
            folder = Path(temporary) / f"run-{trial % 5}"
            reader, writer = os.pipe()
            holder = fork(lambda folder=folder, writer=writer: hold(folder, writer))
            os.close(writer)
            os.read(reader, 1)
            os.close(reader)
            start = time.perf_counter()
            good = refused(folder, holder)
            seconds.append(time.perf_counter() - start)
            os.kill(holder, signal.SIGKILL)
            wait(holder)
            found += good and opens(folder)
    return report(
        Outcome(
            number=16,
            fault="second run on one folder",
            how="a run opened while another process holds it; then the holder is killed",
            trials=given.trials,
            detected=found,
            lost="0 files changed; after the kill the folder opens at once",
            recovery_p50_s=quantile(seconds, 0.5),
            recovery_p95_s=quantile(seconds, 0.95),
            passed=found == given.trials,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
