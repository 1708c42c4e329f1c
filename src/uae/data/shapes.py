"""Shapes of drawn images: squares, or nearly the shape of the image that is redrawn.

Images of one shape make up a batch ("aspect buckets"), so that a batch is one tensor.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from uae.data.folder import cut, fit_square

Size = tuple[int, int]
"""Height and width in pixels."""

MAX_ASPECT = 2
"""Longer side over shorter side of the longest shape that is drawn; longer images are cut."""
_PER_SIDE = 16
"""Sides of shapes are multiples of about this share of a square's side."""
SEEN_AREA = 4
"""Largest area that is kept of an image, in areas of a drawn one."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """Shapes of about `size_px` x `size_px` pixels.

    Attributes:
        size_px: Side of a square.
        step_px: Sides are multiples of it.
        own: Images are drawn in nearly their own shape; otherwise all are squares.
    """

    size_px: int
    step_px: int = 1
    own: bool = False

    @property
    def square(self) -> Size:
        return self.size_px, self.size_px

    def of(self, width: int, height: int) -> Size:
        """Return the shape in which an image of that size is drawn."""
        if not self.own:
            return self.square
        aspect = min(max(width / height, 1 / MAX_ASPECT), MAX_ASPECT)
        sides = self.size_px / math.sqrt(aspect), self.size_px * math.sqrt(aspect)
        step = self.step_px * max(1, round(self.size_px / (_PER_SIDE * self.step_px)))
        drawn_height, drawn_width = (max(1, round(side / step)) * step for side in sides)
        return drawn_height, drawn_width

    def of_image(self, image: Image.Image) -> Size:
        """Return the shape in which an image is drawn."""
        return self.of(*image.size)

    def seen(self, image: Image.Image) -> Image.Image:
        """Return what is kept of an image, and shown to the encoder: all of it, or its square."""
        if not self.own:
            return fit_square(image, self.size_px)
        scale = math.sqrt(SEEN_AREA * self.size_px**2 / (image.width * image.height))
        if scale >= 1:
            return image
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        return image.resize(size, Image.Resampling.LANCZOS)


def fitted(image: Image.Image, size: Size) -> Image.Image:
    """Cut an image to a shape, its centre kept, and resize it."""
    height, width = size
    return image if image.size == (width, height) else cut(image, width, height)


@dataclass(frozen=True, slots=True)
class Bucket:
    """Images by index that are drawn in one shape."""

    size: Size
    indices: Sequence[int]


def buckets_of(sizes: Sequence[Size], least: int) -> list[Bucket]:
    """Sort images into buckets by their shapes.

    Args:
        sizes: The shape of each image.
        least: Images that a bucket holds at least, where there are as many: a smaller one is
            joined to the one of the nearest shape, smallest first.
    """
    by_size: dict[Size, list[int]] = defaultdict(list)
    for index, size in enumerate(sizes):
        by_size[size].append(index)
    while len(by_size) > 1:
        small = min(by_size, key=lambda size: (len(by_size[size]), size))
        if len(by_size[small]) >= least:
            break
        indices = by_size.pop(small)
        by_size[_nearest(small, by_size)] += indices
    return [Bucket(size, sorted(by_size[size])) for size in sorted(by_size)]


def _nearest(size: Size, others: Mapping[Size, object]) -> Size:
    def distance(other: Size) -> tuple[float, Size]:
        return abs(math.log(other[1] / other[0]) - math.log(size[1] / size[0])), other

    return min(others, key=distance)
