# transformers' and diffusers' models are untyped
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""A model folder written for others: plain transformers, diffusers, vLLM or PEFT load its parts.

    encoder/    transformers: adapters merged, all other files as in its base
    decoder/    a diffusers pipeline: adapters merged into its transformer, all else as in its base
    projector/  where the decoder reads the encoder's states
    uae.json    where both halves are there, so that the folder is a model of this package too

Merged weights are summed in float32 and rounded once, to the precision of the base.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from uae.core.errors import UsageError
from uae.models.dit.loading import class_of, load_part, read_index
from uae.models.dit.table import dit_loader
from uae.models.finetune import add_adapter, merge_adapters
from uae.models.folders import WEIGHTS, new_folder, put
from uae.models.parts import HALVES, adapters_of, locate
from uae.models.settings import ModelSettings, Reference, find_settings, resolve, write_settings
from uae.models.vlm.table import vlm_loader

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def export(
    name: str,
    out: Path,
    halves: Sequence[str] = HALVES,
    *,
    only_adapters: bool = False,
    card: str = "",
) -> None:
    """Write the halves of a model into a new folder; see above.

    Args:
        name: The model's folder, or a preset.
        out: New folder.
        halves: "encoder", "decoder" or both.
        only_adapters: Leave the bases where they are.
        card: Text of the README.md.

    Raises:
        UsageError: `name` is no model, `out` is there already, a base is not there or has changed,
            or there are no adapters where they are wanted.
        EnvironmentFault: The hub cannot be reached, or the disk refuses.
    """
    settings, folder = find_settings(name), Path(resolve(name))
    adapters = {half: adapters_of(folder, half) for half in halves}
    if only_adapters and not any(adapters.values()):
        raise UsageError(
            f"model {name!r}: it has no adapters of {' or '.join(halves)}: leave out --adapters"
        )
    with new_folder(out) as draft:
        (draft / "README.md").write_text(card, encoding="utf-8")
        if settings.condition == "projector" and "decoder" in halves:
            put(folder / "projector", draft / "projector")
        if only_adapters:
            for half in halves:
                for adapter in adapters[half]:
                    _write_adapter(adapter, _base(folder, half, settings), draft / adapter.name)
        else:
            places = {half: locate(folder, half, settings.parts.get(half)) for half in halves}
            if "decoder" in halves:
                dit_loader(places["decoder"], settings.condition)
                _write_decoder(places["decoder"], adapters["decoder"], draft / "decoder")
            if "encoder" in halves:
                _write_encoder(
                    places["encoder"], adapters["encoder"], settings.max_pixels, draft / "encoder"
                )
            settings = replace(settings, parts={})
        if {*halves} == {*HALVES} and (not only_adapters or {*settings.parts} == {*HALVES}):
            write_settings(draft, settings)


def _write_encoder(
    place: Path, adapters: Sequence[Path], max_pixels: int | None, out: Path
) -> None:
    family = vlm_loader(place)(place, stored_dtype(place))
    if adapters:
        _merge(family.model, adapters)
        family.model.save_pretrained(out)
    put(place, out, without=WEIGHTS if adapters else ())
    if max_pixels:
        family.limit_pixels(max_pixels)
        family.image_processor.save_pretrained(out)
        _forget_image_processor(out / "processor_config.json")


def _forget_image_processor(path: Path) -> None:
    """Drop the settings that a processor would read before those of `preprocessor_config.json`."""
    if path.is_file():
        values = json.loads(path.read_text(encoding="utf-8"))
        values.pop("image_processor", None)
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _write_decoder(place: Path, adapters: Sequence[Path], out: Path) -> None:
    index = read_index(place)
    for part in index:
        if (place / part).is_dir() and not (part == "transformer" and adapters):
            put(place / part, out / part)
    if adapters:
        base = place / "transformer"
        transformer = load_part(class_of(index["transformer"]), base, stored_dtype(base))
        _merge(transformer, adapters)
        transformer.save_pretrained(out / "transformer")
        put(base, out / "transformer", without=WEIGHTS)
    (out / "model_index.json").write_bytes((place / "model_index.json").read_bytes())


def _merge(module: Any, adapters: Sequence[Path]) -> None:
    for adapter in adapters:
        add_adapter(module, adapter)
    merge_adapters(module)


def _base(folder: Path, half: str, settings: ModelSettings) -> Reference:
    inside = Reference(source=str((folder / half).resolve()))
    return settings.parts.get(half, inside)


def _write_adapter(adapter: Path, base: Reference, out: Path) -> None:
    """Copy an adapter, with the base that it belongs to as PEFT looks for it."""
    put(adapter, out)
    path = out / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": base.source, "revision": base.commit or None}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def stored_dtype(folder: Path) -> torch.dtype:
    """Return the precision that most weights of a folder have; float32 where none says so."""
    counts: Counter[str] = Counter()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118 - it is no mapping
                counts[file.get_slice(key).get_dtype()] += 1
    for name, _ in counts.most_common():
        if name in _DTYPES:
            return _DTYPES[name]
    return torch.float32
