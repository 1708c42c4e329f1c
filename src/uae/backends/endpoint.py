"""Models behind an OpenAI-compatible address; `client.py` asks them."""

import hashlib
from collections.abc import Callable, Sequence

from PIL import Image

from uae.backends.client import Client, EndpointConfig, EndpointFailure
from uae.backends.failure import Failure, one_by_one
from uae.backends.first_token import NoLogProbs, TopTokens
from uae.backends.judge import JudgeStamp, Judging
from uae.backends.reference import Given, Spec
from uae.backends.refused_parameters import keeper
from uae.backends.roles import (
    MAX_NEW_TOKENS,
    Caption,
    Captioner,
    ChatReply,
    Generator,
    Request,
    Written,
    written,
)
from uae.core.errors import UsageError
from uae.core.provenance import ModelStamp
from uae.data.folder import NamedImage


class Endpoint(Captioner, Generator, Judging):
    """A model behind an address, one request at a time; it chats at temperature 0.

    Probabilities cover the most probable first tokens alone.
    """

    in_batches = False

    def __init__(
        self,
        client: Client,
        prompt: str = "",
        seed: int = 0,
        size: tuple[int, int] | None = None,
    ) -> None:
        """Hold the client.

        Args:
            client: Its config says what is asked.
            prompt: Asks for a caption.
            seed: Of noise and sampled words.
            size: Width and height in pixels of drawings, by default the model's own.
        """
        self.client = client
        self._prompt = prompt
        self._seed = seed
        self._size = size

    @classmethod
    def open(cls, spec: Spec, given: Given) -> "Callable[[], Endpoint]":
        """Return it, asked for already; see `Backend.open`."""
        model, _, url = spec.name.rpartition("@")
        if not model:
            raise UsageError(
                f"{spec.flag} endpoint:{spec.name}: expected endpoint:MODEL@URL, such as "
                "endpoint:qwen@http://localhost:8000/v1"
            )
        endpoint = cls.at(given.address(url, model), given)
        return lambda: endpoint

    @classmethod
    def at(cls, config: EndpointConfig, given: Given) -> "Endpoint":
        """Return the model behind an address that answers.

        Raises:
            UsageError: Nothing answers there.
        """
        client = Client(config, keeper(given.out))
        client.probe()
        return cls(client, given.prompt, given.seed, given.size)

    @classmethod
    def stamp_of(cls, spec: Spec, given: Given) -> ModelStamp:
        """Say what is known of it; see `Backend.stamp_of`."""
        return ModelStamp(name=spec.name, dtype="unknown", backend="endpoint")

    @property
    def judge_stamp(self) -> JudgeStamp:
        """Say what its verdicts depend on, as far as it is known."""
        config = self.client.config
        return JudgeStamp(
            kind="endpoint",
            name=config.model,
            dtype="unknown",
            options={"base_url": config.base_url},
        )

    def write(self, items: Sequence[NamedImage], request: Request) -> list[Written | Failure]:
        """Return captions; a cut one is kept as it is."""
        return one_by_one("captioner", items, lambda item: self._write(item, request))

    def _write(self, item: NamedImage, request: Request) -> Written | Failure:
        reply = self.client.chat(
            [f"{self._prompt} {request.instruction}".strip(), item.image],
            max_tokens=MAX_NEW_TOKENS,
            temperature=request.temperature,
            seed=self._seed + request.draw if request.temperature else None,
        )
        return written(reply.text, reply.is_cut)

    def draw(self, captions: Sequence[Caption]) -> list[Image.Image | Failure]:
        """Return drawings; the seed of each follows its name."""
        return one_by_one("generator", captions, self._draw)

    def _draw(self, caption: Caption) -> Image.Image:
        name = caption.name.encode(errors="surrogateescape")  # of files: any bytes
        digest = hashlib.sha256(f"{self._seed} ".encode() + name).digest()
        seed = int.from_bytes(digest[:4], "big") >> 1
        return self.client.image(caption.text, size=self._size, seed=seed)

    def chat(
        self,
        images: Sequence[Image.Image],
        text: str,
        *,
        system: str = "",
        max_tokens: int,
        with_first: bool = False,
    ) -> ChatReply:
        """Return the answer; see `Chat.chat`."""
        return self._ask([*images, text], system, max_tokens, with_first=with_first)

    def begin(self, image: Image.Image, text: str) -> ChatReply:
        """Return the first token's probabilities; see `Chat.begin`."""
        return self._ask([image, text], "", 1, with_first=True, may_be_empty=True)

    def _ask(
        self,
        parts: Sequence[str | Image.Image],
        system: str,
        max_tokens: int,
        *,
        with_first: bool,
        may_be_empty: bool = False,
    ) -> ChatReply:
        try:
            reply = self.client.chat(
                parts, system=system, max_tokens=max_tokens, logprobs=with_first
            )
        except EndpointFailure as failure:
            if with_first and self.client.refuses_logprobs:  # a reasoning model may say nothing
                raise NoLogProbs(self.client.no_logprobs) from failure
            raise
        if not reply.text and not may_be_empty:
            raise EndpointFailure("no answer", f"empty, finish reason {reply.finish_reason!r}")
        if with_first and not reply.top_logprobs:
            raise NoLogProbs(self.client.no_logprobs)
        first = TopTokens(reply.top_logprobs) if with_first else None
        return ChatReply(reply.text, first, reply.is_cut, reply.model)
