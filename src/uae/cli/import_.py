"""`uae import`: a released checkpoint of others as a pair."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from uae.cli.join import backbones
from uae.cli.output import PLAINLY, SWITCH, Talk
from uae.core.ranks import check_alone


def import_(
    layout: Literal["authors"],
    folder: Path,
    *,
    out: Path,
    decoder: str = "stabilityai/stable-diffusion-3.5-large",
    similarity: Annotated[dict[str, str] | None, Parameter(accepts_keys=True)] = None,
    copy: Annotated[bool, SWITCH] = False,
    talk: Talk = PLAINLY,
) -> int:
    """Make a pair of the checkpoint that the paper's authors released.

    Try:
        uae import authors UAE --out pair
        uae import authors UAE --decoder sd3.5-large --out pair

    Settings are those of the authors' inference. All is loaded once; a weight that is missing,
    misshapen or left over is an error.

    Args:
        layout: How the checkpoint is laid out. authors: folders llm, llm_lora, dit and dit_lora,
            and llm_processor or llm_model_preprocessor.
        folder: Holds the checkpoint.
        out: New folder of the pair: projector and adapters, and links to the other weights.
        decoder: Folder or hub id of Stable Diffusion 3.5 large, for vae, schedule and text
            encoders; ID@REVISION for one version.
        similarity: Similarity backbones, such as --similarity.clip openai/clip-vit-large-patch14;
            by default CLIP and DINOv2.
        copy: Copy the weights into OUT.
        talk: Format and verbosity.
    """
    talk.begin()
    check_alone("uae import")
    from uae.models.authors import DIFFERENCES, import_authors

    assert layout == "authors"
    places = backbones(similarity)
    counts = import_authors(folder, decoder, out, similarity=places, copied=copy)
    matched = [
        f"{part}  " + ", ".join(f"{number} {kind}" for kind, number in kinds.items())
        for part, kinds in counts.items()
    ]
    lines = [str(out), *matched, *DIFFERENCES, f"next  uae reconstruct IMAGE --model {out}"]
    values = {"out": str(out), "matched": counts, "differences": DIFFERENCES}
    talk.result("\n".join(lines), values)
    return 0
