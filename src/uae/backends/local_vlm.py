# transformers' auto classes are untyped
# pyright: reportCallIssue=false, reportAttributeAccessIssue=false, reportArgumentType=false
"""Any image-text-to-text model of transformers on this machine, or our own encoder.

It writes captions and answers questions about several images too.

Of the Qwen VL family the inputs are built from image processor, tokenizer and chat template, as in
`models/vlm/qwen2_5_vl.py`: its processor class wants torchvision for videos.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    GenerationConfig,
)

from uae.backends.judge import JudgeFailed, JudgeStamp
from uae.core.memory import left_out_if_too_large
from uae.core.provenance import weights_digest
from uae.models.finetune import merge_adapter
from uae.models.plain_text import BLANK, PlainText
from uae.models.settings import SETTINGS_FILE, resolve

_QWEN = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5")


class LocalVlm:
    """Describes, answers and judges (see `Judge`), by default with the most probable words.

    One question at a time.
    """

    def __init__(self, model: Any, processor: "ChatProcessor", name: str) -> None:
        """Hold the parts; `LocalVlm.from_pretrained` loads them."""
        self.model = model.eval()
        self.processor = processor
        own = model.generation_config
        # the folder's penalties and temperatures would change what is most probable
        model.generation_config = GenerationConfig(
            do_sample=False, eos_token_id=own.eos_token_id, pad_token_id=own.pad_token_id
        )
        self._name = name

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        revision: str = "main",
    ) -> "LocalVlm":
        """Load a folder or hub id; of a model folder of this package the encoder is taken.

        Args:
            name: Folder, preset or hub id.
            device: Where it runs.
            dtype: Of its weights.
            revision: Commit, branch or tag of a hub id.

        Raises:
            OSError: There is no such model.
            ValueError: It is no image-text-to-text model.
        """
        source: Path | str = resolve(name)
        root = Path(source)
        is_ours = (root / SETTINGS_FILE).is_file()
        if is_ours:
            source = root / "encoder"
        model = AutoModelForImageTextToText.from_pretrained(source, dtype=dtype, revision=revision)
        if is_ours and (root / "encoder_lora").exists():
            merge_adapter(model, root / "encoder_lora")
        processor = ChatProcessor.from_pretrained(source, model.config, revision)
        return cls(model.to(device), processor, name)

    @property
    def stamp(self) -> JudgeStamp:
        """Say what the answers depend on; all weights are read for it, once."""
        return self._stamp

    @functools.cached_property
    def _stamp(self) -> JudgeStamp:
        return JudgeStamp(
            kind="local",
            name=self._name,
            dtype=str(self.model.dtype).removeprefix("torch."),
            weights=weights_digest(self.model),
            options={"processor": self.processor.name, "device": self.model.device.type},
        )

    def reply(self, image: Image.Image, system: str, text: str, max_tokens: int) -> str:
        """Return the reply; see `Judge.reply`."""
        with _judged():
            return self.generate([image], system, text, max_tokens)[0]

    @torch.no_grad()
    def generate(
        self,
        images: Sequence[Image.Image],
        system: str,
        text: str,
        max_tokens: int,
        *,
        temperature: float = 0.0,
    ) -> tuple[str, bool]:
        """Return a text, and whether it reached `max_tokens` without an end.

        The images stand before the text, in their order. Above 0 the temperature samples from
        torch's own generator, without top-p or top-k.
        """
        inputs = self._inputs(images, system, text)
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        output = self.model.generate(
            **inputs, max_new_tokens=max_tokens, **(sampling if temperature else {})
        )
        new_ids = output[0, inputs["input_ids"].shape[1] :]
        is_cut = len(new_ids) >= max_tokens and int(new_ids[-1]) not in self._end_ids
        return self._text(new_ids), is_cut

    @torch.no_grad()
    def reply_with_logits(
        self, images: Sequence[Image.Image], text: str, max_tokens: int
    ) -> tuple[str, Float[Tensor, " v"]]:
        """Return the most probable text, and the raw logits of its first token, float32."""
        inputs = self._inputs(images, "", text)
        output = self.model.generate(
            **inputs, max_new_tokens=max_tokens, output_logits=True, return_dict_in_generate=True
        )
        new_ids = output.sequences[0, inputs["input_ids"].shape[1] :]
        return self._text(new_ids), output.logits[0][0].float()

    def _text(self, new_ids: Int[Tensor, " t"]) -> str:
        return self.processor.tokenizer.decode(new_ids, skip_special_tokens=True).strip()

    @property
    def _end_ids(self) -> list[int]:
        ids = self.model.generation_config.eos_token_id
        return ids if isinstance(ids, list) else [ids]

    @torch.no_grad()
    def p_of(
        self, image: Image.Image, question: str, answers: Sequence[Sequence[str]]
    ) -> list[float]:
        """Return the mass of the forms' first tokens, softmax in float32; see `Judge.p_of`."""
        with _judged():
            logits = self.model(**self._inputs([image], "", question)).logits[0, -1]
        shares = logits.float().softmax(-1)
        counted: set[int] = set()
        masses = []
        for forms in answers:
            first_ids = {self._first_id(form) for form in forms} - counted
            counted |= first_ids
            masses.append(min(float(shares[sorted(first_ids)].sum()), 1.0))
        if not all(map(math.isfinite, masses)):
            raise JudgeFailed("judge: not finite", f"probabilities {masses}", can_retry=False)
        return masses

    def _first_id(self, form: str) -> int:
        return self.processor.tokenizer(form, add_special_tokens=False)["input_ids"][0]

    def _inputs(self, images: Sequence[Image.Image], system: str, text: str) -> dict[str, Tensor]:
        inputs = self.processor([image.convert("RGB") for image in images], system, text)
        for key, value in inputs.items():
            dtype = self.model.dtype if value.is_floating_point() else None
            inputs[key] = value.to(self.model.device, dtype)
        return inputs


