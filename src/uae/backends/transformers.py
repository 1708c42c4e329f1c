# transformers' auto classes are untyped
# pyright: reportCallIssue=false, reportAttributeAccessIssue=false, reportArgumentType=false
"""Image-text-to-text models of transformers on this machine, our own encoders too."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, GenerationConfig, LogitsProcessor

from uae.backends.failure import BackendFailed, Failure, one_by_one
from uae.backends.first_token import Vocabulary
from uae.backends.judge import JudgeStamp, Judging
from uae.backends.reference import Given, Spec, name_of, weights_stamp
from uae.backends.roles import (
    MAX_NEW_TOKENS,
    Captioner,
    ChatReply,
    Request,
    Written,
    written,
)
from uae.core.device import device_of
from uae.core.errors import EnvironmentFault, UsageError
from uae.core.provenance import ModelStamp, weights_digest
from uae.data.folder import NamedImage
from uae.models.finetune import add_adapter
from uae.models.hub import found
from uae.models.loading import load_whole
from uae.models.parts import adapters_of, place_of
from uae.models.settings import SETTINGS_FILE, resolve
from uae.models.vlm.chat_processor import ChatProcessor
from uae.models.vlm.sampling import caption_stream

_VIDEO_PACKAGE = "torchvision"
"""What transformers asks for by a ValueError, for processors that take videos too."""


class Transformers(Captioner, Judging):
    """A vision-language model, one image or question at a time."""

    in_batches = False

    def __init__(
        self, model: Any, processor: ChatProcessor, name: str, prompt: str = "", seed: int = 0
    ) -> None:
        """Hold the parts; `from_pretrained` loads them.

        Args:
            model: Of transformers.
            processor: Makes its inputs.
            name: Folder, preset or hub id.
            prompt: Asks for a caption; it stands after the image.
            seed: Of sampled words.
        """
        self.model = model.eval()
        self.processor = processor
        own = model.generation_config
        # the folder's penalties and temperatures would change what is most probable
        model.generation_config = GenerationConfig(
            do_sample=False, eos_token_id=own.eos_token_id, pad_token_id=own.pad_token_id
        )
        self._name = name
        self._prompt = prompt
        self._seed = seed

    @classmethod
    def open(cls, spec: Spec, given: Given) -> "Callable[[], Transformers]":
        """Return what loads it; see `Backend.open`.

        Raises:
            EnvironmentFault: When loaded: its processor needs a package that is not installed.
        """
        return lambda: cls._load(spec, given)

    @classmethod
    def stamp_of(cls, spec: Spec, given: Given) -> ModelStamp:
        """Say what its results depend on; see `Backend.stamp_of`."""
        return weights_stamp(spec, given, name_of(given.dtype))

    @classmethod
    def _load(cls, spec: Spec, given: Given) -> "Transformers":
        revision, device = spec.commit or "main", device_of(given.device)
        try:
            with found(spec.flag, spec.shown):
                return cls.from_pretrained(
                    spec.name, device, given.dtype, revision, given.prompt, given.seed
                )
        except UsageError:
            raise
        except (ImportError, ValueError) as error:
            if isinstance(error, ImportError) or _VIDEO_PACKAGE in str(error):
                raise EnvironmentFault(
                    f"{spec.flag} {spec.shown} needs a package that is not installed: {error}"
                ) from error
            # transformers' word for another kind of model
            raise UsageError(
                f"{spec.flag} {spec.shown} is no vision-language model: {error}"
            ) from error

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        revision: str = "main",
        prompt: str = "",
        seed: int = 0,
    ) -> "Transformers":
        """Load a folder or hub id; of a model folder of this package the encoder is taken.

        Args:
            name: Folder, preset or hub id.
            device: Where it runs.
            dtype: Of its weights.
            revision: Commit, branch or tag of a hub id.
            prompt: Asks for a caption.
            seed: Of sampled words.

        Raises:
            OSError: There is no such model.
            ValueError: It is no image-text-to-text model.
            UsageError: Weights are missing, damaged or of other shapes.
        """
        source: Path | str = resolve(name)
        root = Path(source)
        is_ours = (root / SETTINGS_FILE).is_file()
        if is_ours:
            source = place_of(root, "encoder")
        model = load_whole(AutoModelForImageTextToText, source, dtype=dtype, revision=revision)
        for adapter in adapters_of(root, "encoder") if is_ours else ():
            add_adapter(model, adapter)
        processor = ChatProcessor.from_pretrained(source, model.config, revision)
        return cls(model.to(device), processor, name, prompt, seed)

    @property
    def judge_stamp(self) -> JudgeStamp:
        """Say what its verdicts depend on; all weights are read for it, once."""
        return self._judge_stamp

    @functools.cached_property
    def _judge_stamp(self) -> JudgeStamp:
        return JudgeStamp(
            kind="local",
            name=self._name,
            dtype=name_of(self.model.dtype),
            weights=weights_digest(self.model),
            options={"processor": self.processor.name, "device": self.model.device.type},
        )

    def write(self, items: Sequence[NamedImage], request: Request) -> list[Written | Failure]:
        """Return captions, sampled without top-p or top-k."""
        return one_by_one("captioner", items, lambda item: self._write(item, request))

    def _write(self, item: NamedImage, request: Request) -> Written | Failure:
        prompt = f"{self._prompt} {request.instruction}".strip()
        sampling = {"do_sample": True, "temperature": request.temperature, "top_k": 0, "top_p": 1.0}
        seed = caption_stream(self._seed, item.name, request.draw).initial_seed()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            inputs = self._inputs([item.image], "", prompt)
            new_ids = self._generate(
                inputs, MAX_NEW_TOKENS, **(sampling if request.temperature else {})
            )
        return written(self._text(new_ids), self._is_cut(new_ids, MAX_NEW_TOKENS))

    def chat(
        self,
        images: Sequence[Image.Image],
        text: str,
        *,
        system: str = "",
        max_tokens: int,
        with_first: bool = False,
    ) -> ChatReply:
        """Return the answer, always with its first token's probabilities; see `Chat.chat`."""
        first = _FirstLogits()
        inputs = self._inputs(images, system, text)
        new_ids = self._generate(inputs, max_tokens, logits_processor=[first])
        [logits] = first.logits
        if logits.isnan().any():
            detail = "the first token's probabilities are NaN; try another --dtype"
            raise BackendFailed("not finite", detail, can_retry=False)
        shares = Vocabulary.of_logits(self.processor.tokenizer, logits)
        return ChatReply(self._text(new_ids), shares, self._is_cut(new_ids, max_tokens))

    @torch.no_grad()
    def begin(self, image: Image.Image, text: str) -> ChatReply:
        """Return the first token's probabilities; see `Chat.begin`."""
        logits = self.model(**self._inputs([image], "", text)).logits[0, -1]
        return ChatReply("", Vocabulary.of_logits(self.processor.tokenizer, logits))

    @torch.no_grad()
    def _generate(
        self, inputs: dict[str, Tensor], max_tokens: int, **options: Any
    ) -> Int[Tensor, " t"]:
        output = self.model.generate(**inputs, max_new_tokens=max_tokens, **options)
        return output[0, inputs["input_ids"].shape[1] :]

    def _text(self, new_ids: Int[Tensor, " t"]) -> str:
        return self.processor.tokenizer.decode(new_ids, skip_special_tokens=True).strip()

    def _is_cut(self, new_ids: Int[Tensor, " t"], max_tokens: int) -> bool:
        ends = self.model.generation_config.eos_token_id
        end_ids = ends if isinstance(ends, list) else [ends]
        return len(new_ids) >= max_tokens and int(new_ids[-1]) not in end_ids

    def _inputs(self, images: Sequence[Image.Image], system: str, text: str) -> dict[str, Tensor]:
        inputs = self.processor([image.convert("RGB") for image in images], system, text)
        for key, value in inputs.items():
            dtype = self.model.dtype if value.is_floating_point() else None
            inputs[key] = value.to(self.model.device, dtype)
        return inputs


class _FirstLogits(LogitsProcessor):
    """Keeps the first token's raw logits and changes none; all tokens' would fill the memory."""

    def __init__(self) -> None:
        self.logits: list[Float[Tensor, " v"]] = []

    def __call__(
        self, input_ids: Int[Tensor, "n t"], scores: Float[Tensor, "n v"]
    ) -> Float[Tensor, "n v"]:
        if not self.logits:
            self.logits.append(scores[0].clone())
        return scores
