"""Record the trajectories, or compare those of this code with the recorded ones.

    python -m tests.trajectories check [NAME ...]     ends with 1 where a number differs
    python -m tests.trajectories record [NAME ...]    a change of numbers, to be said in its commit

Numbers are equal bit for bit on one kind of processor with one version of torch; `recorded.json`
says on which it was made.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import yaml

RECORDED = Path(__file__).with_name("recorded.json")
LOGGED = ("loss/", "reward/", "group/", "policy/", "kl/", "optim/", "caption/num_tokens")
"""Metrics that are kept, by a part of their name; times and memory are not."""
EVALUATION = {"num_scenes": 2, "num_questions": 1, "prompts_per_category": 1, "num_shown": 2}
CAPTIONS = {"num_captions": 3, "max_new_tokens": 48}
ENCODER = {
    "num_steps": 10,
    "num_images": 2,
    "micro_images": 1,
    "captioning": CAPTIONS,
    "sampling": {"num_steps": 2},
    "optimizer": {"lr": 1.0e-3},
}
DECODER = {
    "num_steps": 10,
    "num_images": 2,
    "micro_images": 1,
    "captioning": {"num_captions": 1, "max_new_tokens": 48},
    "num_redraws": 3,
    "num_sampling_steps": 4,
}
AWM = {"objective": {"name": "awm"}, "kl_beta": 1.0}
FLOW_GRPO = {"objective": {"name": "flow_grpo", "window": 2, "window_starts": 2}}
CPS = {"objective": FLOW_GRPO["objective"] | {"rule": "cps"}, "num_updates": 2}
SUPERVISED = {"num_steps": 10, "batch_size": 4, "micro_batch": 2}
RECIPES = {
    "pretrain": {"pretrain": SUPERVISED},
    "cold_start": {
        "cold_start": SUPERVISED
        | {"captioning": CAPTIONS | {"num_captions": 1}, "sampling": {"num_steps": 2}}
    },
    "encoder": {"schedule": "encoder", "encoder_rl": ENCODER},
    "encoder_kl": {"schedule": "encoder", "encoder_rl": ENCODER | {"kl_beta": 1.0}},
    "decoder_flow_grpo": {"schedule": "decoder", "decoder_rl": DECODER | FLOW_GRPO},
    "decoder_cps": {"schedule": "decoder", "decoder_rl": DECODER | CPS},
    "decoder_awm": {"schedule": "decoder", "decoder_rl": DECODER | AWM},
    "alternate": {
        "schedule": "alternate",
        "alternate_every": 2,
        "encoder_rl": ENCODER | {"num_steps": 5},
        "decoder_rl": DECODER | AWM | {"num_steps": 5},
    },
    "joint": {"schedule": "joint", "encoder_rl": ENCODER, "decoder_rl": DECODER | FLOW_GRPO},
}


def run(name: str) -> list[dict[str, float]]:
    """Train a recipe through the command line; return what each step logged."""
    recipe = RECIPES[name] | {"gate": "off", "evaluation": EVALUATION, "data": {"num_scenes": 32}}
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "recipe.yaml", Path(folder) / "run"
        path.write_text(yaml.safe_dump(recipe))
        command = [sys.executable, "-m", "uae", "train", "--recipe", str(path), "--out", str(out)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [kept for line in lines if (kept := _kept(line))]


def _kept(line: dict[str, object]) -> dict[str, float]:
    if str(line.get("phase", line.get("stage", ""))).startswith("eval"):
        return {}
    return {
        key: value
        for key, value in line.items()
        if isinstance(value, int | float) and any(part in key for part in LOGGED)
    }


def environment() -> dict[str, str]:
    """Say what the numbers depend on besides the code."""
    return {"torch": torch.__version__, "machine": platform.machine(), "threads": "1"}


def main() -> int:
    """Record or check the named trajectories, or all."""
    verb, *names = sys.argv[1:]
    names = names or list(RECIPES)
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {"trajectories": {}}
    differing = []
    for name in names:
        steps = run(name)
        if verb == "record":
            recorded["trajectories"][name] = steps
        same = recorded["trajectories"].get(name) == steps
        sys.stdout.write(f"{name}: {len(steps)} lines, {'equal' if same else 'DIFFERENT'}\n")
        sys.stdout.flush()
        differing += [] if same else [name]
    if verb == "record":
        recorded["environment"] = environment()
        RECORDED.write_text(json.dumps(recorded, indent=0) + "\n")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
