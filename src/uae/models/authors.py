# transformers' and diffusers' models are untyped
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportAttributeAccessIssue=false, reportArgumentType=false
"""The checkpoint that the paper's authors released (PKU-YuanGroup/UAE), as a pair of this package.

    llm/        Qwen2.5-VL-3B by its older names of weights; `denoise_projector` is the projector
    llm_lora/   a whole state of it after encoder RL, with adapters by the names of a wrapped module
    dit/        the transformer of SD3.5-large; all else of the pipeline is Stability's
    dit_lora/   PEFT's adapter after decoder RL
    llm_processor/ or llm_model_preprocessor/   what llm/ lacks of tokenizer and image processor

The pair holds the adapters and the projector; its encoder and decoder are folders of links. Every
weight of the four folders has a place, or is equal to one that has.
"""

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mode
from typing import Any

import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration

from uae.core.errors import UsageError
from uae.core.identity import folder_digest
from uae.models.dit.loading import read_config_of, read_index
from uae.models.finetune import PEFT_PREFIX, write_adapter, write_pipeline_adapter
from uae.models.folders import WEIGHTS, new_folder
from uae.models.join import pooled_of_nothing
from uae.models.loading import read_config, some_weights
from uae.models.parts import HALVES, locate, reference_to
from uae.models.projector import Projector
from uae.models.settings import ModelSettings, Reference, write_settings
from uae.models.unified import UnifiedAutoEncoder
from uae.models.vlm.causal import RELEASED_PROJECTOR
from uae.models.weights import Shapes, Weights
from uae.recipe.sampling import SamplingConfig

PARTS = ("llm", "llm_lora", "dit", "dit_lora")
PROCESSORS = ("llm_processor", "llm_model_preprocessor")
ALPHA = 64
"""Of the encoder's adapter: it stands in the authors' code alone."""
LINKS = ".links"
"""Folder of a pair with what its parts refer to; hidden, so that it is no part itself."""

SETTINGS = ModelSettings(
    caption_prompt="You are an expert vision-language model.  \n"
    "Your task is: Given an input image, generate a **textual description** of the image. If there "
    'is text in the image, transcribe it inside double quotes "".  \n'
    "Now, carefully analyze the input image and output the full description. \n",
    negative_caption="Generate a random, low quality, ugly, blur, bad and anime, cartoon image.",
    max_caption_tokens=512,
    max_new_tokens=512,
    sampling=SamplingConfig(num_steps=40, guidance_scale=5.0),
    condition="projector",
    max_pixels=65_536,
)
"""The authors' settings of inference."""
DIFFERENCES = (
    "padding is masked here: the authors' decoder also reads that of the shorter of caption and "
    "negative caption, so drawings differ a little",
)
"""Of the authors' inference, where there is no setting for it."""

_LORA = re.compile(r"(.+)\.(lora_[AB])\.default\.weight")
_LAYERS = {"0": "linear_1", "2": "linear_2"}


def import_authors(
    folder: Path,
    decoder: str,
    out: Path,
    *,
    similarity: Mapping[str, str],
    copied: bool = False,
) -> dict[str, dict[str, int]]:
    """Write the pair of a released checkpoint, and load it; return counts of weights by folder.

    Args:
        folder: Holds the four folders.
        decoder: Folder or hub id of Stability's pipeline, with its text encoders.
        out: New folder.
        similarity: Similarity backbones, name to place.
        copied: Whether the weights are copied into `out`.

    Raises:
        UsageError: `out` is there already, or a part is missing, misshapen or has a weight that is
            left over; names the first.
        EnvironmentFault: The hub cannot be reached, or the disk refuses.
    """
    _check_parts(folder)
    with new_folder(out) as draft:
        pipeline = locate(draft, "decoder", reference_to("--decoder", decoder, "decoder"))
        counts = {part: dict[str, int]() for part in PARTS}
        dit = _take_decoder(folder, pipeline, draft / "decoder_lora", counts)
        width = dit.joint_attention_dim
        projector = _take_encoder(folder, width, draft / "encoder_lora", counts)
        pooled = _pooled(pipeline, dit.pooled_projection_dim)
        _write_projector(projector, pooled, draft / "projector")
        place = draft if copied else draft / LINKS
        _gather(folder, pipeline, place, shutil.copyfile if copied else _link)
        settings = replace(SETTINGS, similarity={**similarity})
        write_settings(draft, settings if copied else _referring(settings, place, place))
        UnifiedAutoEncoder.from_pretrained(draft, dtype=torch.bfloat16)
        if not copied:
            write_settings(draft, _referring(settings, place, out.resolve() / LINKS))
    return counts


