"""The weights of a module that are trained."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Names by regular expression, the whole name each."""

    lora: str
    """Linear layers that get an adapter."""
    full: str
    """Parameters that full fine-tuning trains."""
