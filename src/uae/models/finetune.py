"""Fine-tuning by LoRA or whole, with the frozen reference policy at hand.

The reference is the policy as it was before training. With LoRA it is the module without its
adapters; with full fine-tuning the old weights are kept and swapped in. Either way it is the same
module object, so encoder and decoder need not know.

Adapters are float32 over weights of any precision. Those of earlier stages are merged into float32
weights; into others they are not, where steps smaller than a rounding would be lost.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY, LORA_WEIGHT_NAME_SAFE
from peft import (
    LoraConfig,
    get_peft_model_state_dict,
    inject_adapter_in_model,
    set_peft_model_state_dict,
)
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from uae.core.errors import UsageError
from uae.models.targets import Targets
from uae.recipe.optimizer import FineTuneConfig

PEFT_PREFIX = "base_model.model."
_TRAINED = "default"  # PEFT's own name of an adapter


class FineTuning:
    """Makes a module trainable and keeps its reference.

    model.tune_encoder(FineTuneConfig(), seed=0)
    with model.encoder_tuning.reference(): ...   # the policy before training
    """

    def __init__(
        self,
        module: nn.Module,
        config: FineTuneConfig,
        targets: Targets,
        generator: torch.Generator,
        *,
        keep_reference: bool = True,
    ) -> None:
        self.module = module
        self.config = config
        module.requires_grad_(False)
        self._lora: LoraConfig | None = None
        self._reference: dict[str, Tensor] = {}
        self._earlier = _adapters_of(module)
        if config.mode == "lora":
            self._lora = LoraConfig(
                r=config.rank,
                lora_alpha=config.alpha,
                target_modules=targets.lora,
                init_lora_weights="gaussian",
            )
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(generator.initial_seed())
                inject_adapter_in_model(self._lora, module, _TRAINED)
            _make_float32(module)
            _set_active(module, [*self._earlier, _TRAINED], trained=_TRAINED)
            if not self.parameters():
                raise UsageError(
                    f"no layer of {type(module).__name__} is named as its family's LoRA targets: "
                    f"{targets.lora}"
                )
        else:
            if next(module.parameters()).dtype != torch.float32:
                raise UsageError(
                    "mode: full trains float32 weights: set placement.frozen to float32, or mode "
                    "to lora"
                )
            pattern = re.compile(targets.full)
            for name, parameter in module.named_parameters():
                parameter.requires_grad_(bool(pattern.fullmatch(name)))
            if keep_reference:
                self._reference = {n: p.detach().clone() for n, p in self.parameters().items()}

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trained parameters by name."""
        return {n: p for n, p in self.module.named_parameters() if p.requires_grad}

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Within this context the module is the reference policy, without gradients."""
        with torch.no_grad():
            self._swap(to_reference=True)
            try:
                yield
            finally:
                self._swap(to_reference=False)

    def _swap(self, *, to_reference: bool) -> None:
        if self._lora is not None:
            now = [] if to_reference else [_TRAINED]
            _set_active(self.module, [*self._earlier, *now], trained="".join(now))
            return
        assert self._reference, "the weights before training were not kept"
        for name, parameter in self.module.named_parameters():
            if name in self._reference:
                kept = parameter.data
                parameter.data = self._reference[name].to(kept.device)
                self._reference[name] = kept

    def save_adapter(self, folder: str | Path) -> None:
        """Write a folder that `peft.PeftModel.from_pretrained` loads over the base model."""
        assert self._lora is not None, "full fine-tuning has no adapter to save"
        tensors = get_peft_model_state_dict(self.module, adapter_name=_TRAINED)
        write_adapter(folder, tensors, self._lora)

    def save_pipeline_adapter(self, folder: str | Path, pipeline: type[Any]) -> None:
        """Write a transformer's adapter as `write_pipeline_adapter` does."""
        assert self._lora is not None, "full fine-tuning has no adapter to save"
        tensors = get_peft_model_state_dict(self.module, adapter_name=_TRAINED)
        write_pipeline_adapter(folder, tensors, self._lora, pipeline)


