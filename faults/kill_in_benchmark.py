"""Fault 37: kill -9 at random moments of a benchmark run, ten times over, then a run to the end.

Every benchmark with rows of its own: by a tiny detector, by a tiny model of ours, by a judge in the
process, and by a judge behind an address that outlives the kills. A moment is a number of steps
from the first on, of those that an uninterrupted run takes, and a part of the next. A kill inside
the writing of a row or a redraw is too short to be met by chance, so that half of the kills also
cut short what was written last.
"""

import logging
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from faults.benchmark_runs import Fill, Whole, begin, fix_revision, left_by, run_whole
from faults.judge_server import JudgeServer
from faults.judged_runs import JUDGED, FixedJudge
from faults.model_runs import model_runs
from faults.trials import Outcome, arguments, quantile, report

log = logging.getLogger("faults.kill_in_benchmark")

NUM_KILLS = 10  # of one run
ADDRESSED = ("geneval-pp", "caption-duel")
"""Judged over HTTP, in words; the others by probabilities, in the process."""


@dataclass(slots=True)
class Kills:
    """Kills that met a run at work: whether it ended as uninterrupted, and its seconds to work."""

    num_survived: int = 0
    seconds: list[float] = field(default_factory=list)


def benchmarks(root: Path, server: JudgeServer) -> dict[str, Fill]:
    """Load all benchmarks."""
    judged = {
        name: run(root, server.judge if name in ADDRESSED else FixedJudge())
        for name, run in JUDGED.items()
    }
    return model_runs(root) | judged


def kill_and_end(
    fill: Fill, out: Path, whole: Whole, num_kills: int, chance: random.Random
) -> Kills:
    """Kill a run several times, spread over its steps; let it end, and compare all it leaves."""
    kills, num_left = Kills(), whole.num_steps
    for k in range(num_kills):
        child, start = begin(fill, out), time.perf_counter()
        num_steps = child.await_steps(1)
        seconds = time.perf_counter() - start
        num_steps += child.await_steps(
            chance.randrange(max(1, 2 * num_left // (num_kills - k + 1)))
        )
        time.sleep(chance.uniform(0, whole.step_s))
        if not child.kill():
            break  # it had ended
        kills.seconds.append(seconds)
        num_left -= num_steps
        if chance.random() < 0.5:
            tear(out, chance)
    code, left = begin(fill, out).end(), left_by(out)
    others = [name for name in left | whole.files if left.get(name) != whole.files.get(name)]
    if code or others:
        log.error("%s: exit code %d; differs in %s", out.name, code, ", ".join(others))
    else:
        kills.num_survived = len(kills.seconds)
    return kills


def tear(out: Path, chance: random.Random) -> None:
    """Cut short the row or redraw that was written last, as a kill in its writing leaves it."""
    written = [path for path in out.rglob("*") if path.suffix in (".jsonl", ".png")]
    last = max(written, key=lambda path: path.stat().st_mtime_ns)
    data = last.read_bytes()
    begins = data.rfind(b"\n", 0, -1) + 1 if last.suffix == ".jsonl" else 0
    if data:
        last.write_bytes(data[: chance.randrange(begins, len(data))])


def main() -> int:
    """Run the trials: about `trials` kills in all, as many of each benchmark."""
    fix_revision()
    given = arguments(400)
    chance = random.Random(given.seed)
    found, seconds = 0, []
    with tempfile.TemporaryDirectory() as temporary, JudgeServer() as server:
        root = Path(temporary)
        fills = benchmarks(root, server)
        each = max(1, given.trials // len(fills))
        num_kills = min(NUM_KILLS, each)
        for name, fill in fills.items():
            whole = run_whole(fill, root / name)
            for i in range(each // num_kills):
                kills = kill_and_end(fill, root / f"{name}-{i}", whole, num_kills, chance)
                found += kills.num_survived
                seconds += kills.seconds
    return report(
        Outcome(
            number=37,
            fault="kill -9 in a benchmark run",
            how=f"SIGKILL {num_kills} times in a run of {', '.join(fills)} by tiny models and "
            "fixed judges, half of the times with the row or redraw in work cut short",
            trials=len(seconds),
            detected=found,
            lost="at most what was in work, or the row or redraw cut short; rows, scores, captions "
            "and redraws byte for byte as uninterrupted",
            recovery_p50_s=quantile(seconds, 0.5),
            recovery_p95_s=quantile(seconds, 0.95),
            passed=found == len(seconds) >= given.trials // 2,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
