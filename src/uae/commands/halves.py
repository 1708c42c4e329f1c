"""What describes and what draws, as a command line names them: `KIND:NAME`.

Each half says what its results depend on before it is loaded, so that a folder of another run is
refused within a second.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoPipelineForText2Image
from diffusers.utils.logging import disable_progress_bar
from transformers.utils.hub import cached_file, extract_commit_hash

from uae.commands import judges
from uae.commands.address import BY_DEFAULT, AddressChoice
from uae.commands.judges import found
from uae.commands.loop import load
from uae.device import device_of
from uae.endpoint import Endpoint
from uae.errors import UsageError
from uae.eval.judges.local_vlm import LocalVlm
from uae.eval.results.stamp import ModelStamp, folder_digests, images_stamp, weights_digest
from uae.eval.unified_bench.budgets import Tokens
from uae.eval.unified_bench.captioners import (
    Captioner,
    CaptionsFile,
    EncoderCaptioner,
    EndpointCaptioner,
    VlmCaptioner,
    captions_stamp,
)
from uae.eval.unified_bench.generators import (
    DecoderGenerator,
    EndpointGenerator,
    Generator,
    HiddenStates,
    ImageFolder,
    PipelineGenerator,
)
from uae.eval.unified_bench.task import Task
from uae.models.settings import PRESETS, SETTINGS_FILE, ModelSettings, read_settings, resolve
from uae.rewards.dreamsim import PREFIX, load_dreamsim
from uae.rewards.similarity import Similarity

CAPTIONER, GENERATOR = "--captioner", "--generator"
ENCODER_PARTS = ("encoder", "encoder_lora", SETTINGS_FILE)
DECODER_PARTS = ("projector", "decoder", "decoder_lora")
CAPTIONERS = ("uae", "vlm", "endpoint", "file")
GENERATORS = ("uae", "diffusers", "endpoint", "folder")
INDEX_FILES = {"vlm": "config.json", "diffusers": "model_index.json"}
"""A small file that every model of a kind has."""


@dataclass(frozen=True, slots=True)
class Spec:
    """A half as the user named it."""

    flag: str
    kind: str
    name: str

    @classmethod
    def read(cls, flag: str, text: str, kinds: tuple[str, ...]) -> "Spec":
        """Read KIND:NAME.

        Raises:
            UsageError: It is of no known kind, or names nothing.
        """
        kind, _, name = text.partition(":")
        if kind not in kinds or not name:
            expected = ", ".join(f"{kind}:..." for kind in kinds)
            raise UsageError(f"{flag} {text}: expected one of {expected}")
        return cls(flag, kind, name)

    @classmethod
    def read_model(cls, flag: str, text: str, kinds: tuple[str, ...]) -> "Spec":
        """Read KIND:NAME, or the plain name of a model of this package.

        Raises:
            UsageError: It names nothing.
        """
        return cls.read(flag, text if text.partition(":")[0] in kinds else f"uae:{text}", kinds)

    @property
    def shown(self) -> str:
        """How it is named on the command line."""
        return f"{self.kind}:{self.name}"

    @property
    def is_ours(self) -> bool:
        """Whether it is a model of this package."""
        return self.kind == "uae"

    @property
    def folder(self) -> Path | None:
        """The folder of weights that it names; None for a hub id or an address."""
        place = Path(resolve(self.name))
        return place if place.is_dir() else None

    @property
    def commit(self) -> str | None:
        """The commit that a hub id stands for, here or on the hub; None for anything else.

        Raises:
            UsageError: There is no such model.
        """
        if self.kind not in INDEX_FILES or self.folder:
            return None
        return _commit(self)

    def check(self) -> None:
        """Refuse a folder that holds no model of this package.

        Raises:
            UsageError: Names the flag.
        """
        if self.folder is None or not (self.folder / SETTINGS_FILE).is_file():
            raise UsageError(
                f"{self.flag} uae:{self.name} is no model folder (it has no {SETTINGS_FILE}): "
                f"expected one written by `uae train`, or one of {', '.join(PRESETS)}; a model of "
                "another kind is named KIND:NAME"
            )

    def settings(self) -> ModelSettings:
        """Read the settings of a model of this package.

        Raises:
            UsageError: The folder holds none.
        """
        self.check()
        return read_settings(Path(resolve(self.name)))

    def endpoint(self, address: AddressChoice) -> Endpoint:
        """Return the model behind MODEL@URL.

        Raises:
            UsageError: It is not of that form, or nothing answers there.
        """
        model, _, url = self.name.rpartition("@")
        if not model:
            raise UsageError(
                f"{self.flag} endpoint:{self.name}: expected endpoint:MODEL@URL, such as "
                "endpoint:qwen@http://localhost:8000/v1"
            )
        endpoint = Endpoint(address.config(url, model))
        endpoint.probe()
        return endpoint


@functools.cache  # what is loaded is to be what was stamped, though the hub may change meanwhile
def _commit(spec: Spec) -> str | None:
    with found(spec.flag, spec.shown):
        file = cached_file(spec.name, INDEX_FILES[spec.kind])
    return extract_commit_hash(file, None)


@dataclass(frozen=True, slots=True)
class Given:
    """What both halves are loaded with.

    Attributes:
        prompt: Asks a captioner that is not ours for a caption.
        seed: Of noise and sampled words.
        device: As the command has it.
        dtype: Of models that are not ours.
        address: How an address is asked.
        size: Width and height in pixels that a generator that is not ours draws; None for its own.
    """

    prompt: str
    seed: int
    device: str
    dtype: torch.dtype
    address: AddressChoice = BY_DEFAULT
    size: tuple[int, int] | None = None


def check_dtype(dtype: str, *specs: Spec) -> None:
    """Refuse a dtype that nothing would heed.

    Raises:
        UsageError: None of these is a model of others.
    """
    if dtype != "float32" and not any(spec.kind in INDEX_FILES for spec in specs):
        kinds = " or ".join(INDEX_FILES)
        shown = " and ".join(f"{spec.flag} {spec.shown}" for spec in specs)
        raise UsageError(f"--dtype {dtype} is for {kinds} models: expected none with {shown}")


def captioner_of(spec: Spec, given: Given) -> Callable[[], Captioner]:
    """Return what loads a captioner; a file and an address are checked at once.

    Raises:
        UsageError: There is no such file or address, or, when loaded, no such model.
    """
    if spec.kind == "file":
        if not Path(spec.name).is_file():
            raise UsageError(f"{spec.flag} file:{spec.name} does not exist")
        captions = CaptionsFile(Path(spec.name))
        return lambda: captions
    if spec.kind == "endpoint":
        described = EndpointCaptioner(spec.endpoint(given.address), given.prompt, given.seed)
        return lambda: described
    if spec.kind == "uae":
        spec.check()
        return lambda: EncoderCaptioner(load(spec.name, given.device), given.seed)
    return lambda: VlmCaptioner(load_vlm(spec, given), given.prompt, given.seed)


def load_vlm(spec: Spec, given: Given) -> LocalVlm:
    """Load a vision-language model of transformers.

    Raises:
        UsageError: There is none, or it is another kind of model.
    """
    revision = spec.commit or "main"
    return judges.load_vlm(spec.flag, spec.shown, spec.name, given.device, given.dtype, revision)


def generator_of(spec: Spec, given: Given, images: Mapping[str, Path]) -> Callable[[], Generator]:
    """Return what loads a generator of these images; folder and address are checked at once.

    Raises:
        UsageError: There is no such folder or address, or, when loaded, no such model.
    """
    if spec.kind == "folder":
        redraws = ImageFolder(Path(spec.name), list(images))
        return lambda: redraws
    if spec.kind == "endpoint":
        drawn = EndpointGenerator(spec.endpoint(given.address), given.seed, given.size)
        return lambda: drawn
    if spec.kind == "uae":
        spec.check()
        return lambda: DecoderGenerator(load(spec.name, given.device), given.seed)

    def load_pipeline() -> Generator:
        disable_progress_bar()
        try:
            with found(spec.flag, spec.shown):
                pipeline = AutoPipelineForText2Image.from_pretrained(
                    spec.name, torch_dtype=given.dtype, revision=spec.commit
                )
        except UsageError:
            raise
        except ValueError as error:  # diffusers' word for another kind of pipeline
            raise UsageError(
                f"{spec.flag} {spec.shown} is no text-to-image pipeline: {error}"
            ) from error
        pipeline.set_progress_bar_config(disable=True)
        return PipelineGenerator(pipeline.to(device_of(given.device)), given.seed, given.size)

    return load_pipeline


def stamp_of(
    spec: Spec, given: Given, parts: Sequence[str] = ENCODER_PARTS + DECODER_PARTS
) -> ModelStamp:
    """Say what a half's results depend on, without loading it.

    Args:
        spec: The half.
        given: What it is loaded with.
        parts: Of a model of this package, those that count.

    Raises:
        UsageError: It is not there.
    """
    if spec.kind == "file":
        return captions_stamp(Path(spec.name))
    if spec.kind == "folder":
        root = Path(spec.name)
        paths = sorted(path for path in root.rglob("*") if path.is_file())
        return images_stamp(root, {path.relative_to(root).as_posix(): path for path in paths})
    if spec.kind == "endpoint":
        return ModelStamp(name=spec.name, dtype="unknown", backend="endpoint")
    return ModelStamp(
        name=spec.name,
        dtype="float32" if spec.is_ours else str(given.dtype).removeprefix("torch."),
        backend=f"{spec.kind}, {torch.device(device_of(given.device)).type}",
        files=_files(spec, parts),
    )


def _files(spec: Spec, parts: Sequence[str]) -> dict[str, str]:
    """Return one sha256 of all files that a half is made of; of a hub id its commit."""
    folder, commit = spec.folder, spec.commit
    if folder is None:
        return {"commit": commit} if commit else {}
    kept = {
        path: digest
        for path, digest in folder_digests(folder).items()
        if not spec.is_ours or path.split("/")[0] in parts
    }
    return {"weights": hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()}


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
        writes = Spec.read(CAPTIONER, captioner, CAPTIONERS) if captioner else ours
        draws = Spec.read(GENERATOR, generator, GENERATORS) if generator else ours
        if sees_image and (
            (writes.kind, writes.name) != (draws.kind, draws.name) or not writes.is_ours
        ):
            raise UsageError(
                f"--hidden-states with {writes.shown} and {draws.shown}: "
                "expected one uae model for both"
            )
        return cls(writes, draws, given, sees_image)

    def captioner(self) -> Callable[[], Captioner]:
        """Return what loads the captioner."""
        return captioner_of(self.writes, self.given)

    def generator(self, images: Mapping[str, Path]) -> Callable[[], Generator]:
        """Return what loads the generator of the redraws of `images`."""
        given = self.given
        if self.sees_image:
            return lambda: HiddenStates(load(self.draws.name, given.device), images, given.seed)
        return generator_of(self.draws, given, images)

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
            captioner=self.captioner(),
            generator=self.generator(images),
            backbones=lambda: load_backbones(backbones, self.given.device),
            tokens=tokens,
            batch_size=batch_size,
        )

    def stamp(self) -> ModelStamp:
        """Say what the results of both depend on."""
        stamps = {
            "captioner": stamp_of(self.writes, self.given, ENCODER_PARTS),
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


def load_backbones(chosen: Mapping[str, str], device: str) -> dict[str, Similarity]:
    """Load similarity backbones by name.

    Raises:
        UsageError: One is not there, or of another kind.
        EnvironmentFault: DreamSim is asked for, and its package is not installed.
    """
    return {name: _load_backbone(name, place, device) for name, place in chosen.items()}


def digests(chosen: Mapping[str, str], device: str) -> dict[str, str]:
    """Return the sha256 of each backbone's weights; one is in memory at a time."""
    return {
        name: weights_digest(_load_backbone(name, place, device).model)
        for name, place in chosen.items()
    }


def _load_backbone(name: str, place: str, device: str) -> Similarity:
    with found("--backbone", f"{name}={place}"):
        if place.startswith(PREFIX):
            return load_dreamsim(place, device_of(device))
        return Similarity.from_pretrained(resolve(place), device_of(device))
