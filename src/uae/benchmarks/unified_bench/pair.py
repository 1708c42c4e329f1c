"""Both halves of Unified-Bench as one: what captions the images and what redraws them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from uae.backends.backbones import load_backbones
from uae.backends.files import CaptionsFile, ImageFolder
from uae.backends.load import (
    CAPTIONER,
    GENERATOR,
    captioner_of,
    generator_of,
    kinds,
    stamp_of,
)
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
        model: str,
        captioner: str | None,
        generator: str | None,
        given: Given,
        *,
        sees_image: bool,
        flag: str = "--model",
    ) -> "Pair":
        """Read both; `model`, given by `flag`, stands for a half that is not given.

        Raises:
            UsageError: One is of no known kind, or hidden states are asked of two models.
        """
        ours = Spec(flag, "uae", model)
        writes = Spec.read(CAPTIONER, captioner, kinds(Captioner)) if captioner else ours
        draws = Spec.read(GENERATOR, generator, kinds(Generator)) if generator else ours
        if sees_image and (
            (writes.kind, writes.name) != (draws.kind, draws.name) or not writes.is_ours
        ):
            raise UsageError(
                f"--hidden-states with {writes.shown} and {draws.shown}: "
                "expected one uae model for both"
            )
        return cls(writes, draws, given, sees_image)

    def captioner(self, images: Mapping[str, Path]) -> Callable[[], Captioner]:
        """Return what loads the captioner of `images`."""
        return captioner_of(self.writes, self.given, images)

    def generator(self, images: Mapping[str, Path]) -> Callable[[], Generator]:
        """Return what loads the generator of the redraws of `images`."""
        given = self.given
        if self.sees_image:
            return lambda: HiddenStates(load(self.draws.name, given.device), images, given.seed)
        return generator_of(self.draws, given, images)

    def given_inputs(self, images: Mapping[str, Path]) -> Inputs:
        """Return what a captions file and a folder of redraws hold of these images.

        Raises:
            UsageError: As `captioner` and `generator`, or a redraw cannot be read.
        """
        inputs: dict[str, Mapping[str, str | None]] = {}
        if self.writes.kind == "file":
            captions = CaptionsFile(Path(self.writes.name), images)
            inputs["caption"] = text_digests(captions.texts)
        if self.draws.kind == "folder":
            folder = ImageFolder(Path(self.draws.name), list(images))
            inputs["redraw"] = image_digests(
                {name: folder.folder / file for name, file in folder.found.items()}
            )
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
        return Task(
            images=images,
            out=out,
            captioner=self.captioner(images),
            generator=self.generator(images),
            backbones=lambda: load_backbones(backbones, self.given.device),
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


def tokens_of(pair: Pair, name: str | None, *, is_needed: bool) -> Tokens | None:
    """Load what counts a caption's tokens: the one named, or that of the pair's uae model.

    Raises:
        UsageError: A curve needs one, and there is none; or there is no such tokenizer.
    """
    ours = [spec for spec in (pair.writes, pair.draws) if spec.is_ours]
    if name is None and not ours:
        if is_needed:
            raise UsageError(
                "--curve counts tokens, and neither half is a uae model: give --tokenizer, a "
                "folder or hub id"
            )
        return None
    place = name or str(Path(resolve(ours[0].name)) / "encoder")
    with found("--tokenizer", place):
        return Tokens.from_pretrained(str(resolve(place)))


def own_backbones(pair: Pair) -> list[str]:
    """Return the backbones that a pair's uae model names, as NAME=PLACE; the generator's first."""
    for spec in (pair.draws, pair.writes):
        if spec.is_ours:
            return [f"{name}={place}" for name, place in spec.settings().similarity.items()]
    return []
