"""The rows of the table in docs/faults.md: all 38 faults, measured or not yet."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "faults.md"
RESULTS = ROOT / "faults" / "results.json"
BEGIN = "<!-- faults:begin, written by `make faults` -->"
END = "<!-- faults:end -->"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `script` is the module in `faults/` that tries it, empty where there is none yet.

    `peer` is what peers do under the same fault; its source is named in the page.
    """

    number: int
    name: str
    peer: str = "no figure known"
    script: str = ""


FAULTS = (
    Fault(1, "same seed twice", "TRL: max abs dw 0.0", "same_seed"),
    Fault(
        2,
        "stop at every step, resume",
        "TRL 4.8e-3 in a reused batch; flow_grpo has no resume",
        "every_stop",
    ),
    Fault(3, "resume inside accumulation or a group"),
    Fault(4, "sample order over world x workers"),
    Fault(5, "save on 4 ranks, resume on 2 and 1"),
    Fault(6, "rollout against training log-probs", script="log_probs"),
    Fault(7, "prefix-shared against repeated prefix"),
    Fault(8, "checkpoints of every shipped format"),
    Fault(
        9,
        "kill -9 in save",
        "in place: torch.save 60 %, DCP 58 % unreadable",
        "kill_in_save",
    ),
    Fault(10, "one byte flipped, or a file cut short", script="mutated_files"),
    Fault(11, "disk full in save"),
    Fault(
        12, "SIGTERM, and a second one", "of five read, handled in verl-omni and UniRL", "sigterm"
    ),
    Fault(13, "SIGINT in rollout, reward, backward, save"),
    Fault(14, "state changed during an asynchronous save"),
    Fault(15, "output folder unusable", script="bad_output"),
    Fault(16, "second run on one folder", script="second_run"),
    Fault(17, "NaN or Inf reward", "flow_grpo: 48 of 48 advantages NaN", "bad_reward"),
    Fault(18, "NaN gradient", script="bad_gradient"),
    Fault(19, "loss spike"),
    Fault(20, "groups without spread", script="no_spread"),
    Fault(21, "out of memory in the sampler"),
    Fault(22, "flipped weight bit on a replica"),
    Fault(23, "truncated shard", "webdataset: 45 and 80 of 300 lost silently"),
    Fault(24, "damaged tar header, half pair, duplicate, checksum"),
    Fault(25, "1 % of images corrupt"),
    Fault(26, "storage errors and time-outs"),
    Fault(27, "kill -9 of a worker"),
    Fault(28, "hung collective"),
    Fault(29, "reward server down", "flow_grpo: up to 1000 retries"),
    Fault(30, "dead data worker, decoder crash"),
    Fault(31, "soak with kills"),
    Fault(32, "image bombs, fuzzed images", "Pillow: 872 MB for a PNG of 21 KB", "images"),
    Fault(
        33, "hostile checkpoints", "safetensors alone: 5 of 5 files in < 0.1 ms", "hostile_files"
    ),
    Fault(
        34,
        "code that runs data (AST gate)",
        "verl-omni: loader state with `weights_only=False`",
        "planted_calls",
    ),
    Fault(35, "hostile tars"),
    Fault(36, "hostile HTTP"),
    Fault(37, "kill -9 in a benchmark run", script="kill_in_benchmark"),
    Fault(38, "kill -9 of the judge's server", script="kill_of_judge"),
)

_COLUMNS = (
    "nr",
    "fault",
    "how injected",
    "trials",
    "detected",
    "data lost",
    "recovery p50 / p95",
    "peers",
    "commit",
)


def read_results() -> dict[str, dict[str, Any]]:
    """Return the last figures of each fault, by its number."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the table in Markdown."""
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|" + "---|" * len(_COLUMNS)]
    lines += ["| " + " | ".join(_cells(f, results.get(str(f.number)))) + " |" for f in FAULTS]
    return "\n".join(lines)


def rewrite_page(results: dict[str, dict[str, Any]]) -> None:
    """Put the table between its markers."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, marker, after = rest.partition(END)
    if not marker:
        raise ValueError(f"{PAGE} lacks the lines {BEGIN!r} and {END!r}")
    PAGE.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{after}")


def _cells(fault: Fault, result: dict[str, Any] | None) -> list[str]:
    if result is None:
        return [str(fault.number), fault.name, "not yet", "", "", "", "", fault.peer, ""]
    detected = f"{result['detected']} ({result['detected'] / result['trials']:.0%})"
    if not result["passed"]:
        detected += " **failed**"
    return [
        str(fault.number),
        fault.name,
        result["how"],
        str(result["trials"]),
        detected,
        result["lost"] if result["passed"] else "more than may be",
        _recovery(result["recovery_p50_s"], result["recovery_p95_s"]),
        fault.peer,
        result["commit"],
    ]


def _recovery(p50_s: float | None, p95_s: float | None) -> str:
    return "-" if p50_s is None or p95_s is None else f"{_seconds(p50_s)} / {_seconds(p95_s)}"


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 0.1 else f"{value * 1e3:.2g} ms"
