"""Sources of training images: any source of images by index, and a folder of the user's.

A source has random access, so a loop's data position is its step: nothing to save, nothing to lose.
"""

import logging
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from uae.core.errors import UsageError
from uae.core.identity import file_digest
from uae.data.opening import open_image
from uae.data.shapes import SEEN_AREA, Bucket, Shapes, buckets_of, fitted
from uae.data.survey import Survey
from uae.data.untrusted.file import UnreadableImage
from uae.flow.noise import stream

log = logging.getLogger(__name__)

_KEPT_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class Sample:
    """One training image.

    Attributes:
        name: Its name.
        image: What the encoder sees.
        target: What the decoder is to draw.
        caption: None where the source knows none.
    """

    name: str
    image: Image.Image
    target: Image.Image
    caption: str | None


@runtime_checkable
class ImageSource(Protocol):
    """Images by index.

    samples = samples_at(source, step, 16, seed)
    """

    def buckets(self, batch_size: int) -> Sequence[Bucket]:
        """Return the images by shape, each shape with enough of them for a batch."""
        ...

    def sample(self, index: int, wording_seed: int) -> Sample:
        """Return image `index`; `wording_seed` chooses among equivalent captions."""
        ...


class LostImage(UsageError):
    """An image is not there any more as it was when the run began: going on would change it."""


class FolderSource:
    """A folder of images, with captions where there are any, see `folder_captions`.

    An image is decoded when its turn comes; the last `_KEPT_BYTES` stay in memory. In the place of
    one that proves damaged then, the next sound one by name is used, at every turn and after every
    resume: a sample is a function of its index and of the folder's content.
    """

    def __init__(self, survey: Survey, shapes: Shapes, without: Set[str] = frozenset()) -> None:
        """Take the sound images of a folder, `without` those of these names."""
        self._folder, self._shapes = survey.listing.folder, shapes
        self._names = [name for name in survey.names if name not in without]
        self._looks = survey.looks
        self.captions = survey.captions.texts
        kept_pixels = (SEEN_AREA if shapes.own else 1) * shapes.size_px**2
        self._image = lru_cache(max(1, _KEPT_BYTES // (3 * kept_pixels)))(self._opened)
        self.buckets = lru_cache(self._buckets)
        self._skipped = survey.skipped
        self._damaged: dict[str, UnreadableImage] = {}
        if self._skipped:
            log.warning(survey.summary())
        else:
            log.info(survey.summary())
        given = survey.captions
        log.log(logging.INFO if given.is_whole else logging.WARNING, given.summary)

    @property
    def num_left_out(self) -> int:
        """Images that cannot be read, as far as is known by now."""
        return len(self._skipped) + len(self._damaged)

    def __len__(self) -> int:
        return len(self._names)

    def _buckets(self, batch_size: int) -> Sequence[Bucket]:
        if not self._shapes.own:
            return [Bucket(self._shapes.square, range(len(self)))]
        sizes = [self._shapes.of(*self._looks[name].size) for name in self._names]
        return buckets_of(sizes, batch_size)

    def sample(self, index: int, wording_seed: int) -> Sample:
        """Return image `index`, or the next that is sound.

        Raises:
            LostImage: One has changed since the run began, or is gone.
            UsageError: None of the images is sound.
        """
        for place in range(index, index + len(self)):
            name = self._names[place % len(self)]
            if name in self._damaged:
                continue
            try:
                image = self._image(name)
                target = fitted(image, self._shapes.of_image(image))
                return Sample(name, image, target, self.captions.get(name))
            except UnreadableImage as fault:
                self._damaged[name] = fault
                log.warning("left out, and the next one by name is used in its place: %s", fault)
        raise UsageError(f"{self._folder}: none of its images can be decoded")

    def _opened(self, name: str) -> Image.Image:
        path = self._folder / name
        try:
            is_same = file_digest(path) == self._looks[name].digest
        except UsageError as gone:
            raise LostImage(f"{gone}: put it back") from gone
        if not is_same:
            raise LostImage(f"{path} has changed since the run began: put the old file back")
        return self._shapes.seen(open_image(path))


def batch_of(buckets: Sequence[Bucket], step: int, batch_size: int, seed: int) -> Bucket:
    """Return the images of a step.

    Of one bucket: epochs of shuffled order, one after the other. Of several: epochs of full batches
    in shuffled order, each of one bucket; what is left of a bucket waits for the next shuffle.
    """
    if len(buckets) == 1:
        indices = batch_indices(len(buckets[0].indices), step, batch_size, seed)
        return Bucket(buckets[0].size, [buckets[0].indices[i] for i in indices])
    turns = [i for i, b in enumerate(buckets) for _ in range(len(b.indices) // batch_size)]
    epoch, place = divmod(step, len(turns))
    order = _order(len(turns), epoch, seed)
    number = turns[order[place]]
    turn = sum(turns[i] == number for i in order[:place])
    bucket = buckets[number]
    shuffled = torch.randperm(
        len(bucket.indices), generator=stream(seed, "order", epoch, number)
    ).tolist()
    chosen = shuffled[turn * batch_size : (turn + 1) * batch_size]
    return Bucket(bucket.size, [bucket.indices[i] for i in chosen])


def batch_indices(num_images: int, step: int, batch_size: int, seed: int) -> list[int]:
    """Return a step's places in epochs of shuffled order, one after the other."""
    indices = []
    for position in range(step * batch_size, (step + 1) * batch_size):
        epoch, place = divmod(position, num_images)
        indices.append(_order(num_images, epoch, seed)[place])
    return indices


@lru_cache(maxsize=2)
def _order(num_images: int, epoch: int, seed: int) -> list[int]:
    return torch.randperm(num_images, generator=stream(seed, "order", epoch)).tolist()


def samples_at(source: ImageSource, step: int, batch_size: int, seed: int) -> list[Sample]:
    """Return the samples of a step, a pure function of its arguments; their targets fit."""
    batch = batch_of(source.buckets(batch_size), step, batch_size, seed)
    samples = [
        source.sample(index, stream(seed, "wording", step, index).initial_seed())
        for index in batch.indices
    ]
    return [replace(sample, target=fitted(sample.image, batch.size)) for sample in samples]


def to_pixels(images: list[Image.Image]) -> Float[Tensor, "b 3 h w"]:
    """Stack images of equal size: float in [0, 1]."""
    stacked = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    return rearrange(stacked, "b h w c -> b c h w").float() / 255


def to_images(pixels: Float[Tensor, "b 3 h w"]) -> list[Image.Image]:
    """Turn pixels in [0, 1] into 8-bit RGB images."""
    stacked = (rearrange(pixels, "b c h w -> b h w c").cpu() * 255).round().byte().numpy()
    return [Image.fromarray(array) for array in stacked]
