"""Fault 33: checkpoints made to run code, to read elsewhere, or to exhaust the reader.

The attacker knows our format: where it can, the manifest gives the right digests.
"""

import hashlib
import io
import json
import os
import pickle
import struct
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from faults.trials import Outcome, arguments, quantile, report
from uae.core.errors import DamagedCheckpoint
from uae.runs.checkpoint import load_latest, read_checkpoint, save_checkpoint
from uae.runs.manifest import MANIFEST, STATE, TENSORS, json_bytes

LIMIT_S = 0.1


class Payload:
    """Unpickled, it makes a file that tells of it."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.witness),)


def sign(folder: Path, changes: dict[str, object] | None = None) -> None:
    """Write a manifest that fits the files that lie there."""
    files = {}
    for name in (TENSORS, STATE):
        data = (folder / name).read_bytes() if (folder / name).is_file() else b""
        files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    content = {"files": files, "format": "uae-checkpoint-1", "step": 1} | (changes or {})
    digest = hashlib.sha256(json_bytes(content)).hexdigest()
    (folder / MANIFEST).write_bytes(json_bytes(content | {"sha256": digest}))


def header(content: dict[str, object] | bytes, data: bytes = b"") -> bytes:
    """Return a safetensors file with any header."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    """Return one tensor of a safetensors header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def torch_zip(witness: Path) -> bytes:
    """Return what `torch.save` writes, with the payload inside."""
    buffer = io.BytesIO()
    torch.save({"weight": Payload(witness)}, buffer)
    return buffer.getvalue()


