"""The rules of all configurations: unknown keys are errors, not defaults; differences in words."""

from typing import Annotated

from pydantic import ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
OpenShare = Annotated[float, Field(gt=0, lt=1)]
"""Neither 0 nor 1."""

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
"""Settings of every configuration: its keys are described by the texts below them."""


def config_differences(before: object, now: object, key: str = "") -> list[str]:
    """List the leaves that differ, one line each: `decoder_rl.lr: 0.1 in the run, 0.2 now`."""
    if isinstance(before, dict) and isinstance(now, dict):
        names = list(now) + [name for name in before if name not in now]
        missing = "absent"
        return [
            line
            for name in names
            for line in config_differences(
                before.get(name, missing), now.get(name, missing), f"{key}.{name}" if key else name
            )
        ]
    return [] if before == now else [f"{key}: {before} in the run, {now} now"]
