"""Both halves of Unified-Bench as one: what captions the images and what redraws them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import AutoTokenizer

from uae.backends.backbones import load_backbones
from uae.backends.files import CaptionsFile, ImageFolder
from uae.backends.load import CAPTIONER, GENERATOR, captioner_of, generator_of, kinds, stamp_of
from uae.backends.own import load
from uae.backends.reference import Given, Spec
from uae.backends.roles import Captioner, Generator
from uae.backends.uae import HiddenStates
from uae.benchmarks.unified_bench.budgets import Tokens
from uae.benchmarks.unified_bench.task import Task
from uae.core.errors import UsageError
from uae.core.identity import Inputs, text_digests
from uae.core.provenance import ModelStamp, image_digests
from uae.models.hub import found
from uae.models.parts import place_of
from uae.models.settings import resolve


@dataclass(frozen=True, slots=True)
class Pair:
    """Both halves. With `sees_image` the decoder gets more than the words."""

    writes: Spec
    draws: Spec
    given: Given
    sees_image: bool

    @classmethod
    def read(
        cls,
        given: Given,
        model: str,
        captioner: str | None = None,
        generator: str | None = None,
        *,
        sees_image: bool = False,
        flag: str = "--model",
    ) -> "Pair":
        """Read both; `model`, given by `flag`, stands for a half that is not given."""
        ours = Spec(flag, "uae", model)
        writes = Spec.read(CAPTIONER, captioner, kinds(Captioner)) if captioner else ours
        draws = Spec.read(GENERATOR, generator, kinds(Generator)) if generator else ours
        if sees_image and (writes.shown != draws.shown or not writes.is_ours):
            raise UsageError(
                f"--hidden-states with {writes.shown} and {draws.shown}: "
                "expected one uae model for both"
            )
        return cls(writes, draws, given, sees_image)

    @property
    def ours(self) -> list[Spec]:
        """The halves that are models of this package, the generator first."""
        return [spec for spec in (self.draws, self.writes) if spec.is_ours]

    @property
    def backbones(self) -> list[str]:
        """The backbones that its uae model names, as NAME=PLACE."""
        places = self.ours[0].settings().similarity if self.ours else {}
        return [f"{name}={place}" for name, place in places.items()]

    def files(self, images: Mapping[str, Path]) -> tuple[CaptionsFile | None, ImageFolder | None]:
        """Return what is there already of these images; two captions of one image are refused."""
        writes, draws = self.writes, self.draws
        captions = CaptionsFile(Path(writes.name), images) if writes.kind == "file" else None
        redraws = ImageFolder(Path(draws.name), list(images)) if draws.kind == "folder" else None
        return captions, redraws

    def given_inputs(self, images: Mapping[str, Path]) -> Inputs:
        """Return the digests of what is there already."""
        inputs: dict[str, Mapping[str, str | None]] = {}
        captions, redraws = self.files(images)
        if captions:
            inputs["caption"] = text_digests(captions.texts)
        if redraws:
            paths = {name: redraws.folder / file for name, file in redraws.found.items()}
            inputs["redraw"] = image_digests(paths)
        return inputs

    def task(
        self,
        images: Mapping[str, Path],
        out: Path,
        backbones: Mapping[str, str],
        tokens: Tokens | None,
        batch_size: int,
    ) -> Task:
        """Return what is to be described, redrawn and compared."""
        given = self.given

        def hidden_states() -> HiddenStates:
            return HiddenStates(load(self.draws.name, given.device), images, given.seed)

        return Task(
            images=images,
            out=out,
            captioner=captioner_of(self.writes, given, images),
            generator=hidden_states if self.sees_image else generator_of(self.draws, given, images),
            backbones=lambda: load_backbones(backbones, given.device),
            tokens=tokens,
            batch_size=batch_size,
        )

    def stamp(self) -> ModelStamp:
        """Say what the results of both depend on."""
        stamps = {
            "captioner": stamp_of(self.writes, replace(self.given, draws=False)),
            "generator": stamp_of(self.draws, self.given),
        }
        return ModelStamp(
            name=" x ".join(spec.shown for spec in (self.writes, self.draws)),
            dtype=" x ".join(stamp.dtype for stamp in stamps.values()),
            backend=" x ".join(stamp.backend for stamp in stamps.values()),
            seeds={"all": self.given.seed},
            files={
                f"{half}/{k}": v for half, stamp in stamps.items() for k, v in stamp.files.items()
            },
            options={"prompt": self.given.prompt},
        )

    def tokens(self, name: str | None, *, is_needed: bool) -> Tokens | None:
        """Load what counts a caption's tokens: the one named, or that of the pair's uae model."""
        if name is None and not self.ours:
            if is_needed:
                raise UsageError(
                    "--curve counts tokens, and neither half is a uae model: give --tokenizer, a "
                    "folder or hub id"
                )
            return None
        # what the captioner writes is counted in its own tokens
        place = name or str(place_of(Path(resolve(self.ours[-1].name)), "encoder"))
        with found("--tokenizer", place):
            return Tokens(AutoTokenizer.from_pretrained(str(resolve(place))))
