"""The flags that choose who judges images, and loading it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter
from cyclopts.types import PositiveFloat, PositiveInt

from uae.core.errors import UsageError

if TYPE_CHECKING:
    from uae.backends.judge import Judge

JUDGE = Group("Judge", sort_key=8)
LOCAL = "local:"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class JudgeChoice:
    """Who judges."""

    judge: Annotated[str, Parameter(group=JUDGE)]
    """local:FOLDER or local:HUB_ID of a vision-language model, or an OpenAI-compatible address."""
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
    def is_local(self) -> bool:
        """Whether the judge runs on this machine."""
        return self.judge.startswith(LOCAL)

    def check(self) -> None:
        """Refuse what names no judge, before anything is read.

        Raises:
            UsageError: Names the flag.
        """
        is_address = self.judge.startswith(("http://", "https://"))
        if not self.is_local and not is_address:
            raise UsageError(
                f"--judge {self.judge}: expected local:FOLDER, local:HUB_ID, or an address such as "
                "http://localhost:8000/v1"
            )
        if self.judge == LOCAL:
            raise UsageError(f"--judge {self.judge}: expected a folder or hub id after the colon")
        if is_address and not self.judge_model:
            raise UsageError(f"--judge {self.judge}: give --judge-model, the model's name there")
        if self.is_local and self.judge_model:
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
        if self.is_local:
            return self._load_local(device)
        from uae.backends.endpoint import Endpoint, EndpointConfig
        from uae.backends.endpoint_judge import EndpointJudge
        from uae.backends.refused_parameters import keeper

        endpoint = Endpoint(
            EndpointConfig(
                base_url=self.judge,
                model=self.judge_model or "",
                api_key_env=self.judge_key_env,
                timeout_s=self.judge_timeout_s,
                max_tries=self.judge_tries,
            ),
            keeper(out),
        )
        endpoint.probe()
        return EndpointJudge(endpoint)

    def _load_local(self, device: str) -> "Judge":
        import torch

        from uae.backends.loading import load_vlm

        dtype = getattr(torch, self.judge_dtype)
        return load_vlm("--judge", self.judge, self.judge.removeprefix(LOCAL), device, dtype)