def _judged() -> AbstractContextManager[None]:
    return left_out_if_too_large(lambda why, detail: JudgeFailed(f"judge: {why}", detail))


class ChatProcessor:
    """Turns images and a question into a model's inputs, by its chat template."""

    def __init__(self, processor: Any, tokenizer: Any, image_token: str, merge_area: int) -> None:
        """Hold the parts.

        Args:
            processor: The model's processor, or for the Qwen VL family its image processor.
            tokenizer: Holds the chat template of the Qwen VL family.
            image_token: That of the Qwen VL family; empty for others.
            merge_area: Patches that make one of its tokens.
        """
        self.processor = processor
        self.tokenizer = tokenizer
        self.image_token = image_token
        self.merge_area = merge_area
        template = tokenizer.chat_template if image_token else processor.chat_template
        self._plain = PlainText(tokenizer, template)

    @classmethod
    def from_pretrained(
        cls, source: str | Path, config: Any, revision: str = "main"
    ) -> "ChatProcessor":
        """Load what belongs to a model of this config.

        Raises:
            ValueError: There is no chat template.
        """
        if not config.model_type.startswith(_QWEN):
            processor = AutoProcessor.from_pretrained(source, revision=revision)
            if not processor.chat_template:
                raise ValueError("its processor has no chat template, so it answers no questions")
            return cls(processor, processor.tokenizer, "", 1)
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
        image_token = tokenizer.convert_ids_to_tokens(config.image_token_id)
        merge_area = config.vision_config.spatial_merge_size**2
        images = AutoImageProcessor.from_pretrained(source, revision=revision)
        return cls(images, tokenizer, image_token, merge_area)

    @property
    def name(self) -> str:
        """Its class, which can decide how an image is resized."""
        return type(self.processor).__name__

    def __call__(self, images: Sequence[Image.Image], system: str, text: str) -> dict[str, Tensor]:
        """Return the inputs of one turn: the images, if there are any, then the text.

        System and text are plain text; to a processor, which tokenises by itself, a blank says so.
        """
        if not self.image_token:
            system, text = (self._plain.broken(x, BLANK) for x in (system, text))
        content = [*({"type": "image"} for _ in images), {"type": "text", "text": text}]
        turns: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if system:
            turns.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
        options = {"tokenize": False, "add_generation_prompt": True}
        if self.image_token:
            chat = self.tokenizer.apply_chat_template(self._plain.messages(turns), **options)
            return self._qwen_inputs(images, chat)
        chat = self.processor.apply_chat_template(turns, **options)
        # the template has written the special tokens, those at the beginning too
        given = {"add_special_tokens": False, "return_tensors": "pt"}
        return dict(self.processor(images=list(images) or None, text=[chat], **given))

    def _qwen_inputs(self, images: Sequence[Image.Image], chat: str) -> dict[str, Tensor]:
        seen = dict(self.processor(images=list(images), return_tensors="pt")) if images else {}
        num_patches = seen["image_grid_thw"].prod(1).tolist() if images else []
        first, *others = chat.split(self.image_token, len(images))
        tokens = [self.image_token * (num // self.merge_area) for num in num_patches]
        chat = first + "".join(itertools.chain(*zip(tokens, others, strict=True)))
        encoded = self._plain.encode([chat], "right")
        image_id = self.tokenizer.convert_tokens_to_ids(self.image_token)
        return {
            "input_ids": encoded["input_ids"],
            "attention_mask": encoded["attention_mask"],
            "mm_token_type_ids": (encoded["input_ids"] == image_id).int(),
            **seen,
        }
