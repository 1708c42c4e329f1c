# diffusers declares `to` with an overload that pyright cannot bind
# pyright: reportArgumentType=false
"""The unified multimodal auto-encoder: encoder, conditioner and decoder in one folder.

    image --encoder--> caption --conditioner--> condition --decoder--> image'

Folder layout (each part loads without this package):
    uae.json        settings below
    encoder/        transformers (model, tokenizer, image processor)
    projector/      diffusers ModelMixin
    decoder/        diffusers pipeline without text encoders
    encoder_lora/   PEFT adapter over encoder/, where there is one
    decoder_lora/   PEFT adapter over decoder/transformer/, where there is one, and the same again
                    as a diffusers pipeline reads it
"""

import json
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from uae.core.durable import give_usual_rights
from uae.core.errors import UsageError
from uae.flow.noise import stream
from uae.models.batches import parts_of
from uae.models.conditions import Conditions
from uae.models.dit.decoder import Decoder
from uae.models.dit.table import dit_loader
from uae.models.finetune import FineTuning, merge_adapter
from uae.models.loading import check_weights
from uae.models.projector import Projected, Projector, load_projector
from uae.models.settings import (
    SETTINGS_FILE,
    ModelSettings,
    expected_model,
    read_settings,
    resolve,
)
from uae.models.vlm.encoder import Captions, Encoder
from uae.models.vlm.sampling import caption_stream, uniforms
from uae.models.vlm.table import vlm_loader
from uae.recipe.optimizer import FineTuneConfig
from uae.recipe.sampling import SamplingConfig

log = logging.getLogger(__name__)

PART_FOLDERS = ("encoder", "projector", "decoder")
TOKENIZER = "encoder/tokenizer.json"  # without it transformers makes an empty one


class UnifiedAutoEncoder:
    """Both halves of the loop.

    model = UnifiedAutoEncoder.from_pretrained("uae-tiny")
    captions, pixels = model.reconstruct(images)
    """

    def __init__(
        self, encoder: Encoder, projector: Projector, decoder: Decoder, settings: ModelSettings
    ) -> None:
        self.encoder = encoder
        self.projector = projector
        self.conditioner = Projected(encoder, projector)
        self.decoder = decoder
        self.settings = settings
        self.encoder_tuning: FineTuning | None = None
        self.decoder_tuning: FineTuning | None = None

    # -- files --------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls, name: str | Path, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> "UnifiedAutoEncoder":
        """Load a model folder or a preset; adapters are merged into the weights.

        Raises:
            UsageError: The folder is not a model of this package, or a file of it is damaged;
                names what is missing, or the file.
        """
        folder = Path(resolve(name))
        missing = [p for p in (SETTINGS_FILE, *PART_FOLDERS) if not (folder / p).exists()]
        if not missing and not (folder / TOKENIZER).exists():
            missing = [TOKENIZER]
        if missing:
            raise UsageError(
                f"model {str(name)!r}: {', '.join(missing)} not found in {folder}; "
                f"{expected_model(folder)}"
            )
        check_weights(folder)
        settings = read_settings(folder)
        load_vlm, load_dit = vlm_loader(folder / "encoder"), dit_loader(folder / "decoder")
        encoder = Encoder(load_vlm(folder / "encoder", dtype), settings.caption_prompt)
        decoder = Decoder(load_dit(folder / "decoder", dtype))
        if (folder / "encoder_lora").exists():
            merge_adapter(encoder.model, folder / "encoder_lora")
        if (folder / "decoder_lora").exists():
            merge_adapter(decoder.transformer, folder / "decoder_lora")
        model = cls(encoder, load_projector(folder / "projector", dtype), decoder, settings)
        return model.to(device)

    def to(self, device: str) -> "UnifiedAutoEncoder":
        """Move all parts."""
        self.encoder.to(device)
        self.projector.to(device)
        self.decoder.to(device)
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the folder described above; LoRA adapters stay adapters over the base weights."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            for name, tuning in self._adapters().items():
                tuning.save_adapter(folder / f"{name}_lora")
                pipeline = self.decoder.family.pipeline_class
                if name == "decoder" and pipeline:
                    tuning.save_pipeline_adapter(folder / f"{name}_lora", pipeline)
                stack.enter_context(tuning.without_adapters())
            self.encoder.save_pretrained(folder / "encoder")
            self.decoder.save_pretrained(folder / "decoder")
        self.projector.save_pretrained(folder / "projector")
        settings = json.dumps(asdict(self.settings), indent=2)
        (folder / SETTINGS_FILE).write_text(settings + "\n")
        give_usual_rights(folder)

    def _adapters(self) -> dict[str, FineTuning]:
        tunings = {"encoder": self.encoder_tuning, "decoder": self.decoder_tuning}
        return {n: t for n, t in tunings.items() if t is not None and t.config.mode == "lora"}

    # -- training -----------------------------------------------------------------------------

    def tune_encoder(self, config: FineTuneConfig, seed: int) -> FineTuning:
        """Make the encoder's language model trainable."""
        self.encoder_tuning = FineTuning(
            self.encoder.model,
            config,
            self.encoder.family.targets,
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
    ) -> Float[Tensor, "n 3 y x"]:
        """Draw one image per caption, pixels in [0, 1].

        A caption longer than the decoder was trained for is drawn whole and logged as a warning.

        Args:
            captions: All drawn at once.
            seed: Seed of the noise.
            numbers: The noise of a row depends on the seed and its number alone; by default 0, 1
                and so on. Part of a list is drawn as in the whole with the numbers it has there.
            sampling: By default the model's setting.
        """
        for text in captions:
            num_tokens = self.encoder.num_tokens(text)
            if num_tokens > self.settings.max_caption_tokens:
                log.warning(
                    "a caption has %d tokens, the decoder was trained for %d: what stands after "
                    "%r may be ignored",
                    num_tokens,
                    self.settings.max_caption_tokens,
                    self.encoder.head_of(text, self.settings.max_caption_tokens)[-40:],
                )
        sampling = sampling or self.settings.sampling
        numbers = range(len(captions)) if numbers is None else numbers
        noise = self.decoder.noise([stream(seed, "draw", i) for i in numbers])
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
    ) -> tuple[list[str], Float[Tensor, "n 3 y x"]]:
        """Describe images and redraw them from the descriptions alone, `batch_size` at once."""
        captions = self.caption(images, temperature=temperature, seed=seed, batch_size=batch_size)
        pixels = [
            self.draw(captions[part], seed=seed, numbers=range(part.start, part.stop))
            for part in parts_of(len(captions), batch_size)
        ]
        return captions, torch.cat(pixels)
