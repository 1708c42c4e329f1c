"""The environment of a run: versions, code revision, device. No user, host or path is in it."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

_MODELS = ("torch", "transformers", "diffusers", "accelerate", "peft", "safetensors")
_PACKAGES = ("uae", *_MODELS, "numpy", "pillow")
_CHANGES_NUMBERS = ("packages", "revision", "python", "device", "num_threads")


def describe_environment() -> dict[str, Any]:
    """Return the environment as JSON; entries that cannot be found are None."""
    import torch  # a folder is judged before it is loaded

    return {
        "packages": {name: _version(name) for name in _PACKAGES},
        "revision": source_revision(Path(__file__).parents[3]),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": _device_name(),
        "num_devices": torch.cuda.device_count(),
        "num_threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def numeric_differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """List what may keep a resumed run from being bitwise the same, one line each."""
    lines = []
    for key in _CHANGES_NUMBERS:
        old, new = before.get(key), now[key]
        if isinstance(old, dict) and isinstance(new, dict):
            lines += [f"{n} {old.get(n)} -> {v}" for n, v in new.items() if old.get(n) != v]
        elif old != new:
            lines.append(f"{key} {old} -> {new}")
    return lines


def source_revision(root: Path) -> str | None:
    """Return the git commit of a source checkout, with `+` if files differ from it."""
    if not (root / ".git").exists():  # else git would answer for a repository further up
        return None
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return commit and commit + ("+" if changes else "")


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    if package == "torch":
        import torch

        return torch.__version__  # with its build, +cu130 say, which its metadata may lack
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _device_name() -> str:
    """Return the GPU's name, or the processor's: `platform.processor` is empty on most Linux."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
