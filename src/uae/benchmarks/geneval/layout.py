"""GenEval's image folder, written and read, and checked for completeness.

    <root>/00000/metadata.jsonl       the prompt's line, one JSON object
    <root>/00000/samples/0000.png     digits + .png; four to a prompt
    <root>/00000/grid.png             ignored, as everything else

The official scorer (djghosh13/geneval@af4902f `evaluation/evaluate_images.py`) trusts each folder's
metadata and scores whatever is there: a run that lacks prompts is summarised without a word. Here
each folder must be there and hold its own prompt of the set, and its samples, which must open.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from uae.benchmarks.geneval.prompts import PromptLine, PromptSet, parse_line
from uae.core.errors import UsageError
from uae.report.format import listed
from uae.runs.first_look import faults_of

SAMPLES_PER_PROMPT = 4
METADATA_NAME = "metadata.jsonl"

_SAMPLE_NAME = re.compile(r"\d+\.png", re.ASCII)
_FOLDER_NAME = re.compile(r"\d+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Sample:
    """An image of a prompt: `prompt_id` is the prompt's index in its set."""

    prompt_id: int
    path: Path


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A sample that does not open, and why."""

    sample: Sample
    fault: str


@dataclass(frozen=True, slots=True)
class Gaps:
    """What a folder lacks, or holds too much of, by name. Nothing of it is scored."""

    missing_folders: list[str] = field(default_factory=list)
    extra_folders: list[str] = field(default_factory=list)
    """Folders named by a number that no prompt has."""
    other_prompts: list[str] = field(default_factory=list)
    """Folders whose metadata is missing, damaged or another prompt's, with what was found."""
    missing_samples: list[str] = field(default_factory=list)
    """Folders with too few samples, with the number."""
    extra_samples: list[str] = field(default_factory=list)
    """Samples beyond the number expected, those of the highest numbers."""
    unreadable: list[Unreadable] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not self.by_kind()

    def by_kind(self) -> dict[str, list[str]]:
        """Return the names by kind, kinds without any left out."""
        kinds = {
            "missing folders": self.missing_folders,
            "extra folders": self.extra_folders,
            "folders of another prompt": self.other_prompts,
            "folders with missing samples": self.missing_samples,
            "extra samples": self.extra_samples,
            "unreadable samples": [item.fault for item in self.unreadable],
        }
        return {kind: names for kind, names in kinds.items() if names}

    def summary(self) -> str:
        """Say in words what is amiss: counts, and the first names of each kind."""
        return listed(self.by_kind())


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """The samples that can be scored, prompt by prompt, and what is amiss."""

    root: Path
    samples: tuple[Sample, ...]
    gaps: Gaps


def folder_of(root: Path, prompt_id: int) -> Path:
    """Return the folder of a prompt."""
    return root / f"{prompt_id:05d}"


def write_metadata(root: Path, prompts: PromptSet) -> None:
    """Make each prompt's folder with its `metadata.jsonl` and an empty `samples`."""
    for prompt_id, line in enumerate(prompts.lines):
        folder = folder_of(root, prompt_id)
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        (folder / METADATA_NAME).write_text(line.metadata)


def sample_path(root: Path, prompt_id: int, sample_id: int) -> Path:
    """Return the file of one image of a prompt."""
    return folder_of(root, prompt_id) / "samples" / f"{sample_id:04d}.png"


def read_folder(
    root: Path,
    prompts: PromptSet,
    num_samples: int = SAMPLES_PER_PROMPT,
    *,
    allow_missing: bool = False,
) -> ImageFolder:
    """List the samples of an image folder; each is looked at, so that faults show at the start.

    Args:
        root: The folder.
        prompts: The set that the images were made for.
        num_samples: Samples expected of each prompt.
        allow_missing: Accept what is there; the caller marks the result.

    Raises:
        UsageError: It is no folder, is incomplete and need not be, holds nothing to score, or two
            files of one sample.
    """
    if not root.is_dir():
        raise UsageError(f"{root} is no folder: expected GenEval's layout, {root}/00000/samples")
    gaps = Gaps()
    numbered = {p.name for p in root.iterdir() if p.is_dir() and _FOLDER_NAME.fullmatch(p.name)}
    samples: list[Sample] = []
    for prompt_id, line in enumerate(prompts.lines):
        folder = folder_of(root, prompt_id)
        if folder.name in numbered:
            samples += _samples_of(folder, prompt_id, line, num_samples, gaps)
        else:
            gaps.missing_folders.append(folder.name)
    expected = {folder_of(root, prompt_id).name for prompt_id in range(len(prompts.lines))}
    gaps.extra_folders.extend(sorted(numbered - expected))
    faults = faults_of({_place(sample): sample.path for sample in samples}, "samples")
    gaps.unreadable.extend(
        Unreadable(sample, f"{_place(sample)}: {fault}")
        for sample in samples
        if (fault := faults.get(_place(sample)))
    )
    sound = tuple(sample for sample in samples if _place(sample) not in faults)
    found = ImageFolder(root, sound, gaps)
    if not found.samples:
        raise UsageError(f"{root} holds no image of {prompts.name!r} to score:\n{gaps.summary()}")
    if not gaps.is_empty and not allow_missing:
        raise UsageError(
            f"{root} is no complete set of {num_samples} images for each of the "
            f"{len(prompts.lines)} prompts of {prompts.name!r}:\n{gaps.summary()}\n"
            "Add or repair them; or give --allow-missing, and the result will be marked"
        )
    return found


def _samples_of(
    folder: Path, prompt_id: int, line: PromptLine, num_samples: int, gaps: Gaps
) -> Iterator[Sample]:
    """Yield a folder's samples; note what is amiss."""
    fault = _metadata_fault(folder, line)
    if fault:
        gaps.other_prompts.append(fault)
        return
    names = _sample_names(folder)
    if len(names) < num_samples:
        gaps.missing_samples.append(f"{folder.name} ({len(names)} of {num_samples})")
    gaps.extra_samples.extend(f"{folder.name}/samples/{name}" for name in names[num_samples:])
    for name in names[:num_samples]:
        yield Sample(prompt_id, folder / "samples" / name)


def _place(sample: Sample) -> str:
    """Return a sample's path from the root."""
    return "/".join(sample.path.parts[-3:])


def _sample_names(folder: Path) -> list[str]:
    """Return the names of a folder's samples in the order of their numbers."""
    found: dict[int, str] = {}
    for path in sorted((folder / "samples").glob("*.png")):
        if _SAMPLE_NAME.fullmatch(path.name) and path.is_file():
            other = found.setdefault(int(path.stem), path.name)
            if other != path.name:
                raise UsageError(
                    f"{folder / 'samples'} holds {other} and {path.name}, two files of sample "
                    f"{int(path.stem)}: expected one; take the other away"
                )
    return [found[number] for number in sorted(found)]


def _metadata_fault(folder: Path, line: PromptLine) -> str:
    """Say how a folder's metadata differs from its prompt's; "" where it does not."""
    path = folder / METADATA_NAME
    try:
        found = parse_line(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        return f"{folder.name} (no {METADATA_NAME})"
    except ValueError as error:  # UsageError and UnicodeDecodeError
        reason = str(error) if isinstance(error, UsageError) else "not UTF-8"
        return f"{folder.name} ({reason.removeprefix(f'{path}: ')})"
    if found != line:
        return f"{folder.name} ({found.prompt[:60]!r}, expected {line.prompt[:60]!r})"
    return ""
