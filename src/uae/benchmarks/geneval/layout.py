"""GenEval's image folder, written and read, and checked for completeness.

    <root>/00000/metadata.jsonl       the prompt's line, one JSON object
    <root>/00000/samples/0000.png     digits + .png; four to a prompt
    <root>/00000/grid.png             ignored, as everything else

The official scorer (djghosh13/geneval@af4902f `evaluation/evaluate_images.py`) trusts each folder's
metadata and scores whatever is there: a run that lacks prompts is summarised without a word. Here
each folder must be there and hold its own prompt of the set, and its samples, which must open.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from uae.benchmarks.geneval.prompts import PromptLine, PromptSet, parse_line
from uae.core.errors import UsageError
from uae.report.format import listed
from uae.runs.first_look import faults_of

SAMPLES_PER_PROMPT = 4
METADATA_NAME = "metadata.jsonl"
KINDS = (
    "missing folders",
    "extra folders",
    "folders of another prompt",
    "folders with missing samples",
    "extra samples",
    "unreadable samples",
)
"""What may be amiss, in the order in which it is said."""

_SAMPLE_NAME = re.compile(r"\d+\.png", re.ASCII)
_FOLDER_NAME = re.compile(r"\d+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Sample:
    """An image of a prompt, by the prompt's index in its set; `fault` says why it does not open."""

    prompt_id: int
    path: Path
    fault: str = ""


class Gaps(defaultdict[str, list[str]]):
    """What a folder lacks, or holds too much of: names by kind. Nothing of it is scored."""

    def __init__(self) -> None:
        super().__init__(list)

    @property
    def is_empty(self) -> bool:
        return not self.by_kind()

    def by_kind(self) -> dict[str, list[str]]:
        return {kind: self[kind] for kind in KINDS if self.get(kind)}

    def summary(self) -> str:
        return listed(self.by_kind())


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """The samples prompt by prompt, those that do not open apart, and what is amiss."""

    root: Path
    samples: tuple[Sample, ...]
    unreadable: tuple[Sample, ...]
    gaps: Gaps


def folder_of(root: Path, prompt_id: int) -> Path:
    return root / f"{prompt_id:05d}"


def write_metadata(root: Path, prompts: PromptSet) -> None:
    """Make each prompt's folder with its `metadata.jsonl` and an empty `samples`."""
    for prompt_id, line in enumerate(prompts.lines):
        folder = folder_of(root, prompt_id)
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        (folder / METADATA_NAME).write_text(line.metadata)


def sample_path(root: Path, prompt_id: int, sample_id: int) -> Path:
    return folder_of(root, prompt_id) / "samples" / f"{sample_id:04d}.png"


def read_folder(
    root: Path,
    prompts: PromptSet,
    num_samples: int = SAMPLES_PER_PROMPT,
    *,
    allow_missing: bool = False,
) -> ImageFolder:
    """List the samples of an image folder; each is looked at, so that faults show at the start.

    Raises:
        UsageError: It is no folder, is incomplete and need not be, holds nothing to score, or two
            files of one sample.
    """
    if not root.is_dir():
        raise UsageError(f"{root} is no folder: expected GenEval's layout, {root}/00000/samples")
    gaps, samples = Gaps(), list[Sample]()
    numbered = {p.name for p in root.iterdir() if p.is_dir() and _FOLDER_NAME.fullmatch(p.name)}
    for prompt_id, line in enumerate(prompts.lines):
        folder = folder_of(root, prompt_id)
        if folder.name in numbered:
            samples += _samples_of(folder, prompt_id, line, num_samples, gaps)
        else:
            gaps["missing folders"].append(folder.name)
    expected = {folder_of(root, prompt_id).name for prompt_id in range(len(prompts.lines))}
    gaps["extra folders"] += sorted(numbered - expected)
    faults = faults_of({_place(sample): sample.path for sample in samples}, "samples")
    samples = [
        replace(sample, fault=f"{place}: {faults[place]}") if place in faults else sample
        for sample in samples
        for place in [_place(sample)]
    ]
    readable = tuple(sample for sample in samples if not sample.fault)
    unreadable = tuple(sample for sample in samples if sample.fault)
    gaps["unreadable samples"] += [sample.fault for sample in unreadable]
    if not readable:
        raise UsageError(f"{root} holds no image of {prompts.name!r} to score:\n{gaps.summary()}")
    if not gaps.is_empty and not allow_missing:
        raise UsageError(
            f"{root} is no complete set of {num_samples} images for each of the "
            f"{len(prompts.lines)} prompts of {prompts.name!r}:\n{gaps.summary()}\n"
            "Add or repair them; or give --allow-missing, and the result will be marked"
        )
    return ImageFolder(root, readable, unreadable, gaps)


def _samples_of(
    folder: Path, prompt_id: int, line: PromptLine, num_samples: int, gaps: Gaps
) -> Iterator[Sample]:
    """Yield a folder's samples; note what else is amiss."""
    if fault := _metadata_fault(folder, line):
        gaps["folders of another prompt"].append(fault)
        return
    names = _sample_names(folder)
    if len(names) < num_samples:
        missing = f"{folder.name} ({len(names)} of {num_samples})"
        gaps["folders with missing samples"].append(missing)
    gaps["extra samples"] += [f"{folder.name}/samples/{name}" for name in names[num_samples:]]
    for name in names[:num_samples]:
        yield Sample(prompt_id, folder / "samples" / name)


def _place(sample: Sample) -> str:
    """Return a sample's path from the root."""
    return "/".join(sample.path.parts[-3:])


def _sample_names(folder: Path) -> list[str]:
    by_number: dict[int, str] = {}
    for path in sorted((folder / "samples").glob("*.png")):
        if _SAMPLE_NAME.fullmatch(path.name) and path.is_file():
            other = by_number.setdefault(int(path.stem), path.name)
            if other != path.name:
                raise UsageError(
                    f"{folder / 'samples'} holds {other} and {path.name}, two files of sample "
                    f"{int(path.stem)}: expected one; take the other away"
                )
    return [by_number[number] for number in sorted(by_number)]


def _metadata_fault(folder: Path, line: PromptLine) -> str:
    """Say how a folder's metadata differs from its prompt's; "" where it does not."""
    path = folder / METADATA_NAME
    try:
        there = parse_line(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        return f"{folder.name} (no {METADATA_NAME})"
    except ValueError as error:  # UsageError and UnicodeDecodeError
        reason = str(error) if isinstance(error, UsageError) else "not UTF-8"
        return f"{folder.name} ({reason.removeprefix(f'{path}: ')})"
    if there != line:
        return f"{folder.name} ({there.prompt[:60]!r}, expected {line.prompt[:60]!r})"
    return ""