def write_adapter(folder: str | Path, tensors: Mapping[str, Tensor], config: LoraConfig) -> None:
    """Write an adapter, its weights by the names of the plain module, in PEFT's layout."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {PEFT_PREFIX + n: t.detach().contiguous().cpu() for n, t in tensors.items()},
        folder / "adapter_model.safetensors",
    )
    config.save_pretrained(str(folder))


def write_pipeline_adapter(
    folder: str | Path, tensors: Mapping[str, Tensor], config: LoraConfig, pipeline: type[Any]
) -> None:
    """Write a transformer's adapter beside PEFT's file, for `pipe.load_lora_weights`.

    Either library knows only its own file by its own names of the weights.
    """
    part, targets = pipeline.transformer_name, config.target_modules
    metadata = {  # without it diffusers takes alpha for the rank
        f"{part}.r": config.r,
        f"{part}.lora_alpha": config.lora_alpha,
        f"{part}.target_modules": targets if isinstance(targets, str) else sorted(targets or ()),
    }
    # one entry alone: safetensors writes several in an order of chance
    save_file(
        {f"{part}.{n}": t.detach().contiguous().cpu() for n, t in tensors.items()},
        Path(folder) / LORA_WEIGHT_NAME_SAFE,
        {LORA_ADAPTER_METADATA_KEY: json.dumps(metadata, sort_keys=True)},
    )


def add_adapter(module: nn.Module, folder: str | Path) -> None:
    """Add a LoRA adapter, saved in PEFT's layout, to the weights of its base; see above.

    Raises:
        UsageError: The adapter belongs to another base.
    """
    folder = Path(folder)
    name = f"earlier_{len(_adapters_of(module))}"
    inject_adapter_in_model(LoraConfig.from_pretrained(str(folder)), module, name)
    _make_float32(module)  # before they are filled: PEFT makes them of the base's precision
    tensors = load_file(folder / "adapter_model.safetensors")
    result = set_peft_model_state_dict(
        module, {key.removeprefix(PEFT_PREFIX): value for key, value in tensors.items()}, name
    )
    if result.unexpected_keys:
        raise UsageError(
            f"{folder}: {result.unexpected_keys[0]!r} has no place in this model; expected an "
            "adapter trained over the base beside it"
        )
    missing = [key for key in result.missing_keys if f".{name}." in key]
    if missing:
        raise UsageError(f"{folder}: it lacks {missing[0]!r} of its own layers: copy it again")
    if keeps_adapters(module):
        _set_active(module, _adapters_of(module), trained="")
        return
    for path, layer in _wrapped(module).items():
        layer.merge()
        module.set_submodule(path, layer.get_base_layer())
    del module.peft_config  # left by the injection; a later adapter would warn of a second one
    module.requires_grad_(False)


def merge_adapters(module: nn.Module) -> None:
    """Add the adapters that stayed beside the weights to them, in float32, and round once."""
    for path, layer in _wrapped(module).items():
        base = layer.get_base_layer()
        change = sum(layer.get_delta_weight(name).float() for name in _adapters_of(module))
        base.weight.data = (base.weight.float() + change).to(base.weight.dtype)
        module.set_submodule(path, base)
    vars(module).pop("peft_config", None)


def keeps_adapters(module: nn.Module) -> bool:
    """Tell whether earlier adapters stay beside the weights, which are not float32."""
    return next(module.parameters()).dtype != torch.float32


@contextmanager
def without_adapters(module: nn.Module) -> Iterator[None]:
    """Within this context a module is plain again, as its class saves and loads it."""
    wrapped = _wrapped(module)
    try:
        for name, layer in wrapped.items():
            module.set_submodule(name, layer.get_base_layer())
        yield
    finally:
        for name, layer in wrapped.items():
            module.set_submodule(name, layer)


def _adapters_of(module: nn.Module) -> list[str]:
    """Return the names of the adapters in a module; PEFT keeps them there and nowhere else."""
    return [*vars(module).get("peft_config", {})]


def _wrapped(module: nn.Module) -> dict[str, Any]:
    return {n: m for n, m in module.named_modules() if isinstance(m, BaseTunerLayer)}


def _set_active(module: nn.Module, names: Sequence[str], trained: str) -> None:
    """Choose the adapters that count, and the one of them that learns; none where it is ""."""
    for layer in _wrapped(module).values():
        layer.enable_adapters(bool(names))
        if names:
            layer.set_adapter([*names])
        for linears in (layer.lora_A, layer.lora_B):
            for name, linear in linears.items():
                linear.requires_grad_(name == trained)


def _make_float32(module: nn.Module) -> None:
    for layer in _wrapped(module).values():
        layer.lora_A.float()
        layer.lora_B.float()
