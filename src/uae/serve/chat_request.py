"""The request for a chat, as OpenAI documents it and as clients of other servers send it.

What says nothing here is taken and passed over; what would change the reply is refused.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PositiveInt, StringConstraints, model_validator

from uae.serve.fields import Fields, refused

MAX_CHOICES = 10
MAX_TOP_LOGPROBS = 20

_CACHED = frozenset({"cache_control", "prompt_cache_breakpoint"})
"""Anthropic's and OpenAI's marks of what is worth keeping between requests."""


class TextPart(Fields):
    """A text."""

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
        """What was said."""
        return self.refusal


class ImageURL(Fields):
    """An image as a data: URL; `detail` changes nothing, the model has one resolution."""

    harmless: ClassVar = frozenset({"format"})

    url: str
    detail: Literal["auto", "low", "high", "original"] = "auto"


class ImagePart(Fields):
    """An image."""

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
    """What the model is told beforehand."""

    harmless: ClassVar = _CACHED | {"name"}

    role: Literal["system", "developer"]
    content: Said


class UserMessage(Fields):
    """A turn of the user."""

    harmless: ClassVar = _CACHED | {"name"}

    role: Literal["user"]
    content: Shown


class AssistantMessage(Fields):
    """A turn of the model, as servers return it; what it thought before is not read again."""

    neutral: ClassVar = {
        "tool_calls": ([],),
        "function_call": (),
        "audio": (),
        "images": ([],),
        "prefix": (False,),
    }
    harmless: ClassVar = _CACHED | {
        "name",
        "annotations",
        "citations",
        "parsed",
        "reasoning",
        "reasoning_content",
        "reasoning_details",
        "thinking",
        "thinking_blocks",
        "provider_specific_fields",
        "extra_content",
    }

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
    "min_p": (0,),
    "typical_p": (1,),
    "repetition_penalty": (1,),
    "repeat_penalty": (1,),
    "length_penalty": (1,),
    "mirostat": (0,),
    "use_beam_search": (False,),
    "best_of": (1,),
    "min_tokens": (0,),
    "ignore_eos": (False,),
    "stop_token_ids": ([],),
    "bad_words": ([],),
    "allowed_token_ids": (),
    "include_stop_str_in_output": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True, False),
    "truncate_prompt_tokens": (),
    "prompt_logprobs": (),
    "return_tokens_as_token_ids": (False,),
    "return_token_ids": (False,),
    "echo": (False,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "add_special_tokens": (False,),
    "chat_template": (),
    "chat_template_kwargs": ({}, {"enable_thinking": False}),
    "enable_thinking": (False,),
    "thinking": ({"type": "disabled"},),
    "documents": ([],),
    "mm_processor_kwargs": ({},),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "structured_outputs": (),
    "json_schema": (),
    "grammar": ("",),
    "regex": (),
    "ebnf": (),
    "options": ({},),
    "extra_body": ({},),
}
"""Fields of vLLM, SGLang, llama.cpp, Ollama and their clients; what asks for no choice is taken."""


class ChatRequest(Fields):
    """POST /v1/chat/completions."""

    neutral: ClassVar = {
        "frequency_penalty": (0,),
        "presence_penalty": (0,),
        "top_p": (1,),
        "logit_bias": ({},),
        "response_format": ({"type": "text"},),
        "modalities": (["text"],),
        "tools": ([],),
        "tool_choice": ("none", "auto"),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "audio": (),
        "moderation": (),
        "reasoning_effort": ("none",),
        "verbosity": ("medium",),
        "web_search_options": (),
        **_OF_OTHER_SERVERS,
    }
    harmless: ClassVar = frozenset(
        {
            "user",
            "metadata",
            "store",
            "service_tier",
            "safety_identifier",
            "prediction",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "parallel_tool_calls",
            # of vLLM, SGLang, llama.cpp, Ollama
            "cache_prompt",
            "cache_salt",
            "include_reasoning",
            "keep_alive",
            "priority",
            "request_id",
            "separate_reasoning",
            "stream_reasoning",
        }
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
