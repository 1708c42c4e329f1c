"""A client of any OpenAI-compatible address: chat with images, first-token logprobs, images.

    client = Client(EndpointConfig(base_url="http://localhost:8000/v1", model="qwen"))
    client.probe()
    reply = client.chat([image, "Is the bus red?"], max_tokens=1, logprobs=True)

It stands on the `openai` package (extra `endpoint`), which tries again by itself. What fails for
one request is an `EndpointFailure`; what would fail for all of them is a `UsageError`, which stops
a run that can be taken up again. The API key is read from the environment and stands in no message.

A parameter that the address refuses and a request can do without, see `DISPENSABLE`, is left out of
that request and all later ones, and a warning says so once.
"""

import importlib.util
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

from PIL import Image
from pydantic import PositiveFloat, PositiveInt, ValidationError
from pydantic.dataclasses import dataclass as config_dataclass

from uae.backends.endpoint_messages import (
    DISPENSABLE,
    Body,
    Completion,
    Drawing,
    masked,
    reason_of,
    to_part,
    without,
)
from uae.backends.failure import BackendFailed
from uae.core.config import STRICT
from uae.core.errors import EnvironmentFault, UsageError
from uae.data.base64_image import is_data_url, open_base64
from uae.data.untrusted.file import UnreadableImage

if TYPE_CHECKING:
    import openai

log = logging.getLogger(__name__)

B = TypeVar("B", bound=Body)

EXTRA = "endpoint"
NUM_TOP_LOGPROBS = 20
"""As many as the protocol allows."""

FailureReason = Literal[
    "timed out",
    "refused",
    "rate limited",
    "server error",
    "connection lost",
    "not accepted",
    "no answer",
]
"""`refused` by a content filter or by the model; `not accepted` as a request; `no answer`: empty,
or not of the protocol."""

_MAX_DETAIL = 300
_FILTERED = {"content_filter", "content_policy_violation", "moderation_blocked"}


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class EndpointConfig:
    """An address, the model behind it, and how long to wait for it."""

    base_url: str
    """Up to and with the version: http://localhost:8000/v1."""
    model: str
    """Name of the model there."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the API key; it need not be set where no key is asked for."""
    timeout_s: PositiveFloat = 120.0
    """Longest wait for a connection, and for the next bytes of an answer."""
    max_tries: PositiveInt = 4
    """Attempts in all at what may pass: timeouts, lost connections, rate limits, server errors."""


