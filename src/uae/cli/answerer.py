"""The flags that choose which model answers questions, and loading it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Parameter
from cyclopts.types import PositiveInt

from uae.backends.ours import check_named
from uae.cli.address import BY_DEFAULT, AddressChoice
from uae.cli.unified_bench import Dtype

if TYPE_CHECKING:
    from uae.backends.answers import McqModel
    from uae.core.provenance import ModelStamp


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AnswererChoice:
    """What answers."""

    model: str = "uae-tiny"
    """Model folder, preset or ID@REVISION, or vlm:FOLDER_OR_HUB_ID, endpoint:MODEL@URL."""
    max_new_tokens: PositiveInt = 128
    """Longest reply; what is cut off is not read."""
    dtype: Dtype = "float32"
    """Of a vlm model's weights."""
    address: AddressChoice = BY_DEFAULT
    """How an address is asked."""

    def check(self) -> None:
        """Refuse what names no model of this package, before anything is read."""
        check_named("--model", self.model)

    def load(self, device: str, out: Path) -> "tuple[Callable[[], McqModel], ModelStamp]":
        """Return what loads the model, and what its answers depend on; raises `UsageError`."""
        import torch

        from uae.backends.load import answers_of, answers_stamp, kinds
        from uae.backends.reference import Given, Spec, check_dtype
        from uae.backends.roles import Chat

        spec = Spec.read_model("--model", self.model, kinds(Chat))
        check_dtype(self.dtype, spec)
        given = Given("", 0, device, getattr(torch, self.dtype), out, self.address.config)
        load = answers_of(spec, given, self.max_new_tokens)
        return load, answers_stamp(spec, given, self.max_new_tokens)
