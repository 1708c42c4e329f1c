"""The flags that choose who judges images, and loading it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter
from cyclopts.types import PositiveFloat, PositiveInt

from uae.backends.ours import check_named
from uae.cli.address import AddressChoice
from uae.core.errors import UsageError

if TYPE_CHECKING:
    from uae.backends.judge import Judge

JUDGE = Group("Judge", sort_key=8)
NAMES = {"local": "a folder or hub id", "vlm": "a folder or hub id", "endpoint": "MODEL@URL"}
"""The kinds of the package, and what stands after the colon of each."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class JudgeChoice:
    """Who judges."""

    judge: Annotated[str, Parameter(group=JUDGE)]
    """local:FOLDER or local:HUB_ID (vlm: means the same), endpoint:MODEL@URL, or an address."""
    judge_model: Annotated[str | None, Parameter(group=JUDGE)] = None
    """Name of the model at that address."""
    judge_key_env: Annotated[str, Parameter(group=JUDGE)] = "OPENAI_API_KEY"
    """Environment variable that holds the address's API key."""
    judge_timeout_s: Annotated[PositiveFloat, Parameter(group=JUDGE)] = 120.0
    """Longest wait for an answer from the address."""
    judge_tries: Annotated[PositiveInt, Parameter(group=JUDGE)] = 4
    """Attempts at what may pass: timeouts, rate limits, lost connections."""
    judge_dtype: Annotated[Literal["float32", "bfloat16"], Parameter(group=JUDGE)] = "float32"
    """Of a local judge's weights and arithmetic."""

    @property
    def _is_address(self) -> bool:
        return self.judge.startswith(("http://", "https://"))

    def check(self) -> None:
        """Refuse what names no judge, before anything is read."""
        kind, colon, name = self.judge.partition(":")
        if self._is_address:
            if not self.judge_model:
                raise UsageError(
                    f"--judge {self.judge}: give --judge-model, the model's name there"
                )
        elif not colon or not _is_known(kind):
            raise UsageError(
                f"--judge {self.judge}: expected local:FOLDER, local:HUB_ID, endpoint:MODEL@URL, "
                "or an address such as http://localhost:8000/v1"
            )
        elif not name:
            expected = NAMES.get(kind, "a name")
            raise UsageError(f"--judge {self.judge}: expected {expected} after the colon")
        elif self.judge_model:
            raise UsageError(
                f"--judge-model {self.judge_model} is for an address; --judge {self.judge} names "
                "the model itself"
            )
        else:
            check_named("--judge", self.judge)

    def load(self, device: str, out: Path) -> "Judge":
        """Load the judge, or try its address."""
        import torch

        from uae.backends.endpoint import Endpoint
        from uae.backends.judge import ChatJudge
        from uae.backends.load import judge_of
        from uae.backends.reference import Given, Spec

        address = AddressChoice(
            key_env=self.judge_key_env, timeout_s=self.judge_timeout_s, tries=self.judge_tries
        )
        given = Given("", 0, device, getattr(torch, self.judge_dtype), out, address.config)
        if self._is_address:
            return ChatJudge(Endpoint.at(address.config(self.judge, self.judge_model or ""), given))
        kind, _, name = self.judge.partition(":")
        return judge_of(Spec("--judge", kind, name), given)


def _is_known(kind: str) -> bool:
    """Whether a backend of this kind judges; those of the package are known without loading it."""
    if kind in NAMES:
        return True
    from uae.backends.judge import Judging
    from uae.backends.load import kinds

    return kind in kinds(Judging)