def _check_parts(folder: Path) -> None:
    """Refuse a folder of another layout.

    Raises:
        UsageError: Names what is missing.
    """
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise UsageError(
            f"{folder} lacks the folder{'s' * (len(missing) > 1)} {', '.join(missing)}: expected "
            f"those that the paper's authors released, {', '.join(PARTS)}"
        )
    places = [folder / name for name in ("llm", *PROCESSORS)]
    for file in ("tokenizer_config.json", "preprocessor_config.json"):
        if not any((place / file).is_file() for place in places):
            raise UsageError(f"{folder} lacks {file}: expected it in llm or {PROCESSORS[0]}")


# -- encoder --------------------------------------------------------------------------------------


def _take_encoder(
    folder: Path, width: int, out: Path, counts: dict[str, dict[str, int]]
) -> dict[str, Tensor]:
    """Check `llm` and `llm_lora`, write the adapter, and return the projector's weights.

    The projector learned in the run that made the adapters, so that of `llm_lora` goes first.
    """
    config = read_config(folder / "llm")
    if config.model_type != "qwen2_5_vl":
        raise UsageError(f"{folder / 'llm'} is a {config.model_type!r} model: expected qwen2_5_vl")
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(config)
    expected = _shapes(model)
    tied = ["lm_head.weight"] * bool(config.tie_word_embeddings)
    llm, lora = Weights(folder / "llm"), Weights(folder / "llm_lora")
    base, projector = _split(llm)
    llm.check(base, expected, unless=tied)
    counts["llm"] = {"encoder": len(base), "projector": len(projector)}

    again, newer = _split(lora)
    adapter = {f"{m[1]}.{m[2]}.weight": key for x, key in again.items() if (m := _LORA.match(x))}
    again = {name: key for name, key in again.items() if not _LORA.match(name)}
    lora.check(again, {x: shape for x, shape in expected.items() if x in again})
    if not adapter:
        raise UsageError(f"{lora.folder} lacks weights of adapters (*.lora_A.default.weight)")
    targets = sorted({name.rpartition(".lora_")[0].rpartition(".")[2] for name in adapter})
    rank = mode(lora.shapes[key][0] for name, key in adapter.items() if "lora_A" in name)
    peft = LoraConfig(
        r=rank,
        lora_alpha=ALPHA,
        target_modules=rf".*language_model\..*\.({'|'.join(targets)})",
        init_lora_weights="gaussian",
    )
    lora.check(adapter, _adapter_shapes(model, peft))
    _check_same(llm, base, lora, again)
    write_adapter(out, {name: lora[key].float() for name, key in adapter.items()}, peft)
    counts["llm_lora"] = {"adapter": len(adapter), "projector": len(newer), "as in llm": len(again)}
    owner, keys = (lora, newer) if newer else (llm, projector)
    hidden = config.get_text_config().hidden_size
    inner = owner.shapes.get(keys.get("linear_1.bias", ""), (4 * hidden,))[0]
    with torch.device("meta"):
        expected = _shapes(Projector(hidden, inner, width, 0))
    owner.check(keys, {x: shape for x, shape in expected.items() if x != "pooled"})
    return {name: owner[key].float() for name, key in keys.items()}


def _split(weights: Weights) -> tuple[dict[str, str], dict[str, str]]:
    """Return the keys of the encoder and of the projector, by their names here."""
    base, projector = dict[str, str](), dict[str, str]()
    for key in weights.shapes:
        name = key.replace("base_model.model.", "", 1).replace(".base_layer.", ".", 1)
        _, is_projector, rest = name.partition(RELEASED_PROJECTOR)
        layer, _, kind = rest.partition(".")
        if is_projector and layer in _LAYERS:
            projector[f"{_LAYERS[layer]}.{kind}"] = key
        else:
            base[_new_name(name)] = key
    return base, projector


def _new_name(key: str) -> str:
    """Return the name that transformers 5 gives a weight of Qwen2.5-VL."""
    key = re.sub(r"^visual\.", "model.visual.", key)
    return re.sub(r"^model\.(?!language_model\.|visual\.)", "model.language_model.", key)


def _check_same(
    llm: Weights, base: Mapping[str, str], lora: Weights, again: Mapping[str, str]
) -> None:
    """Refuse a state whose base is another than that of `llm`, to the precision that both have.

    Raises:
        UsageError: Names the weights that differ.
    """
    embeddings = base["model.language_model.embed_tokens.weight"]
    different: list[str] = []
    for name, key in again.items():
        ours, theirs = llm[base.get(name, embeddings)], lora[key]
        dtype = min(ours.dtype, theirs.dtype, key=lambda dtype: dtype.itemsize)
        if not torch.equal(ours.to(dtype), theirs.to(dtype)):
            different.append(key)
    if different:
        raise UsageError(
            f"{lora.folder}: {some_weights(sorted(different))} differ from those of {llm.folder}, "
            "where expected are adapters over the same weights"
        )


# -- decoder --------------------------------------------------------------------------------------


