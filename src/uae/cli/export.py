"""`uae export`: a trained model for plain transformers, diffusers, vLLM or PEFT."""

from pathlib import Path
from typing import Annotated

from uae.cli.options import check_new
from uae.cli.output import PLAINLY, SWITCH, Talk
from uae.core.metrics_file import METRICS, read_metrics
from uae.core.ranks import check_alone
from uae.models.settings import find_settings, pinned, resolve

_FIGURES = "reconstruction/", "caption/"


def export(
    model: str,
    *,
    out: Path,
    encoder: Annotated[bool, SWITCH] = False,
    decoder: Annotated[bool, SWITCH] = False,
    adapters: Annotated[bool, SWITCH] = False,
    push_to: str = "",
    talk: Talk = PLAINLY,
) -> int:
    """Write a model so that plain transformers, diffusers, vLLM or PEFT load it.

    Try:
        uae export runs/photos/model --out exported
        uae export runs/photos/model --out captioner --encoder --push-to NAME/captioner

    OUT/encoder and OUT/decoder are whole models: adapters are merged in float32 and rounded once to
    the precision of their base, all else is as in the base.

    Args:
        model: Model folder, preset or ID@REVISION on the hub.
        out: New folder.
        encoder: Write the encoder alone.
        decoder: Write the decoder alone.
        adapters: Write the adapters alone, each with the name of its base.
        push_to: Model on the hub to upload OUT to, with a card; a new one is private.
        talk: Format and verbosity.
    """
    talk.begin()
    check_alone("uae export")
    model = pinned("MODEL", model)
    settings = find_settings(model)
    check_new(out)
    from uae.models.card import card_of, check_push, push
    from uae.models.export import export as write
    from uae.models.folders import linked_in_words
    from uae.models.parts import HALVES

    if push_to:
        check_push(push_to, settings, only_adapters=adapters)
    chosen = [half for half, is_chosen in zip(HALVES, (encoder, decoder), strict=True) if is_chosen]
    halves = chosen or list(HALVES)
    card = card_of(settings, halves, figures_of(model), only_adapters=adapters)
    write(model, out, halves, only_adapters=adapters, card=card)
    url = push(out, push_to) if push_to else ""
    text = f"{out}\n{linked_in_words(out)}" + (f"\n{url}" if url else "")
    talk.result(text, {"out": str(out), "halves": halves, "url": url})
    return 0


def figures_of(model: str) -> list[dict[str, float]]:
    """Return what was measured before and after the training of RUN/model; none elsewhere."""
    from uae.train.points import STAGE

    run = Path(resolve(model)).resolve().parent
    if not (run / "run.json").is_file() or not (run / METRICS).is_file():
        return []
    rows = [row for row in read_metrics(run / METRICS) if row["stage"] == STAGE]
    kept = [{k: v for k, v in row.items() if k.startswith(_FIGURES)} for row in rows]
    return [kept[0], kept[-1]] if len(kept) > 1 else []
