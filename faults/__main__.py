"""Run the full trials and rewrite the table of docs/faults.md.

python -m faults                       # all
python -m faults sigterm second_run    # some; the other rows keep their figures
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import time

from faults.table import FAULTS, RESULTS, ROOT, read_results, rewrite_page
from uae.core.environment import source_revision

log = logging.getLogger("faults")


def run(script: str) -> dict[str, object] | None:
    """Run one script; return what it printed, or None if it crashed."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", f"faults.{script}"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - start
    if not done.stdout.strip():
        log.error("%s crashed after %.0f s:\n%s", script, seconds, done.stderr[-2000:])
        return None
    log.info("%s (%.0f s): %s", script, seconds, done.stdout.strip())
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    """Run what was asked for; return 1 if a fault did more harm than it may."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    scripts = [fault.script for fault in FAULTS if fault.script]
    parser = argparse.ArgumentParser(prog="python -m faults")
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help=", ".join(scripts))
    chosen = parser.parse_args().scripts or scripts
    for script in chosen:
        if script not in scripts:
            parser.error(f"{script!r} is none of {', '.join(scripts)}")
    commit = source_revision(ROOT)
    shown = commit[:10] + ("+" if commit.endswith("+") else "") if commit else "none"
    results = read_results()
    failed = False
    for script in chosen:
        result = run(script)
        failed = failed or result is None or not result["passed"]
        if result:
            results[str(result["number"])] = result | {"commit": shown}
    ordered = dict(sorted(results.items(), key=lambda item: int(item[0])))
    RESULTS.write_text(json.dumps(ordered, indent=1) + "\n")
    rewrite_page(results)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
