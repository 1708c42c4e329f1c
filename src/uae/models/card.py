"""The README.md of an exported model, and its way to the hub."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from huggingface_hub import HfApi, ModelCardData
from huggingface_hub.errors import HFValidationError, HTTPError, LocalTokenNotFoundError
from huggingface_hub.utils import validate_repo_id

from uae.core.errors import EnvironmentFault, UsageError
from uae.models.parts import HALVES
from uae.models.settings import ModelSettings

_LIBRARIES = {"encoder": "transformers", "decoder": "diffusers"}
_TASKS = {"encoder": "image-text-to-text", "decoder": "text-to-image"}
_LOADING = {
    "encoder": "AutoModelForImageTextToText.from_pretrained(FOLDER, subfolder='encoder')",
    "decoder": "DiffusionPipeline.from_pretrained('FOLDER/decoder')",
}
_PROJECTED = """
The decoder takes `prompt_embeds`: the encoder's last hidden states of the caption, as a turn of the
role `generate`, through `projector/` (`linear_2(gelu(linear_1(states)))`), and the constant
`pooled` in it as `pooled_prompt_embeds`.
"""

Figures = Sequence[Mapping[str, float]]
"""Metrics of a run at the evaluation points, the first and the last."""


def card_of(
    settings: ModelSettings, halves: Sequence[str], figures: Figures, *, only_adapters: bool = False
) -> str:
    """Write the README.md of an exported model, with its head for the hub.

    Args:
        settings: Of the model.
        halves: Those that were exported.
        figures: Of the run that trained it; empty where there is none.
        only_adapters: Whether the bases were left out.
    """
    bases = {half: settings.parts[half] for half in halves if half in settings.parts}
    alone = halves[0] if len(halves) == 1 else None
    library = "peft" if only_adapters else _LIBRARIES[alone] if alone else "uae"
    head = ModelCardData(
        base_model=[base.source for base in bases.values() if base.commit] or None,
        base_model_relation=("adapter" if only_adapters else "finetune") if bases else None,
        license="unknown",
        library_name=library,
        pipeline_tag=_TASKS[alone] if alone else None,
        tags=["uae", *(["lora"] if only_adapters else []), *halves],
    ).to_yaml()
    lines = [f"---\n{head}\n---", "# A unified multimodal auto-encoder", _purpose(halves)]
    for half in halves:
        base = bases.get(half)
        origin = (
            f"`{base.source}`" + (f" at `{base.commit}`" if base.commit else "") if base else ""
        )
        what = "adapters over" if only_adapters else "trained from"
        lines.append(f"- {half}: {what} {origin or 'weights of its own'}")
    if not only_adapters:
        lines += ["\n```python", *(_LOADING[half] for half in halves), "```"]
    if settings.condition == "projector" and "decoder" in halves:
        lines.append(_PROJECTED)
    lines.append(f"\nThe encoder is asked:\n\n```text\n{settings.caption_prompt}\n```")
    lines += _table(figures)
    return "\n".join(lines) + "\n"


def _purpose(halves: Sequence[str]) -> str:
    does = {"encoder": "describes images in words", "decoder": "draws images from such words"}
    who = "A pair of models of which one" if len(halves) == 2 else f"The {halves[0]} of a pair: it"
    return f"\n{who} {' and the other '.join(does[half] for half in halves)}.\n"


def _table(figures: Figures) -> list[str]:
    if not figures:
        return []
    first, last = figures[0], figures[-1]
    rows = [
        f"| `{name}` | {first[name]:.3f} | {last[name]:.3f} |" for name in first if name in last
    ]
    head = [
        "\nHeld-out images of the training run:\n",
        "| metric | before | after |",
        "|---|---|---|",
    ]
    return [*head, *rows]


@contextmanager
def _reaching_hub(repo_id: str, then: str = "") -> Iterator[None]:
    try:
        yield
    except HFValidationError as error:
        raise UsageError(f"--push-to {repo_id}: {error}") from error
    except LocalTokenNotFoundError as error:
        raise UsageError(f"--push-to {repo_id}: log in first, by `hf auth login`") from error
    except (HTTPError, ConnectionError) as error:
        reason = " ".join(str(error).split())
        raise EnvironmentFault(f"--push-to {repo_id}: the hub fails: {reason}{then}") from error


def check_push(repo_id: str, settings: ModelSettings, *, only_adapters: bool) -> None:
    """Refuse what would fail, or serve nobody, after minutes of work.

    Raises:
        UsageError: It is no name of a model on the hub, nobody is logged in, or adapters belong to
            a base that others do not have.
        EnvironmentFault: The hub cannot be reached.
    """
    for half in HALVES if only_adapters else ():
        base = settings.parts.get(half)
        if base is None or not base.commit:
            where = base.source if base else "the model's folder"
            raise UsageError(
                f"--push-to {repo_id}: the base of its {half} lies in {where}, where others cannot "
                "load it: leave out --adapters"
            )
    with _reaching_hub(repo_id):
        validate_repo_id(repo_id)
        HfApi().whoami()


def push(folder: Path, repo_id: str) -> str:
    """Upload an exported model, and return its address; a new repository is private.

    Raises:
        UsageError, EnvironmentFault: The hub refuses, or cannot be reached.
    """
    with _reaching_hub(
        repo_id, f"; {folder} is whole: `hf upload {repo_id} {quote(str(folder))}` goes on"
    ):
        HfApi().create_repo(repo_id, private=True, exist_ok=True)
        return str(HfApi().upload_folder(repo_id=repo_id, folder_path=folder))
