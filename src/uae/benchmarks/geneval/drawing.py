"""GenEval's prompts as pictures to draw in the official folder layout."""

from pathlib import Path

from uae.benchmarks.drawing import Picture
from uae.benchmarks.geneval.layout import sample_path, write_metadata
from uae.benchmarks.geneval.prompts import PromptSet
from uae.core.durable import storage_faults


def make_folders(root: Path, prompts: PromptSet) -> None:
    """Make the prompts' folders with their metadata.

    Raises:
        EnvironmentFault: They cannot be written.
    """
    with storage_faults("cannot write the images to", root):
        write_metadata(root, prompts)


def pictures_of(root: Path, prompts: PromptSet, num_samples: int) -> list[Picture]:
    """List the files that the prompts are drawn to."""
    return [
        Picture(
            sample_path(root, prompt_id, sample_id),
            line.prompt,
            (("geneval", prompt_id, sample_id),),
        )
        for prompt_id, line in enumerate(prompts.lines)
        for sample_id in range(num_samples)
    ]
