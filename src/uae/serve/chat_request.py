"""The request for a chat, as OpenAI documents it and as clients of other servers send it.

What says nothing here is taken and passed over; what would change the reply is refused.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PositiveInt, StringConstraints, model_validator

from uae.serve.fields import Fields, refused

MAX_CHOICES = 10
MAX_TOP_LOGPROBS = 20


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _with(value: Any, names: str) -> dict[str, tuple[Any, ...]]:
    """Return parameters that change nothing under one value."""
    return dict.fromkeys(names.split(), (value,))


_CACHED = frozenset({"cache_control", "prompt_cache_breakpoint"})
"""Anthropic's and OpenAI's marks of what is worth keeping between requests."""


class TextPart(Fields):
    harmless: ClassVar = _CACHED | {"annotations", "citations"}

    type: Literal["text"]
    text: str


class RefusalPart(Fields):
    """A text by which a model refused."""

    harmless: ClassVar = _CACHED

    type: Literal["refusal"]
    refusal: str

    @property
    def text(self) -> str:
        return self.refusal


class ImageURL(Fields):
    """An image as a data: URL; `detail` changes nothing, the model has one resolution."""

    harmless: ClassVar = frozenset({"format"})

    url: str
    detail: Literal["auto", "low", "high", "original"] = "auto"


class ImagePart(Fields):
    harmless: ClassVar = _CACHED | {"uuid"}

    type: Literal["image_url"]
    image_url: Annotated[
        ImageURL, BeforeValidator(lambda x: {"url": x} if isinstance(x, str) else x)
    ]


def _listed(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


SaidPart = Annotated[TextPart | RefusalPart, Field(discriminator="type")]
Said = Annotated[list[SaidPart], BeforeValidator(_listed), Field(min_length=1)]
ShownPart = Annotated[TextPart | ImagePart, Field(discriminator="type")]
Shown = Annotated[list[ShownPart], BeforeValidator(_listed), Field(min_length=1)]


class SystemMessage(Fields):
    harmless: ClassVar = _CACHED | {"name"}

    role: Literal["system", "developer"]
    content: Said


class UserMessage(Fields):
    harmless: ClassVar = _CACHED | {"name"}

    role: Literal["user"]
    content: Shown


class AssistantMessage(Fields):
    """A turn of the model, as servers return it; what it thought before is not read again."""

    neutral: ClassVar = {
        **dict.fromkeys(("tool_calls", "images"), ([],)),
        **dict.fromkeys(("function_call", "audio"), ()),
        "prefix": (False,),
    }
    harmless: ClassVar = _CACHED | _names(
        "name annotations citations parsed reasoning reasoning_content reasoning_details thinking"
        " thinking_blocks provider_specific_fields extra_content"
    )

    role: Literal["assistant"]
    content: Annotated[list[SaidPart], BeforeValidator(_listed), Field(default_factory=list)]
    refusal: str | None = None
    """What was said instead of, or after, the content."""

    @model_validator(mode="after")
    def _says_something(self) -> "AssistantMessage":
        if not self.content and self.refusal is None:
            raise refused("content", "is required", code="missing_required_parameter")
        return self


ChatMessage = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]
StopText = Annotated[str, StringConstraints(min_length=1)]


class StreamOptions(Fields):
    """What a stream holds besides the text."""

    neutral: ClassVar = {"continuous_usage_stats": (False,)}

    include_usage: bool = False
    include_obfuscation: bool = False
    """Padding against listeners; there is none."""


_OF_OTHER_SERVERS: dict[str, tuple[Any, ...]] = {
    "top_k": (-1, 0),
    "spaces_between_special_tokens": (True, False),
    "chat_template_kwargs": ({}, {"enable_thinking": False}),
    "thinking": ({"type": "disabled"},),
    "grammar": ("",),
    **_with(0, "min_p mirostat min_tokens"),
    **_with(1, "typical_p repetition_penalty repeat_penalty length_penalty best_of"),
    **_with(True, "skip_special_tokens add_generation_prompt"),
    **_with(
        False,
        "use_beam_search ignore_eos include_stop_str_in_output return_tokens_as_token_ids"
        " return_token_ids echo continue_final_message add_special_tokens enable_thinking",
    ),
    **_with([], "stop_token_ids bad_words documents"),
    **_with({}, "mm_processor_kwargs options extra_body"),
    **dict.fromkeys(
        (
            *("allowed_token_ids", "truncate_prompt_tokens", "prompt_logprobs", "chat_template"),
            *("guided_json", "guided_regex", "guided_choice", "guided_grammar"),
            *("structured_outputs", "json_schema", "regex", "ebnf"),
        ),
        (),
    ),
}
"""Fields of vLLM, SGLang, llama.cpp, Ollama and their clients; what asks for no choice is taken."""


class ChatRequest(Fields):
    """POST /v1/chat/completions."""

    neutral: ClassVar = {
        **_with(0, "frequency_penalty presence_penalty"),
        "top_p": (1,),
        "logit_bias": ({},),
        "response_format": ({"type": "text"},),
        "modalities": (["text"],),
        **_with([], "tools functions"),
        **dict.fromkeys(("tool_choice", "function_call"), ("none", "auto")),
        **dict.fromkeys(("audio", "moderation", "web_search_options"), ()),
        "reasoning_effort": ("none",),
        "verbosity": ("medium",),
        **_OF_OTHER_SERVERS,
    }
    harmless: ClassVar = _names(
        "user metadata store service_tier safety_identifier prediction parallel_tool_calls"
        " prompt_cache_key prompt_cache_options prompt_cache_retention"
        # of vLLM, SGLang, llama.cpp, Ollama
        " cache_prompt cache_salt include_reasoning keep_alive priority request_id"
        " separate_reasoning stream_reasoning"
    )

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    temperature: float = Field(default=1.0, ge=0, le=2)
    max_tokens: PositiveInt | None = None
    max_completion_tokens: PositiveInt | None = None
    seed: int | None = None
    n: int = Field(default=1, ge=1, le=MAX_CHOICES)
    stop: Annotated[
        list[StopText],
        BeforeValidator(lambda stop: [stop] if isinstance(stop, str) else stop),
        Field(default_factory=list, max_length=4),
    ]
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=MAX_TOP_LOGPROBS)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