def zip_slip() -> bytes:
    """Return a zip whose member leaves the folder."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../slipped.txt", "out")
    return buffer.getvalue()


def tensor_files(witness: Path) -> dict[str, bytes]:
    """Hostile `tensors.safetensors`."""
    deep = b"[" * 1_000_000
    many = b"{" + b",".join(b'"%d":{}' % i for i in range(900_000)) + b"}"
    return {
        "pickle as tensors": pickle.dumps(Payload(witness)),
        "torch zip as tensors": torch_zip(witness),
        "zip-slip as tensors": zip_slip(),
        "header of 2^60 bytes": struct.pack("<Q", 2**60) + b"{}",
        "header longer than the file": struct.pack("<Q", 4096) + b"{}",
        "header of 10 MB": header(many),
        "header nested a million deep": header(deep),
        "overlapping tensors": header({"a": entry([4], 0, 16), "b": entry([4], 8, 24)}, bytes(24)),
        "hole between tensors": header({"a": entry([2], 0, 8), "b": entry([2], 16, 24)}, bytes(24)),
        "overflowing shape": header({"a": entry([2**40, 2**40], 0, 16)}, bytes(16)),
        "shape larger than data": header({"a": entry([100], 0, 16)}, bytes(16)),
        "negative shape": header({"a": entry([-4], 0, 16)}, bytes(16)),
        "offsets beyond the file": header({"a": entry([4], 0, 2**40)}, bytes(16)),
        "offsets reversed": header({"a": entry([4], 16, 0)}, bytes(16)),
        "unknown dtype": header({"a": entry([4], 0, 16, "OBJECT")}, bytes(16)),
        "empty file": b"",
    }


def state_files() -> dict[str, bytes]:
    """Hostile `state.json`."""
    return {
        "state nested deep": b'{"a":' + b"[" * 500_000,
        "state with a huge integer": b'{"a":' + b"9" * 1_000_000 + b"}",
        "state is a list": b"[1]",
        "state is not UTF-8": b'{"a": "\xff\xfe"}',
    }


def manifests() -> dict[str, dict[str, object]]:
    """Hostile manifests, each with a right digest of itself."""
    good = {"sha256": "0" * 64, "size": 1}
    return {
        "index with ../": {"files": {"../../etc/passwd": good, STATE: good}},
        "index with an absolute path": {"files": {"/etc/passwd": good, STATE: good}},
        "index with one more file": {"files": {TENSORS: good, STATE: good, "code.py": good}},
        "index is a list": {"files": [TENSORS, STATE]},
        "index entry is a string": {"files": {TENSORS: "x", STATE: "y"}},
        "another step": {"step": 7},
        "another format": {"format": "uae-checkpoint-9"},
    }


def sparse(path: Path, num_bytes: int) -> None:
    """Make a file that claims a size and takes no space."""
    with path.open("wb") as file:
        file.truncate(num_bytes)


def special_files(folder: Path, name: str) -> None:
    """Spoil a checkpoint by what a file is, not by what it holds."""
    if name == "state of 500 MB":
        sparse(folder / STATE, 500_000_000)
    elif name == "manifest of 500 MB":
        sparse(folder / MANIFEST, 500_000_000)
    elif name == "state is a pipe that never ends":
        (folder / STATE).unlink()
        os.mkfifo(folder / STATE)
    elif name == "tensors are a link to a device":
        (folder / TENSORS).unlink()
        (folder / TENSORS).symlink_to("/dev/zero")
    elif name == "state is a link out of the folder":
        outside = folder.parent / "outside.json"
        (folder / STATE).rename(outside)  # with the right digest: only the link is wrong
        (folder / STATE).symlink_to(outside)


SPECIAL = (
    "state of 500 MB",
    "manifest of 500 MB",
    "state is a pipe that never ends",
    "tensors are a link to a device",
    "state is a link out of the folder",
)


def make_all(root: Path, witness: Path) -> dict[str, Path]:
    """Make every hostile checkpoint; return the folder or file of each."""
    made: dict[str, Path] = {}

    def fresh(name: str) -> Path:
        parent = root / f"{len(made):02d}"
        parent.mkdir()
        tensors = {"weight": torch.zeros(4)}
        made[name] = save_checkpoint(parent, 1, tensors, {"step": 1}, keep=2)
        return made[name]

    for name, data in tensor_files(witness).items():
        folder = fresh(name)
        (folder / TENSORS).write_bytes(data)
        sign(folder)
    for name, data in state_files().items():
        folder = fresh(name)
        (folder / STATE).write_bytes(data)
        sign(folder)
    for name, changes in manifests().items():
        sign(fresh(name), changes)
    for name in SPECIAL:
        special_files(fresh(name), name)
    for name, data in (("a .pt file", torch_zip(witness)), ("a zip", zip_slip())):
        made[name] = root / f"{name.split()[-1]}-{len(made)}.pt"
        made[name].write_bytes(data)
    return made


def rejected(path: Path) -> tuple[bool, float]:
    """Load it the two ways a run would; tell if both refused, and the longer of the two times.

    The time is the processor's: on a busy machine the clock measures the others.
    """
    seconds = []
    for load in (read_checkpoint, lambda path: load_latest(path.parent)):
        if path.is_file() and load is not read_checkpoint:
            continue
        start = time.process_time()
        try:
            load(path)
            return False, time.process_time() - start
        except DamagedCheckpoint as error:
            seconds.append(time.process_time() - start)
            if path.name not in str(error):
                return False, seconds[-1]
    return True, max(seconds)


def main() -> int:
    """Try every hostile checkpoint, several times over."""
    given = arguments(5)
    found, trials, seconds = 0, 0, []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        witness = root / "executed"
        made = make_all(root, witness)
        for _ in range(given.trials):
            for path in made.values():
                good, taken_s = rejected(path)
                trials += 1
                found += good
                seconds.append(taken_s)
        slipped = list(root.parent.glob("slipped.txt"))
        executed = witness.exists() or bool(slipped)
    return report(
        Outcome(
            number=33,
            fault="hostile checkpoints",
            how=f"{len(made)} kinds: pickles, zip-slip, headers, offsets, shapes, paths, links, "
            "pipes, 500 MB JSON",
            trials=trials,
            detected=found,
            lost="0 executed, 0 loaded",
            recovery_p50_s=quantile(seconds, 0.5),
            recovery_p95_s=quantile(seconds, 0.95),
            passed=found == trials and not executed and max(seconds) <= LIMIT_S,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
