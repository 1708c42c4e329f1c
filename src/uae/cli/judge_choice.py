"""The flags that choose who judges images, and loading it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter
from cyclopts.types import PositiveFloat, PositiveInt

from uae.cli.address import AddressChoice
from uae.core.errors import UsageError

if TYPE_CHECKING:
    from uae.backends.judge import Judge

JUDGE = Group("Judge", sort_key=8)
LOCAL = ("local", "vlm")
"""Two names of one kind."""


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
    def _kind(self) -> str:
        """What stands before the colon; of an address its scheme."""
        return self.judge.partition(":")[0]

    @property
    def _is_address(self) -> bool:
        return self.judge.startswith(("http://", "https://"))

    def check(self) -> None:
        """Refuse what names no judge, before anything is read.

        Raises:
            UsageError: Names the flag.
        """
        _, colon, name = self.judge.partition(":")
        is_named = bool(colon) and self._kind in (*LOCAL, "endpoint")
        if not is_named and not self._is_address:
            raise UsageError(
                f"--judge {self.judge}: expected local:FOLDER, local:HUB_ID, endpoint:MODEL@URL, "
                "or an address such as http://localhost:8000/v1"
            )
        if not name:
            expected = "MODEL@URL" if self._kind == "endpoint" else "a folder or hub id"
            raise UsageError(f"--judge {self.judge}: expected {expected} after the colon")
        if self._is_address and not self.judge_model:
            raise UsageError(f"--judge {self.judge}: give --judge-model, the model's name there")
        if is_named and self.judge_model:
            raise UsageError(
                f"--judge-model {self.judge_model} is for an address; --judge {self.judge} names "
                "the model itself"
            )

    def load(self, device: str, out: Path) -> "Judge":
        """Load the judge, or try its address.

        Args:
            device: As the command has it.
            out: The run folder, where it is kept what an address refuses.

        Raises:
            UsageError: There is none, or the address does not answer or refuses the key.
            EnvironmentFault: A package or device is missing.
        """
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
        return judge_of(Spec("--judge", self._kind, self.judge.partition(":")[2]), given)