def _take_decoder(
    folder: Path, pipeline: Path, out: Path, counts: dict[str, dict[str, int]]
) -> Any:
    """Check `dit`, write its adapter, and return its settings."""
    if (name := read_index(pipeline)["_class_name"]) != "StableDiffusion3Pipeline":
        raise UsageError(f"--decoder {pipeline} is a {name}: expected StableDiffusion3Pipeline")
    config = read_config_of(folder / "dit")
    channels = read_config_of(pipeline / "vae")["latent_channels"]
    if config.get("in_channels") != channels:
        raise UsageError(
            f"{folder / 'dit'} draws {config.get('in_channels')} channels: the vae of --decoder "
            f"{pipeline} has {channels}"
        )
    with torch.device("meta"):
        dit = SD3Transformer2DModel.from_config(config)
    weights = Weights(folder / "dit")
    weights.check({key: key for key in weights.shapes}, _shapes(dit))
    counts["dit"] = {"decoder": len(weights.shapes)}

    place = folder / "dit_lora"
    try:
        peft = LoraConfig.from_pretrained(str(place))
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{place}: its adapter_config.json cannot be read ({error})") from error
    if not isinstance(peft, LoraConfig):
        raise UsageError(f"{place} is an adapter of the kind {peft.peft_type}: expected LoRA")
    weights = Weights(place)
    adapter = {key.removeprefix(PEFT_PREFIX): key for key in weights.shapes}
    weights.check(adapter, _adapter_shapes(dit, peft))
    peft.base_model_name_or_path = None  # a folder of the authors' machine
    tensors = {name: weights[key].float() for name, key in adapter.items()}
    write_adapter(out, tensors, peft)
    write_pipeline_adapter(out, tensors, peft, StableDiffusion3Pipeline)
    counts["dit_lora"] = {"adapter": len(adapter)}
    return dit.config


# -- both -----------------------------------------------------------------------------------------


def _shapes(module: nn.Module) -> Shapes:
    return {name: tuple(weight.shape) for name, weight in module.state_dict().items()}


def _adapter_shapes(module: nn.Module, config: LoraConfig) -> Shapes:
    """Return the shapes of an adapter's weights; the module, without weights itself, keeps it."""
    inject_adapter_in_model(config, module, low_cpu_mem_usage=True)
    state = get_peft_model_state_dict(module)
    return {name: tuple(weight.shape) for name, weight in state.items()}


def _pooled(pipeline: Path, width: int) -> Tensor:
    """Return the pooled vector of the empty text, the paper's constant.

    Raises:
        UsageError: The pipeline lacks what makes it, or makes one of another width.
    """
    if not all((pipeline / name).is_dir() for name in ("text_encoder", "text_encoder_2")):
        raise UsageError(
            f"--decoder {pipeline} lacks text_encoder or text_encoder_2: the decoder was trained "
            "with what they make of the empty text"
        )
    pooled = pooled_of_nothing(pipeline)
    if len(pooled) != width:
        raise UsageError(
            f"--decoder {pipeline}: its text encoders make a pooled vector of {len(pooled)}, and "
            f"dit reads one of {width}"
        )
    return pooled


def _write_projector(state: Mapping[str, Tensor], pooled: Tensor, out: Path) -> None:
    inner, hidden = state["linear_1.weight"].shape
    projector = Projector(hidden, inner, len(state["linear_2.bias"]), len(pooled))
    projector.load_state_dict({**state, "pooled": pooled})
    projector.save_pretrained(out)


def _gather(folder: Path, pipeline: Path, place: Path, put: Callable[[str, str], object]) -> None:
    """Make the folders of encoder and decoder out of those there are."""
    sources = [folder / name for name in PROCESSORS if (folder / name).is_dir()]
    unused = ("config.json", "generation_config.json", *WEIGHTS)
    for source, without in [(folder / "llm", ()), *((source, unused) for source in sources)]:
        _lay(source, place / "encoder", put, without)
    _lay(pipeline, place / "decoder", put, ("transformer",))
    _lay(folder / "dit", place / "decoder" / "transformer", put)


def _lay(
    source: Path, target: Path, put: Callable[[str, str], object], without: Sequence[str] = ()
) -> None:
    """Put the files of a folder, but for some patterns, over those of another."""
    ignore = shutil.ignore_patterns(".*", *without)
    shutil.copytree(source, target, ignore=ignore, copy_function=put, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
    Path(target).unlink(missing_ok=True)
    Path(target).symlink_to(Path(source).resolve())


def _referring(settings: ModelSettings, now: Path, later: Path) -> ModelSettings:
    """Return settings that refer to both halves where they will lie."""
    parts = {
        half: Reference(source=str(later / half), digest=folder_digest(now / half))
        for half in HALVES
    }
    return replace(settings, parts=parts)
