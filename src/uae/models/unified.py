# diffusers declares `to` with an overload that pyright cannot bind
# pyright: reportArgumentType=false
"""The unified multimodal auto-encoder: encoder, conditioner and decoder in one folder.

    image --encoder--> caption --conditioner--> condition --decoder--> image'

Folder layout (each part loads without this package):
    uae.json        settings, and where a part lies if it is not here
    encoder/        transformers (model, tokenizer, image processor)
    projector/      diffusers ModelMixin, unless the decoder reads captions by itself
    decoder/        diffusers pipeline, without text encoders where there is a projector
    encoder_lora/   PEFT adapter over encoder/, where there is one
    decoder_lora/   PEFT adapter over decoder/transformer/, where there is one, and the same again
                    as a diffusers pipeline reads it

Over a part that lies elsewhere, or is not float32, each stage of training adds an adapter:
encoder_lora, encoder_lora_2 and so on. Into another part the earlier ones are merged.
"""

import logging
import shutil
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from uae.core.durable import give_usual_rights
from uae.core.errors import UsageError
from uae.data.shapes import Size, buckets_of
from uae.flow.noise import stream
from uae.models.batches import parts_of
from uae.models.conditions import Conditions
from uae.models.dit.decoder import Decoder
from uae.models.dit.table import dit_loader
from uae.models.finetune import FineTuning, add_adapter, keeps_adapters, without_adapters
from uae.models.loading import check_weights
from uae.models.narrow import Narrow, check_elsewhere, narrow_blocks
from uae.models.native import Native
from uae.models.offload import Offload
from uae.models.parts import HALVES, adapters_of, locate
from uae.models.projector import Projected, Projector, check_widths, load_projector
from uae.models.settings import (
    SETTINGS_FILE,
    ModelSettings,
    expected_model,
    pinned,
    read_settings,
    resolve,
    write_settings,
)
from uae.models.vlm.encoder import Captions, Encoder
from uae.models.vlm.family import TrainedFamily
from uae.models.vlm.sampling import caption_stream, uniforms
from uae.models.vlm.table import vlm_loader
from uae.recipe.optimizer import FineTuneConfig
from uae.recipe.sampling import SamplingConfig

log = logging.getLogger(__name__)

TOKENIZER = "encoder/tokenizer.json"  # without it transformers makes an empty one


