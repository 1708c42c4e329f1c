"""Models of this package: the encoder writes captions and chats, the decoder draws."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoImageProcessor

from uae.backends import own
from uae.backends.answers import MAX_NEW_TOKENS
from uae.backends.failure import Failure
from uae.backends.first_token import Vocabulary
from uae.backends.reference import Given, Spec, weights_stamp
from uae.backends.roles import (
    Caption,
    Captioner,
    Chat,
    ChatReply,
    Generator,
    Request,
    Written,
    written,
)
from uae.core.provenance import ModelStamp, folder_digests
from uae.data.folder import NamedImage
from uae.data.opening import open_image
from uae.data.sources import to_images
from uae.data.untrusted.file import UnreadableImage
from uae.models.parts import adapters_of, locate, part_of
from uae.models.settings import SETTINGS_FILE, read_settings
from uae.models.unified import UnifiedAutoEncoder
from uae.models.vlm.family import Prompts
from uae.models.vlm.sampling import caption_stream, uniforms
from uae.runs.cut_captions import Reader

ENCODER_PARTS = ("encoder", SETTINGS_FILE)
DECODER_PARTS = ("projector", "decoder")


class Uae(Captioner, Generator, Chat):
    """A model of this package, by its own settings.

    A caption depends on the image and its name, not on its batch.
    """

    in_batches = True

    def __init__(self, model: UnifiedAutoEncoder, seed: int = 0, *, draws: bool = True) -> None:
        """Hold the model.

        Args:
            model: Sees and draws images in its own shapes, as in training.
            seed: Of noise and sampled words.
            draws: Keep the decoder, which takes memory.
        """
        self.encoder = model.encoder
        self._shapes = model.decoder.shapes
        self._max_new_tokens = model.settings.max_new_tokens
        self._seed = seed
        self._whole = model if draws else None
        limit = model.settings.max_caption_tokens
        self.reader = Reader(model.conditioner.num_tokens, limit) if draws else None

    @classmethod
    def open(cls, spec: Spec, given: Given) -> "Callable[[], Uae]":
        """Return what loads it; the folder is looked for at once; see `Backend.open`."""
        spec.check()
        return lambda: cls(own.load(spec.name, given.device), given.seed, draws=given.draws)

    @classmethod
    def stamp_of(cls, spec: Spec, given: Given) -> ModelStamp:
        """Say what its results depend on; see `Backend.stamp_of`."""
        parts = ENCODER_PARTS + DECODER_PARTS if given.draws else ENCODER_PARTS
        return weights_stamp(spec, given, "float32", lambda path: part_of(path) in parts)

    @property
    def model(self) -> UnifiedAutoEncoder:
        """Both halves."""
        assert self._whole is not None, "it was opened without its decoder"
        return self._whole

    @torch.no_grad()
    def write(self, items: Sequence[NamedImage], request: Request) -> list[Written | Failure]:
        """Return captions; a caption without words is a failure."""
        prompt = f"{self.encoder.caption_prompt} {request.instruction}"
        questions = [prompt] * len(items) if request.instruction else None
        draws = [caption_stream(self._seed, item.name, request.draw) for item in items]
        captions = self.encoder.sample(
            self.encoder.prompts([self._shapes.seen(item.image) for item in items], questions),
            uniforms(draws, self._max_new_tokens) if request.temperature else None,
            temperature=request.temperature or 1.0,
            max_new_tokens=self._max_new_tokens,
        )
        cut = captions.truncated.tolist()
        return [written(*caption) for caption in zip(captions.texts, cut, strict=True)]

    @torch.no_grad()
    def draw(self, captions: Sequence[Caption]) -> list[Image.Image | Failure]:
        """Return drawings; captions of one key share their noise, without one those of an image."""
        model = self.model
        noise = model.decoder.noise([caption.noise(self._seed) for caption in captions])
        conditions = model.condition([x.text for x in captions])
        return list(to_images(model.draw_conditions(conditions, noise, model.settings.sampling)))

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
        prompts = self._prompts(images, system, text)
        first = self._first(prompts) if with_first else None
        captions = self.encoder.sample(prompts, None, max_new_tokens=max_tokens)
        return ChatReply(captions.texts[0], first, bool(captions.truncated[0]))

    def begin(self, image: Image.Image, text: str) -> ChatReply:
        """Return the first token's probabilities; see `Chat.begin`."""
        return ChatReply("", self._first(self._prompts([image], "", text)))

    def _prompts(self, images: Sequence[Image.Image], system: str, text: str) -> Prompts:
        turns = (
            [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
        )
        parts = [*({"type": "image"} for _ in images), {"type": "text", "text": text}]
        return self.encoder.chat_prompts([[*turns, {"role": "user", "content": parts}]], images)

    def _first(self, prompts: Prompts) -> Vocabulary:
        log_p = self.encoder.next_log_probs(prompts)[0]
        return Vocabulary(self.encoder.tokenizer, log_p, log_p.exp())


class HiddenStates(Generator):
    """Our decoder on the hidden states of the caption as it was written, with the image in sight.

    No text bottleneck: what the words leave out may still reach the decoder. The paper's cold start
    trains this way (PKU-YuanGroup/UAE). Its runs have a name of their own.
    """

    in_batches = False

    def __init__(self, model: UnifiedAutoEncoder, paths: Mapping[str, Path], seed: int) -> None:
        self._model = model
        self._paths = paths
        self._seed = seed

    @torch.no_grad()
    def draw(self, captions: Sequence[Caption]) -> list[Image.Image | Failure]:
        """Return drawings, one caption at a time: their lengths differ."""
        return [self._draw(caption) for caption in captions]

    def _draw(self, caption: Caption) -> Image.Image | Failure:
        model, encoder = self._model, self._model.encoder
        try:
            image = model.decoder.shapes.seen(open_image(self._paths[caption.name]))
        except UnreadableImage as error:
            return Failure("unreadable image", str(error))
        ids = [*encoder.token_ids(caption.text), encoder.end_id]
        tokens = torch.tensor([ids], device=encoder.device)
        mask = torch.ones_like(tokens, dtype=torch.bool)
        reading = model.conditioner.read_in_sight(encoder.prompts([image]), tokens, mask)
        conditions = model.conditioner.finish(reading)
        noise = model.decoder.noise([caption.noise(self._seed)])
        return to_images(model.draw_conditions(conditions, noise, model.settings.sampling))[0]


def encoder_stamp(name: str, folder: Path, max_new_tokens: int = MAX_NEW_TOKENS) -> ModelStamp:
    """Say what the answers of an encoder depend on, without loading its weights.

    Args:
        name: Of the model, as the user gave it.
        folder: Its folder, see `models/unified.py`; the decoder answers no questions and is left
            out.
        max_new_tokens: Longest reply.

    Raises:
        OSError: The folder holds no encoder.
    """
    settings = read_settings(folder)
    reference = settings.parts.get("encoder")
    place = locate(folder, "encoder", reference)
    image_processor = AutoImageProcessor.from_pretrained(place)
    weights = {} if reference else {"encoder": place}
    weights |= {adapter.name: adapter for adapter in adapters_of(folder, "encoder")}
    files = {"encoder": reference.commit or reference.digest} if reference else {}
    limit = {"max_pixels": settings.max_pixels} if settings.max_pixels else {}
    return ModelStamp(
        name=name,
        dtype="float32",
        backend=f"transformers, {type(image_processor).__name__}",
        files=files
        | {
            f"{part}/{file}": digest
            for part, where in weights.items()
            for file, digest in folder_digests(where).items()
        },
        options={"max_new_tokens": max_new_tokens} | limit,
    )