@dataclass(frozen=True, slots=True)
class TopToken:
    """One of the most probable first tokens, as text, and its log-probability."""

    token: str
    log_prob: float


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Attributes:
        text: As it came, blanks at both ends left out.
        finish_reason: "stop", or "length" where it was cut at `max_tokens`.
        model: What answered, by its own account: an alias shows its version here.
        top_logprobs: The first token's most probable values, if asked for; empty where the address
            does not tell them.
    """

    text: str
    finish_reason: str
    model: str
    top_logprobs: tuple[TopToken, ...] = ()

    @property
    def is_cut(self) -> bool:
        """Whether it ends at `max_tokens` rather than by itself."""
        return self.finish_reason == "length"


class EndpointFailure(BackendFailed):
    """One request came to nothing, after all its tries; the next one may go well."""

    def __init__(self, reason: FailureReason, detail: str) -> None:
        super().__init__(reason, detail)


class _ParameterRefused(EndpointFailure):
    """A request was not accepted for a parameter that it can do without."""

    def __init__(self, param: str, detail: str) -> None:
        super().__init__("not accepted", detail)
        self.param = param


@dataclass(frozen=True, slots=True)
class Refusal:
    """A parameter that a model behind an address does not take, see `DISPENSABLE`."""

    model: str
    base_url: str
    param: str


class Client:
    """A model behind an address."""

    def __init__(
        self, config: EndpointConfig, on_refusal: Callable[[Refusal], None] = lambda _: None
    ) -> None:
        """Make the client; nothing is sent yet.

        Args:
            config: What is asked, and how.
            on_refusal: Told of each parameter that is refused, once, before the request is sent
                without it.

        Raises:
            UsageError: The address is no http address, or holds a user, password or query.
            EnvironmentFault: The package `openai` is not installed.
        """
        _check_address(config.base_url)
        if importlib.util.find_spec("openai") is None:
            raise EnvironmentFault(
                f'{config.base_url} needs the package openai: pip install "uae[{EXTRA}]"'
            )
        from openai import OpenAI

        self.config = config
        self._on_refusal = on_refusal
        self._key = os.environ.get(config.api_key_env, "")
        self._client = OpenAI(
            base_url=config.base_url,
            api_key=self._key or "none",
            timeout=config.timeout_s,
            max_retries=config.max_tries - 1,
        )
        self._left_out: list[str] = []

    @property
    def refuses_logprobs(self) -> bool:
        """Whether it was asked for log-probabilities and refused them."""
        return not {"logprobs", "top_logprobs"}.isdisjoint(self._left_out)

    @property
    def no_logprobs(self) -> str:
        """Say that it tells no log-probabilities."""
        return (
            f"{self.config.model} at {self.config.base_url} tells no log-probabilities of its "
            f"first {NUM_TOP_LOGPROBS} tokens"
        )

    def probe(self) -> None:
        """Ask for the list of models, so that a wrong address or key shows at once.

        Raises:
            UsageError: Nothing answers there, or the key is refused.
        """
        try:
            with self._failures():
                self._client.with_options(max_retries=0).models.with_raw_response.list()
        except EndpointFailure as failure:
            if failure.reason in ("connection lost", "timed out"):  # any other is an answer
                raise UsageError(
                    f"{self.config.base_url} does not answer ({failure}): start the server, or "
                    "check the address"
                ) from None
        except _NotFound:
            return  # this list is no duty of a server

    def chat(
        self,
        parts: Sequence[str | Image.Image],
        *,
        system: str = "",
        max_tokens: int,
        temperature: float = 0.0,
        seed: int | None = None,
        logprobs: bool = False,
    ) -> Reply:
        """Send one user turn and return the answer.

        Args:
            parts: Texts and images in their order; images travel as PNG, in their own size.
            system: Text of a system turn before it, if any.
            max_tokens: Longest answer in tokens; `Reply.is_cut` tells where it was reached. Where
                refused it is sent as `max_completion_tokens`: a reasoning model's thinking counts.
            temperature: 0 asks for the most probable words. Where refused it is left out, and the
                answer is drawn at random.
            seed: Sent only if given, and left out where refused.
            logprobs: Ask for the first token's most probable values too; the text may be empty.
                Where refused the reply has none, see `refuses_logprobs`.

        Raises:
            EndpointFailure: No answer to this request.
            UsageError: The key or the model is refused: no request would be answered.
        """
        turns: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        turns.append({"role": "user", "content": [to_part(part) for part in parts]})
        options: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature}
        if seed is not None:
            options["seed"] = seed
        if logprobs:
            options |= {"logprobs": True, "top_logprobs": NUM_TOP_LOGPROBS}
        create = self._client.chat.completions.with_raw_response.create
        body = self._send(create, options, messages=turns)
        return self._reply(self._read(Completion, body), may_be_empty=logprobs)

    def image(
        self, prompt: str, *, size: tuple[int, int] | None = None, seed: int | None = None
    ) -> Image.Image:
        """Have an image drawn, and open it as any image from a stranger: upright RGB.

        Args:
            prompt: What to draw.
            size: Width and height in pixels; by default the model's own.
            seed: Sent only if given, and left out where refused, as by OpenAI's own models; it is
                no part of the protocol, but many servers know it.

        Raises:
            EndpointFailure: No image came; an address instead of one is not followed.
            UsageError: As for `chat`.
        """
        options: dict[str, Any] = {"response_format": "b64_json"}
        if seed is not None:
            options["seed"] = seed
        required = {} if size is None else {"size": f"{size[0]}x{size[1]}"}
        generate = self._client.images.with_raw_response.generate
        body = self._send(generate, options, prompt=prompt, n=1, **required)
        drawn = self._read(Drawing, body).data[0]
        encoded = drawn.b64_json or drawn.url or ""
        if not drawn.b64_json and drawn.url and not is_data_url(drawn.url):
            raise EndpointFailure("no answer", "an address instead of the image; none is followed")
        try:
            return open_base64(encoded, "the image")
        except UnreadableImage as error:
            raise EndpointFailure("no answer", str(error)) from None

    def _send(self, call: Callable[..., Any], options: Mapping[str, Any], **required: Any) -> str:
        """Send a request, and again with fewer options for each of them that is refused."""
        sent = reduce(without, self._left_out, options)
        try:
            return self._send_once(call, sent, required)
        except _ParameterRefused as refusal:
            if refusal.param not in sent:
                raise
            self._leave_out(refusal)
        return self._send(call, sent, **required)  # ends: each time `sent` has one name less

    def _leave_out(self, refusal: _ParameterRefused) -> None:
        self._left_out.append(refusal.param)
        log.warning(
            "%s at %s refuses %s (%s): %s",
            self.config.model,
            self.config.base_url,
            refusal.param,
            refusal.detail,
            DISPENSABLE[refusal.param],
        )
        self._on_refusal(Refusal(self.config.model, self.config.base_url, refusal.param))

    def _send_once(
        self, call: Callable[..., Any], options: Mapping[str, Any], required: Mapping[str, Any]
    ) -> str:
        try:
            with self._failures():  # a seed of images is no argument, so all options are the body's
                return call(model=self.config.model, **required, extra_body=options).text
        except _NotFound as error:
            raise UsageError(
                f"{self.config.base_url} knows no model {self.config.model!r}, or no such route "
                f"({error}): check both"
            ) from None

    def _read(self, kind: type[B], body: str) -> B:
        try:
            return kind.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            key = ".".join(map(str, first["loc"])) or "the body"
            raise EndpointFailure("no answer", f"{key}: {first['msg']}") from None

    def _reply(self, completion: Completion, *, may_be_empty: bool) -> Reply:
        choice = completion.choices[0]
        text = (choice.message.content or "").strip()
        if choice.message.refusal or choice.finish_reason == "content_filter":
            raise EndpointFailure("refused", self._clean(choice.message.refusal or text))
        first = choice.logprobs.content[:1] if choice.logprobs and choice.logprobs.content else []
        top = tuple(TopToken(x.token, x.logprob) for token in first for x in token.top_logprobs)
        if not text and not (may_be_empty and top):
            raise EndpointFailure("no answer", f"empty, finish reason {choice.finish_reason!r}")
        model = completion.model or self.config.model
        return Reply(text, choice.finish_reason or "stop", model, top)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Turn the package's errors into ours; none is chained, as a server may echo the key."""
        import openai

        try:
            yield
        except openai.APITimeoutError:
            waited = f"no answer within {self.config.timeout_s:g} s"
            raise EndpointFailure("timed out", waited) from None
        except openai.APIConnectionError as error:
            cause = type(error.__cause__ or error).__name__
            raise EndpointFailure("connection lost", cause) from None
        except openai.APIStatusError as error:
            raise self._status_failure(error) from None

    def _status_failure(self, error: "openai.APIStatusError") -> Exception:
        status, code, param = error.status_code, error.code, error.param
        url, said = self.config.base_url, reason_of(error.response.text)
        detail = self._clean(f"Error code: {status}" + (f" - {said}" if said else ""))
        if status in (401, 403):
            state = "is refused" if self._key else "is not set"
            return UsageError(
                f"{url} asks for a valid key (status {status}): the environment variable "
                f"{self.config.api_key_env} {state} ({detail})"
            )
        if status == 404 or code == "model_not_found":
            return _NotFound(detail)
        if code == "insufficient_quota":
            return UsageError(f"{url}: the account has no quota left ({detail})")
        if code in _FILTERED:
            return EndpointFailure("refused", detail)
        if status == 429:
            return EndpointFailure("rate limited", detail)
        if status == 400 and isinstance(param, str) and param in DISPENSABLE:
            return _ParameterRefused(param, detail)
        return EndpointFailure("server error" if status >= 500 else "not accepted", detail)

    def _clean(self, text: str) -> str:
        """Return a server's words on one line, short, and without the key."""
        return " ".join(masked(text, self._key).split())[:_MAX_DETAIL]


class _NotFound(Exception):
    """The server has no such route or model."""


def _check_address(url: str) -> None:
    if any(mark in url for mark in "@?#"):
        raise UsageError(
            "the address holds a user, a password or a query: it is written to files, so give the "
            "key by the environment"
        )
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port  # a ValueError if it is none
    except ValueError:
        is_address = False
    if not is_address:
        raise UsageError(f"{url!r} is no address: expected one such as http://localhost:8000/v1")
