"""`uae doctor`: what this machine lacks, each fault with the command that mends it."""

import importlib.metadata
import importlib.util
import itertools
import os
import platform
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from cyclopts.types import NonNegativeInt
from packaging.requirements import Requirement

from uae.cli.output import PLAINLY, Talk, json_line, write
from uae.cli.startup import quick_start
from uae.core.errors import EXIT_DONE, EXIT_ENVIRONMENT

if TYPE_CHECKING:
    from uae.models.unified import UnifiedAutoEncoder

GIB = 2**30
MIN_MEMORY_GIB, MIN_DISK_GIB = 4.0, 2.0
EXTRAS = {
    "dreamsim": "dreamsim",
    "endpoint": "openai",
    "nf4": "bitsandbytes",
    "serve": "fastapi",
    "track": "trackio",
    "xlsx": "openpyxl",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One row. `mend` is a command or a sentence, empty where nothing is amiss."""

    check: str
    state: Literal["ok", "warn", "fail"]
    found: str
    mend: str = ""

    def __str__(self) -> str:
        mend = f"  ->  {self.mend}" if self.mend else ""
        return f"{self.state:4}  {self.check:12}  {self.found}{mend}"


def _finding(check: str, is_good: bool, found: str, mend: str) -> Finding:
    """Return a row that warns, with what mends it, unless all is good."""
    return Finding(check, "ok", found) if is_good else Finding(check, "warn", found, mend)


def doctor(
    *,
    model: str = "uae-tiny",
    num_scenes: NonNegativeInt = 32,
    talk: Talk = PLAINLY,
) -> int:
    """Check the machine and the installation; exit code 3 if something is broken.

    Try:
        uae doctor
        uae doctor --json

    Args:
        model: Model folder, preset or ID@REVISION for the trial run.
        num_scenes: Scenes to redraw from their true captions; 0 leaves that out.
        talk: Format and verbosity.
    """
    talk.begin()
    findings = []
    for finding in itertools.chain(
        _packages(), _space(Path.cwd()), _devices(), _trial(model, num_scenes)
    ):
        findings.append(finding)
        if talk.chosen != "json" and (talk.chosen != "quiet" or finding.state != "ok"):
            write(str(finding))
    if talk.chosen == "json":
        write(json_line({"findings": [asdict(finding) for finding in findings]}))
    is_broken = any(finding.state == "fail" for finding in findings)
    return EXIT_ENVIRONMENT if is_broken else EXIT_DONE


def _packages() -> Iterator[Finding]:
    yield Finding("system", "ok", f"Python {platform.python_version()}, {platform.platform()}")
    for text in importlib.metadata.requires("uae") or []:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        mend = f'pip install "{requirement.name}{requirement.specifier}"'
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(requirement.name, "fail", "not installed", mend)
            continue
        if requirement.specifier.contains(version.partition("+")[0], prereleases=True):
            yield Finding(requirement.name, "ok", version)
        else:
            wanted = f"{version}, expected {requirement.specifier}"
            yield Finding(requirement.name, "fail", wanted, mend)
    for extra, package in EXTRAS.items():
        is_there = importlib.util.find_spec(package) is not None
        found = f"{package} {importlib.metadata.version(package)}" if is_there else f"no {package}"
        yield _finding(f"[{extra}]", is_there, found, f'pip install "uae[{extra}]"')


def _space(folder: Path) -> Iterator[Finding]:
    """Look at disk, rights and memory, for a run that is to be written below a folder."""
    free = shutil.disk_usage(folder).free / GIB
    mend = f"free space, or give --out on another disk: a run takes up to {MIN_DISK_GIB:g} GiB"
    yield _finding("disk", free >= MIN_DISK_GIB, f"{free:.1f} GiB free in {folder}", mend)
    fault = ""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"uae")
    except OSError as error:
        fault = f"{folder}: {error.strerror}"
    mend = "give --out with a folder that can be written"
    yield _finding("writing", not fault, fault or f"{folder} can be written", mend)
    free = _free_memory() / GIB
    mend = f"end other programs: the demo takes up to {MIN_MEMORY_GIB:g} GiB"
    yield _finding("memory", free >= MIN_MEMORY_GIB, f"{free:.1f} GiB free", mend)


def _free_memory() -> int:
    """Return the bytes that can be had without swapping; page cache counts as free."""
    info = Path("/proc/meminfo")
    for line in info.read_text().splitlines() if info.is_file() else ():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _devices() -> Iterator[Finding]:
    with quick_start():
        import torch

    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    found, mend = f"{threads} threads, {cores} cores", f"export OMP_NUM_THREADS={cores}"
    yield _finding("threads", threads <= cores, found, mend)
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        yield Finding("gpu", "ok", f"{name}, {free / GIB:.0f} of {total / GIB:.0f} GiB free")
    elif shutil.which("nvidia-smi"):
        build = f"torch {torch.__version__} sees no GPU, but there is a driver"
        yield Finding("gpu", "warn", build, "install torch's CUDA build: https://pytorch.org")
    else:
        yield Finding("gpu", "ok", "none, the CPU is used")


def _trial(name: str, num_scenes: int) -> Iterator[Finding]:
    """Caption and redraw one scene; then see which words of true captions the decoder draws."""
    with quick_start():
        from uae.backends import own as loop
        from uae.scenes.graph import scene_at
        from uae.scenes.render import render_image

    start = time.monotonic()
    try:
        model = loop.load(name, "auto")
        captions, _ = model.reconstruct([render_image(scene_at(0, "test"))])
    except (OSError, RuntimeError, ValueError) as error:
        yield Finding("trial run", "fail", f"{name}: {error}", _mend(name, error))
        return
    seconds = time.monotonic() - start
    yield Finding("trial run", "ok", f"{name} in {seconds:.1f} s: {captions[0]!r}")
    if num_scenes:
        yield _drawability(model, num_scenes)


def _mend(name: str, error: Exception) -> str:
    """Say what helps where a model does not load: reinstalling only what was installed."""
    from uae.models.settings import PRESETS

    cause = error.__cause__ or error
    if isinstance(cause, PermissionError):
        return f"chmod -R a+rX {shlex.quote(str(cause.filename))}, as its owner"
    if name.partition("/")[0] in PRESETS:
        return f"{shlex.quote(sys.executable)} -m pip install --force-reinstall --no-deps uae"
    return "give --model with another folder, or copy this one again"


def _drawability(model: "UnifiedAutoEncoder", num_scenes: int) -> Finding:
    """Warn of what encoder RL will forget, because the decoder cannot draw it."""
    import torch

    from uae.data.sources import to_images
    from uae.recipe.recipe import EvaluationConfig
    from uae.scenes import drawability
    from uae.scenes.evaluation import held_out_scenes
    from uae.scenes.evaluator import true_captions
    from uae.scenes.parser import parse
    from uae.train.observe import draw

    config = EvaluationConfig(num_scenes=num_scenes)
    scenes = held_out_scenes(num_scenes)
    pixels = torch.stack(list(draw(model, true_captions(scenes, config.seed), config)))
    drawn = [parse(np.asarray(image)) for image in to_images(pixels)]
    gate = drawability.drawability_gate(drawability.drawability_samples(scenes, drawn))
    found = f"{drawability.shares_in_words(gate)} in {num_scenes} scenes"
    mend = drawability.consequence_in_words(gate)
    return _finding("drawability", gate.passed, found, mend)