class UnifiedAutoEncoder:
    """Both halves of the loop.

    model = UnifiedAutoEncoder.from_pretrained("uae-tiny")
    captions, pixels = model.reconstruct(images)
    """

    def __init__(
        self,
        encoder: Encoder,
        projector: Projector | None,
        decoder: Decoder,
        settings: ModelSettings,
    ) -> None:
        """Join the parts; without a projector the decoder reads captions by itself."""
        self.encoder = encoder
        self.projector = projector
        self.conditioner = Projected(encoder, projector) if projector else Native(decoder.family)
        self.decoder = decoder
        self.settings = settings
        self.encoder_tuning: FineTuning | None = None
        self.decoder_tuning: FineTuning | None = None
        self._earlier: dict[str, list[Path]] = {"encoder": [], "decoder": []}
        self.offload = Offload({})

    # -- files --------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        narrow: Narrow | None = None,
    ) -> "UnifiedAutoEncoder":
        """Load a model by folder, preset or hub id, with the adapters that belong to it.

        Args:
            name: The folder, preset, or ID@REVISION on the hub.
            device: Of all parts.
            dtype: Of the weights; adapters and projector are float32.
            narrow: Holds the weights of blocks in fewer bits, for arithmetic in bfloat16. The
                halves must lie elsewhere: no folder is written of them.

        Raises:
            UsageError: The folder is not a model of this package, or a file of it is damaged, or a
                part is not the one that it was joined with; names what is missing, or the file.
            EnvironmentFault: A part lies on the hub, which cannot be reached.
        """
        folder = Path(resolve(pinned("model", name) if isinstance(name, str) else name))
        settings = read_settings(folder) if (folder / SETTINGS_FILE).exists() else None
        _check_parts(folder, str(name), settings)
        assert settings is not None
        check_weights(folder)
        places = {part: locate(folder, part, settings.parts.get(part)) for part in HALVES}
        load_vlm = vlm_loader(places["encoder"], settings.condition)
        load_dit = dit_loader(places["decoder"], settings.condition)
        if settings.condition == "projector":
            check_widths(folder / "projector", places["encoder"], places["decoder"])
        decoder = Decoder(
            load_dit(places["decoder"], dtype),
            settings.size_px,
            own_shapes=settings.shapes == "own",
        )
        encoder = Encoder(load_vlm(places["encoder"], dtype), settings.caption_prompt)
        if settings.max_pixels:
            encoder.family.limit_pixels(settings.max_pixels)
        projector = None
        if settings.condition == "projector":
            projector = load_projector(folder / "projector", torch.float32)
        model = cls(encoder, projector, decoder, settings)
        if narrow:  # before adapters, which stay float32
            check_elsewhere(settings, f"{folder}: {narrow}")
            if isinstance(encoder.family, TrainedFamily):
                narrow_blocks(encoder.family.layers, narrow)
            narrow_blocks(decoder.transformer, narrow)
        for half, module in model._modules().items():
            for adapter in adapters_of(folder, half):
                add_adapter(module, adapter)
                if half in settings.parts or keeps_adapters(module):
                    model._earlier[half].append(adapter)
        return model.to(device)

    def _modules(self) -> dict[str, torch.nn.Module]:
        return {"encoder": self.encoder.model, "decoder": self.decoder.transformer}

    def to(self, device: str) -> "UnifiedAutoEncoder":
        """Move all parts."""
        self.encoder.to(device)
        if self.projector is not None:
            self.projector.to(device)
        self.decoder.to(device)
        return self

    @property
    def drawing(self) -> Sequence[str]:
        """The halves that are at work where captions are read and drawn."""
        return ("decoder",) if self.projector is None else ("encoder", "decoder")

    def take_turns(self, halves: Collection[str], device: str) -> None:
        """Let some halves wait in CPU memory from now on, and move the rest; see `Offload`."""
        moves = {"encoder": self.encoder.to, "decoder": self.decoder.to}
        for half, move in moves.items():
            if half not in halves:
                move(device)
        if self.projector is not None:
            self.projector.to(device)
        self.offload = Offload({half: moves[half] for half in HALVES if half in halves}, device)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the folder described above; LoRA adapters stay adapters over the base weights.

        A part that lies elsewhere is not copied, unless all of its weights were trained.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tunings = {"encoder": self.encoder_tuning, "decoder": self.decoder_tuning}
        parts = dict(self.settings.parts)
        for half, tuning in tunings.items():
            is_whole = tuning is not None and tuning.config.mode == "full"
            if is_whole:
                parts.pop(half, None)
            earlier = [] if is_whole else self._earlier[half]
            for i, adapter in enumerate(earlier):
                shutil.copytree(adapter, folder / _adapter_name(half, i))
            if tuning is not None and not is_whole:
                self._save_adapter(half, tuning, folder / _adapter_name(half, len(earlier)))
            if half not in parts:
                with without_adapters(self._modules()[half]):
                    (self.encoder if half == "encoder" else self.decoder).save_pretrained(
                        folder / half
                    )
        if self.projector is not None:
            self.projector.save_pretrained(folder / "projector")
        write_settings(folder, replace(self.settings, parts=parts))
        give_usual_rights(folder)

    def _save_adapter(self, half: str, tuning: FineTuning, folder: Path) -> None:
        tuning.save_adapter(folder)
        pipeline = self.decoder.family.pipeline_class
        if half == "decoder" and pipeline:
            tuning.save_pipeline_adapter(folder, pipeline)

    # -- training -----------------------------------------------------------------------------

    def tune_encoder(self, config: FineTuneConfig, seed: int) -> FineTuning:
        """Make the encoder's language model trainable."""
        self.encoder_tuning = FineTuning(
            self.encoder.model,
            config,
            self.encoder.trained.targets,
            stream(seed, "lora", "encoder"),
        )
        return self.encoder_tuning

    def tune_decoder(
        self, config: FineTuneConfig, seed: int, *, keep_reference: bool = True
    ) -> FineTuning:
        """Make the decoder's transformer trainable; `decoder_reference` needs `keep_reference`."""
        self.decoder_tuning = FineTuning(
            self.decoder.transformer,
            config,
            self.decoder.family.targets,
            stream(seed, "lora", "decoder"),
            keep_reference=keep_reference,
        )
        return self.decoder_tuning

    def encoder_reference(self) -> AbstractContextManager[None]:
        """Within this context the encoder is as it was before tuning, without gradients."""
        return nullcontext() if self.encoder_tuning is None else self.encoder_tuning.reference()

    def decoder_reference(self) -> AbstractContextManager[None]:
        """Within this context the decoder is as it was before tuning, without gradients."""
        return nullcontext() if self.decoder_tuning is None else self.decoder_tuning.reference()

    # -- use ----------------------------------------------------------------------------------

    def condition(self, captions: Sequence[str]) -> Conditions:
        """Read captions, as text alone, into what the decoder sees; see `Conditioner`."""
        return self.conditioner(captions)

    @torch.no_grad()
    def sample_captions(
        self,
        images: Sequence[Image.Image],
        *,
        temperature: float = 0.7,
        max_new_tokens: int | None = None,
        seed: int = 0,
        first: int = 0,
    ) -> Captions:
        """Describe images, with lengths and truncations.

        The caption of image i depends on the image and on (seed, first + i), not on its batch.

        Args:
            images: Any sizes.
            temperature: 0 takes the most probable words.
            max_new_tokens: Longest caption; by default the model's setting.
            seed: Seed of the choice of words.
            first: Number of the first image, where a list comes in parts.
        """
        limit = max_new_tokens or self.settings.max_new_tokens
        numbers = range(first, first + len(images))
        return self.encoder.sample(
            self.encoder.prompts(images),
            uniforms([caption_stream(seed, i) for i in numbers], limit) if temperature else None,
            temperature=temperature or 1.0,
            max_new_tokens=limit,
        )

    def caption(
        self,
        images: Sequence[Image.Image],
        *,
        temperature: float = 0.7,
        max_new_tokens: int | None = None,
        seed: int = 0,
        batch_size: int = 32,
    ) -> list[str]:
        """Describe images, `batch_size` at once; see `sample_captions`."""
        texts: list[str] = []
        for part in parts_of(len(images), batch_size):
            captions = self.sample_captions(
                images[part],
                temperature=temperature,
                max_new_tokens=max_new_tokens,
                seed=seed,
                first=part.start,
            )
            texts += captions.texts
        return texts

    @torch.no_grad()
    def draw(
        self,
        captions: Sequence[str],
        *,
        seed: int = 0,
        numbers: Sequence[int] | None = None,
        sampling: SamplingConfig | None = None,
        size: Size | None = None,
    ) -> Float[Tensor, "n 3 y x"]:
        """Draw one image per caption, pixels in [0, 1].

        A caption longer than the decoder was trained for is drawn whole and logged as a warning.

        Args:
            captions: All drawn at once.
            seed: Seed of the noise.
            numbers: The noise of a row depends on the seed and its number alone; by default 0, 1
                and so on. Part of a list is drawn as in the whole with the numbers it has there.
            sampling: By default the model's setting.
            size: Height and width in pixels; by default a square.
        """
        limit = self.settings.max_caption_tokens
        for text in captions:
            num_tokens = self.conditioner.num_tokens(text)
            if num_tokens > limit:
                log.warning(
                    "a caption has %d tokens, the decoder was trained for %d: what stands after "
                    "%r may be ignored",
                    num_tokens,
                    limit,
                    self.conditioner.head_of(text, limit)[-40:],
                )
        sampling = sampling or self.settings.sampling
        numbers = range(len(captions)) if numbers is None else numbers
        noise = self.decoder.noise([stream(seed, "draw", i) for i in numbers], size)
        return self.draw_conditions(self.condition(captions), noise, sampling)

    @torch.no_grad()
    def draw_conditions(
        self, conditions: Conditions, noise: Float[Tensor, "n ..."], sampling: SamplingConfig
    ) -> Float[Tensor, "n 3 y x"]:
        """Draw one image per condition from given noise, pixels in [0, 1]."""
        negative = None
        if sampling.guidance_scale != 1.0:
            negative = self.condition([self.settings.negative_caption] * len(conditions))
        latents = self.decoder.sample(conditions, noise, sampling, negative)
        return self.decoder.to_pixels(latents)

    def reconstruct(
        self,
        images: Sequence[Image.Image],
        *,
        temperature: float = 0.7,
        seed: int = 0,
        batch_size: int = 32,
    ) -> tuple[list[str], list[Float[Tensor, "3 _ _"]]]:
        """Describe images and redraw them from the descriptions alone, `batch_size` at once.

        Returns:
            The captions, and the pixels in [0, 1] of each redraw.
        """
        shapes = self.decoder.shapes
        seen = [shapes.seen(image) for image in images]
        captions = self.caption(seen, temperature=temperature, seed=seed, batch_size=batch_size)
        pixels: dict[int, Tensor] = {}
        for bucket in buckets_of([shapes.of_image(image) for image in seen], least=1):
            for part in parts_of(len(bucket.indices), batch_size):
                rows = bucket.indices[part]
                texts = [captions[i] for i in rows]
                drawn = self.draw(texts, seed=seed, numbers=rows, size=bucket.size)
                pixels |= zip(rows, drawn, strict=True)
        return captions, [pixels[i] for i in range(len(images))]


def _adapter_name(half: str, number: int) -> str:
    return f"{half}_lora{f'_{number + 1}' if number else ''}"


def _check_parts(folder: Path, name: str, settings: ModelSettings | None) -> None:
    """Refuse a folder that lacks a part.

    Raises:
        UsageError: Names what is missing.
    """
    elsewhere = settings.parts if settings else {}
    has_projector = settings is None or settings.condition == "projector"
    parts = ["encoder", *["projector"] * has_projector, "decoder"]
    expected = [SETTINGS_FILE, *(part for part in parts if part not in elsewhere)]
    missing = [part for part in expected if not (folder / part).exists()]
    if not missing and "encoder" not in elsewhere and not (folder / TOKENIZER).exists():
        missing = [TOKENIZER]
    if missing:
        raise UsageError(
            f"model {name!r}: {', '.join(missing)} not found in {folder}; {expected_model(folder)}"
        )
