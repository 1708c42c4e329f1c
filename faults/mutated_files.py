"""Fault 10: one byte flipped, or the end cut off, in any file of the newest checkpoint."""

import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch

from faults.trials import Outcome, arguments, quantile, report
from uae.runs.checkpoint import load_latest, save_checkpoint


def make_checkpoints(root: Path) -> Path:
    """Save two checkpoints; return the newer."""
    for step in (1, 2):
        tensors = {f"layer.{i}": torch.randn(16, 16) for i in range(8)}
        folder = save_checkpoint(root, step, tensors, {"step": step, "note": "x" * 50}, keep=2)
    return folder


def mutate(path: Path, chance: random.Random) -> str:
    """Damage a file in one place; say how."""
    data = bytearray(path.read_bytes())
    place = chance.randrange(len(data))
    if chance.random() < 0.25:
        path.write_bytes(data[:place])
        return f"cut to {place} bytes"
    data[place] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    return f"bit flipped in byte {place}"


def main() -> int:
    """Damage a fresh copy per trial."""
    given = arguments(500)
    chance = random.Random(given.seed)
    found, recovery_s = 0, []
    with tempfile.TemporaryDirectory() as temporary:
        original = Path(temporary) / "original"
        original.mkdir()
        newest = make_checkpoints(original).name
        names = sorted(path.name for path in (original / newest).iterdir())
        for trial in range(given.trials):
            root = Path(temporary) / "damaged"
            shutil.copytree(original, root)
            name = names[trial % len(names)]
            mutate(root / newest / name, chance)
            start = time.perf_counter()
            latest = load_latest(root)
            recovery_s.append(time.perf_counter() - start)
            skipped = latest.skipped if latest else ()
            found += bool(
                latest and latest.step == 1 and len(skipped) == 1 and name in skipped[0].reason
            )
            shutil.rmtree(root)
    return report(
        Outcome(
            number=10,
            fault="one byte flipped, or a file cut short",
            how=f"random bit or length, files in turn: {', '.join(names)}",
            trials=given.trials,
            detected=found,
            lost="0; the checkpoint before was used, the damaged file named",
            recovery_p50_s=quantile(recovery_s, 0.5),
            recovery_p95_s=quantile(recovery_s, 0.95),
            passed=found == given.trials,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
