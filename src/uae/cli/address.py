"""The flags that say how an OpenAI-compatible address is asked."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter
from cyclopts.types import PositiveFloat, PositiveInt

if TYPE_CHECKING:
    from uae.backends.client import EndpointConfig

ADDRESS = Group("Address", sort_key=8)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AddressChoice:
    """How the address of an endpoint: model is asked."""

    key_env: Annotated[str, Parameter(group=ADDRESS)] = "OPENAI_API_KEY"
    """Environment variable that holds its API key."""
    timeout_s: Annotated[PositiveFloat, Parameter(group=ADDRESS)] = 120.0
    """Longest wait for an answer."""
    tries: Annotated[PositiveInt, Parameter(group=ADDRESS)] = 4
    """Attempts at what may pass: timeouts, rate limits, lost connections."""

    def config(self, url: str, model: str) -> "EndpointConfig":
        """Return how this model at this address is asked."""
        from uae.backends.client import EndpointConfig

        return EndpointConfig(
            base_url=url,
            model=model,
            api_key_env=self.key_env,
            timeout_s=self.timeout_s,
            max_tries=self.tries,
        )


BY_DEFAULT = AddressChoice()
