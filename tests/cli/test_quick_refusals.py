"""What is wrong on a command line is said before torch is imported, which takes seconds."""

import subprocess
import sys

PROGRAM = """
import sys
from uae.cli.app import run

class Refusal:
    def find_spec(self, name, path=None, target=None):
        if name in {"torch", "transformers", "diffusers"}:
            raise AssertionError(f"{name} is imported")

sys.meta_path.insert(0, Refusal())
for line in sys.stdin.read().splitlines():
    sys.stderr.write(f"{run(line.split())}\\n")
"""
WRONG = {
    "train --recipe key.yaml --out run": "key.yaml, line 1: unknown key sed",
    "train --recipe value.yaml --out run": "value.yaml, line 2: encoder_rl.num_steps is -3",
    "train --recipe none --out run": "recipe 'none' does not exist",
    "train --recipe demo --out run --seed ten": "--seed: seed is 'ten'",
    "train --recipe demo --data missing --out run": "missing does not exist",
    "train --recipe demo --model missing --out run": "no uae.json in missing",
    "train --recipe demo --reward.vgg 1 --out run": "reward.vgg: the model has no such",
    "train --recipe demo --reward.dreamsim 1 --out run": 'pip install "uae[dreamsim]"',
    "train --recipe demo --out file": "file is a file: expected a folder",
    "train --recipe demo --out run --resume must": "run holds no run to resume",
    "trian": "trian",
    "caption photo.png --modle x": "--modle",
    "caption missing.png": "missing.png does not exist",
    "caption photo.png --model missing": "no uae.json in missing",
    "draw circle --model missing": "no uae.json in missing",
    "reconstruct photo.png --model missing --out out": "no uae.json in missing",
    "eval scenes --model missing": "no uae.json in missing",
    "eval scenes --reward vgg": "--reward vgg: the model has no such",
    "eval unified-bench missing --out run": "missing does not exist",
    "eval unified-bench photo.png --model missing --out run": "--model uae:missing is no model",
    "eval unified-bench photo.png --generator uae:no --out run": "--generator uae:no is no model",
    "train --recipe none.yaml --out run": "the recipe has no steps",
    "eval unified-bench photo.png --captioner file:no.jsonl --out run": "file:no.jsonl does not",
    "eval unified-bench photo.png --captioner vlm:./no --out run": "vlm:./no cannot be loaded",
    "eval unified-bench photo.png --generator folder:no --out run": "folder:no does not exist",
    "eval unified-bench photo.png --backbone vgg --out run": "--backbone vgg: expected clip",
    "eval audit photo.png --model missing --out run": "--model uae:missing is no model",
    "eval audit photo.png --model uae-tiny --before no --out run": "--before uae:no is no model",
    "eval audit photo.png --model uae-tiny --backbone vgg --out run": "--backbone vgg: expected",
    "eval caption-duel photo.png --first a --second b --judge local:c --out run": "file:a does not",
    "eval caption-duel photo.png --first file --second file --judge local:./c --out run": (
        "local:./c cannot be loaded: there is no such folder"
    ),
    "serve --api --model missing": "no uae.json in missing",
    "join --encoder ./no --decoder a/b --out run": "--encoder ./no cannot be loaded: there is no",
    "join --encoder a/b --decoder ./no --out run": "--decoder ./no cannot be loaded: there is no",
    "join --encoder a/b --decoder c/d --out file": "--out file exists already",
    "eval mmt-bench missing.tsv --out run": "missing.tsv cannot be read",
    "eval mmt-bench missing.tsv --model missing --out run": "--model uae:missing is no model",
    "report missing": "missing does not exist",
}


def test_what_is_wrong_is_said_without_the_heavy_imports(tmp_path):
    (tmp_path / "key.yaml").write_text("sed: 1\n")
    (tmp_path / "none.yaml").write_text("seed: 1\n")
    (tmp_path / "value.yaml").write_text("encoder_rl:\n  num_steps: -3\n")
    for name in ("file", "photo.png"):
        (tmp_path / name).write_text("x")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input="\n".join(WRONG),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    codes = [line for line in done.stderr.splitlines() if line in {"0", "1", "2", "3"}]
    assert codes == ["3" if "dreamsim" in line else "2" for line in WRONG]
    missing = [said for said in WRONG.values() if said not in " ".join(done.stderr.split())]
    assert not missing
    assert not (tmp_path / "run").exists()
