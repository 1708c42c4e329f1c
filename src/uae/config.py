"""What every configuration dataclass shares: an unknown key is an error, not a default."""

from pydantic import ConfigDict

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
