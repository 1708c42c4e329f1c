"""The manifest of a checkpoint: size and sha256 of each file, and of itself.

It must equal, byte for byte, what we would write for its content, so that one changed byte anywhere
is found.
"""

import json
import stat
from pathlib import Path
from typing import Any

from uae.core.durable import write_synced
from uae.core.errors import DamagedCheckpoint
from uae.core.identity import sha256_of, text_digest

MANIFEST = "manifest.json"
TENSORS = "tensors.safetensors"
STATE = "state.json"
MAX_STATE_BYTES = 4 * 2**20

_FORMAT = "uae-checkpoint-1"
_MAX_MANIFEST_BYTES = 4096


def json_bytes(value: dict[str, Any]) -> bytes:
    """Serialise JSON in one canonical way; NaN and infinity are refused."""
    return (json.dumps(value, allow_nan=False, sort_keys=True, indent=1) + "\n").encode()


def parse_json(path: Path, data: bytes) -> dict[str, Any]:
    """Parse a JSON object whose size was limited before; anything else is `DamagedCheckpoint`."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedCheckpoint(f"{path}: not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise DamagedCheckpoint(f"{path}: a JSON {type(value).__name__}, expected an object")
    return value


def write_manifest(folder: Path, step: int) -> None:
    """Write the manifest of the files that lie in `folder`."""
    files = {
        name: {"sha256": sha256_of(folder / name), "size": (folder / name).stat().st_size}
        for name in (TENSORS, STATE)
    }
    write_synced(folder / MANIFEST, _signed({"files": files, "format": _FORMAT, "step": step}))


def verify_files(folder: Path, step: int) -> None:
    """Check every file of a checkpoint folder, or raise `DamagedCheckpoint`."""
    path = folder / MANIFEST
    _check_size(path, _MAX_MANIFEST_BYTES)
    data = path.read_bytes()
    content = parse_json(path, data)
    stated = content.pop("sha256", None)
    if content.get("format") != _FORMAT:
        raise DamagedCheckpoint(
            f"{path}: format is {content.get('format')!r}, expected {_FORMAT!r}"
        )
    if _signed(content) != data:
        actual = text_digest(json_bytes(content).decode())
        raise DamagedCheckpoint(f"{path}: altered (sha256 stated {stated}, actual {actual})")
    if content.get("step") != step:
        raise DamagedCheckpoint(f"{path}: step is {content.get('step')}, the folder says {step}")
    files = content.get("files")
    if not isinstance(files, dict) or set(files) != {TENSORS, STATE}:
        raise DamagedCheckpoint(f"{path}: must list exactly {TENSORS} and {STATE}")
    for name, expected in files.items():
        _verify_file(folder / name, expected)


def _verify_file(path: Path, expected: object) -> None:
    if not isinstance(expected, dict) or set(expected) != {"sha256", "size"}:
        raise DamagedCheckpoint(f"{path}: the manifest must give its sha256 and size")
    size = _check_size(path, MAX_STATE_BYTES if path.name == STATE else None)
    if size != expected["size"]:
        raise DamagedCheckpoint(f"{path}: {size} bytes, expected {expected['size']}")
    actual = sha256_of(path)
    if actual != expected["sha256"]:
        raise DamagedCheckpoint(f"{path}: sha256 is {actual}, expected {expected['sha256']}")


def _check_size(path: Path, limit: int | None) -> int:
    """Return a file's size; links, devices and pipes are refused, they may never end."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise DamagedCheckpoint(f"{path}: not a regular file")
    if limit is not None and status.st_size > limit:
        raise DamagedCheckpoint(f"{path}: {status.st_size} bytes; the limit is {limit}")
    return status.st_size


def _signed(content: dict[str, Any]) -> bytes:
    digest = text_digest(json_bytes(content).decode())
    return json_bytes(content | {"sha256": digest})
