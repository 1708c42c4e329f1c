"""Fault 38: kill -9 of the server that judges, in the middle of a run; then it is back.

What it did not answer must be left out and counted, never scored. Once it is started again, the
run taken up with --retry-failed must end as one without the fault.
"""

import json
import random
import sys
import tempfile
import time
from pathlib import Path

from faults.benchmark_runs import Fill, Whole, begin, fix_revision, left_by, run_whole
from faults.judge_server import JudgeServer
from faults.judged_runs import JUDGED
from faults.trials import Outcome, arguments, quantile, report
from uae.core.errors import EXIT_DONE, EXIT_FAILED
from uae.runs.rows import ITEMS, read_rows

NUM_LAST = 4
"""Steps at the end of a run that are left for the fault to meet."""


def kill_and_retry(
    fill: Fill, out: Path, whole: Whole, server: JudgeServer, chance: random.Random
) -> tuple[bool, float] | None:
    """Kill the judge at a random step, and repeat the run when it is back.

    Returns:
        Whether all went well, and the seconds to the run's end; None if it had all its answers.
    """
    child = begin(fill, out)
    child.await_steps(chance.randint(1, whole.num_steps - NUM_LAST))
    time.sleep(chance.uniform(0, whole.step_s))
    server.kill()
    start = time.perf_counter()
    code = child.end()
    seconds = time.perf_counter() - start
    server.start()
    if left_by(out) == whole.files:
        return None
    is_left_out = code in (EXIT_DONE, EXIT_FAILED) and leaves_out(out / ITEMS, whole)
    code = begin(fill, out, retry_failed=True).end()
    is_mended = code == EXIT_DONE and in_any_order(left_by(out)) == in_any_order(whole.files)
    return is_left_out and is_mended, seconds


def leaves_out(items: Path, whole: Whole) -> bool:
    """Tell if rows were left out for the judge's sake, and all that are scored are right."""
    right = {line["item"]: line for line in map(json.loads, whole.files[ITEMS].splitlines())}
    rows = read_rows(items)
    return any(row.excluded.startswith("judge: ") and row.can_retry for row in rows) and all(
        row.samples == right[row.item]["samples"] for row in rows if row.samples
    )


def in_any_order(files: dict[str, bytes]) -> dict[str, list[bytes]]:
    """Return files as sorted lines: a row that is tried again may come later."""
    return {name: sorted(data.splitlines()) for name, data in files.items()}


def main() -> int:
    """Run the trials, as many of each judged benchmark."""
    fix_revision()
    given = arguments(80)
    chance = random.Random(given.seed)
    found, seconds = 0, []
    with tempfile.TemporaryDirectory() as temporary, JudgeServer() as server:
        root = Path(temporary)
        for name, run in JUDGED.items():
            fill = run(root, server.judge)
            whole = run_whole(fill, root / name)
            for i in range(max(1, given.trials // len(JUDGED))):
                tried = kill_and_retry(fill, root / f"{name}-{i}", whole, server, chance)
                if tried:
                    found += tried[0]
                    seconds.append(tried[1])
    return report(
        Outcome(
            number=38,
            fault="kill -9 of the judge's server",
            how=f"in a run of {', '.join(JUDGED)} at a random step; then started again, and the "
            "run repeated with --retry-failed",
            trials=len(seconds),
            detected=found,
            lost="answers that did not come, left out and counted, none scored; after the retry "
            "rows and scores as uninterrupted",
            recovery_p50_s=quantile(seconds, 0.5),
            recovery_p95_s=quantile(seconds, 0.95),
            passed=found == len(seconds) >= given.trials // 2,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
