"""A refusal in the shape that OpenAI's clients read: {"error": {message, type, param, code}}."""

from collections.abc import Mapping

_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """Answer to a request that has no result.

    Args:
        status: HTTP status, 400 or more.
        message: What is wrong and what would be right.
        param: The field at fault.
        code: A word for programs.
        headers: Of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, dict[str, str | None]]:
        """Return the JSON of the response."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": str(self),
                "type": _TYPES.get(self.status, kind),
                "param": self.param,
                "code": self.code,
            }
        }
