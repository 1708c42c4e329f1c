"""Pixels back to objects, without a model: the inverse of `render` for imperfect images too.

What differs from the background (the median of the border) falls into connected regions. Each is
explained by analysis by synthesis: every shape in every size, at several strengths of blur, stands
at the region's centroid, in every named colour; with d = pixel - background, coverage t and
w = colour - background, the explanation with the least

    sum |d - t w|^2 = sum |d|^2 - 2 w . sum(t d) + |w|^2 sum t^2

names the object. Its error is the share of the region's energy sum |d|^2 that is left unexplained.
A region that nothing explains is split (by colour, then by contrast) and tried again; what still
has no explanation is a blob.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float, Float32, Int, UInt8
from PIL import Image
from scipy import ndimage

from uae.scenes.graph import ASPECT, BACKGROUNDS, CELLS, COLORS, SHAPES, SIZES, SceneObject
from uae.scenes.render import coverage

MIN_SIZE_PX = 64
MAX_ERROR = 0.25
"""A region whose best explanation leaves a larger share of its energy is a blob."""

_MAX_WORKING_PX = 128  # larger images are averaged down first: nothing more is to be seen in them
_SPLIT_ERROR = 0.15  # from here on, two explanations are tried in place of one
_SPLIT_LEVELS = (0.5, 0.65, 0.8)  # of a region's highest contrast
_BLURS_PX = (0.0, 0.6, 1.0, 1.5)
_STEPS_PER_PX = 4  # templates are cached at quarters of a pixel
_MARGIN_PX = 6  # of a template around its shape, for blur
_HALO_PX = 2.5  # a region reaches this far beyond its thresholded pixels
_MIN_CONTRAST = 25.0  # of 255; black on navy, the faintest pair, has 73
_NOISE_LEVELS = 5.0  # a pixel is foreground from this many standard deviations on
_SMOOTHING_PX = 0.6
_MIN_AREA = 8 / 64**2  # of the canvas; the smallest object has 14.4 / 64^2

_COLOR_NAMES = tuple(COLORS)
_COLOR_VALUES = np.array(list(COLORS.values()), dtype=np.float32)
_BACKGROUND_NAMES = tuple(BACKGROUNDS)
_BACKGROUND_VALUES = np.array(list(BACKGROUNDS.values()), dtype=np.float32)
_KINDS = tuple((shape, size) for shape in SHAPES for size in SIZES)
_EVERY_NEIGHBOUR = np.ones((3, 3))


@dataclass(frozen=True, slots=True)
class Blob:
    """A region that is no object. Centre in [0, 1], area as a share of the canvas."""

    x: float
    y: float
    area: float
    error: float
    """Share of its energy that the best object leaves unexplained, in (MAX_ERROR, 1]."""


@dataclass(frozen=True, slots=True)
class ParsedScene:
    """The scene that an image shows, objects in reading order (by cell)."""

    background: str
    objects: tuple[SceneObject, ...]
    errors: tuple[float, ...]
    """Match error of each object, in [0, MAX_ERROR]: 0 is a perfect drawing."""
    blobs: tuple[Blob, ...]


@dataclass(frozen=True, slots=True)
class _Canvas:
    """Pixels minus background; a template's width of zeros around, so that patches always fit."""

    difference: Float32[np.ndarray, "h w 3"]
    smooth: Float32[np.ndarray, "h w 3"]
    contrast: Float32[np.ndarray, "h w"]
    background: Float32[np.ndarray, " 3"]
    noise: float
    """Standard deviation of a pixel's channel around the background, on the border."""
    size_px: int
    pad_px: int


@dataclass(frozen=True, slots=True)
class _Fit:
    """One region with its best explanation."""

    mask: Bool[np.ndarray, "h w"]
    found: SceneObject
    error: float
    residual: float


def parse(image: UInt8[np.ndarray, "h w 3"]) -> ParsedScene:
    """Read a square image of at least 64 px.

    Raises:
        ValueError: The image is not square or too small.
    """
    height, width = image.shape[:2]
    if height != width or height < MIN_SIZE_PX:
        raise ValueError(
            f"the image has {width} x {height} px: expected a square of {MIN_SIZE_PX} px or more"
        )
    if height > _MAX_WORKING_PX:
        square = (_MAX_WORKING_PX, _MAX_WORKING_PX)
        image = np.asarray(Image.fromarray(image).resize(square, Image.Resampling.BOX))
    canvas, background = _canvas(image.astype(np.float32))
    smooth_noise = canvas.noise / (2 * np.pi**0.5 * _SMOOTHING_PX)
    foreground = canvas.contrast > max(_MIN_CONTRAST, _NOISE_LEVELS * smooth_noise)
    fits = [fit for mask in _regions(foreground, canvas) for fit in _explain(mask, canvas)]
    named = [f for f in fits if f.error <= MAX_ERROR]
    named.sort(key=lambda f: CELLS.index(f.found.cell))
    return ParsedScene(
        background=background,
        objects=tuple(f.found for f in named),
        errors=tuple(f.error for f in named),
        blobs=tuple(_blob(f, canvas) for f in fits if f.error > MAX_ERROR),
    )


def _canvas(pixels: Float32[np.ndarray, "h w 3"]) -> tuple[_Canvas, str]:
    """Prepare an image, and name its background."""
    size_px = len(pixels)
    ring = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    background = np.median(ring, axis=0)
    spread = 1.4826 * np.median(np.abs(ring - background))  # a normal's standard deviation
    pad_px = _template_px(size_px)
    difference = np.pad(pixels - background, ((pad_px, pad_px), (pad_px, pad_px), (0, 0)))
    smooth = ndimage.gaussian_filter(difference, (_SMOOTHING_PX, _SMOOTHING_PX, 0), truncate=3)
    nearest = ((_BACKGROUND_VALUES - background) ** 2).sum(1).argmin()
    canvas = _Canvas(
        difference=difference,
        smooth=smooth,
        contrast=np.sqrt((smooth**2).sum(-1)),
        background=background,
        noise=float(spread),
        size_px=size_px,
        pad_px=pad_px,
    )
    return canvas, _BACKGROUND_NAMES[nearest]


def _regions(core: Bool[np.ndarray, "h w"], canvas: _Canvas) -> list[Bool[np.ndarray, "h w"]]:
    """Return each connected part of a mask, grown by its halo; no pixel belongs to two."""
    seeds, kept = _large_enough(_connected(core), canvas)
    if not kept:
        return []
    owner, distance = _nearest_seed(seeds)
    return [(owner == k) & (distance <= _HALO_PX) for k in kept]


def _connected(mask: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"]:
    labels = np.zeros(mask.shape, dtype=np.int32)
    ndimage.label(mask, _EVERY_NEIGHBOUR, output=labels)
    return labels


def _nearest_seed(
    seeds: Int[np.ndarray, "h w"],
) -> tuple[Int[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Return the label of the nearest labelled pixel, and how far away it is in px."""
    rows, columns = np.asarray(
        ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    )
    here_row, here_column = np.ogrid[: seeds.shape[0], : seeds.shape[1]]
    return seeds[rows, columns], np.hypot(rows - here_row, columns - here_column)


def _large_enough(
    labels: Int[np.ndarray, "h w"], canvas: _Canvas
) -> tuple[Int[np.ndarray, "h w"], list[int]]:
    """Drop labels of a few pixels: noise, or the rim of an object."""
    areas = np.bincount(labels.ravel())
    kept = [k for k in range(1, len(areas)) if areas[k] >= _MIN_AREA * canvas.size_px**2]
    return np.where(np.isin(labels, kept), labels, 0), kept


def _explain(mask: Bool[np.ndarray, "h w"], canvas: _Canvas) -> list[_Fit]:
    """Explain a region by one object, or by several where that leaves less."""
    whole = _fit(mask, canvas)
    if whole.error < _SPLIT_ERROR:
        return [whole]
    best, best_residual = [whole], whole.residual
    for parts in _splits(mask, canvas):
        if len(parts) < 2:
            continue
        fits = [_fit(part, canvas) for part in parts]
        residual = sum(f.residual for f in fits)
        if residual < 0.5 * best_residual:
            best, best_residual = fits, residual
    return best


def _splits(
    mask: Bool[np.ndarray, "h w"], canvas: _Canvas
) -> Iterator[list[Bool[np.ndarray, "h w"]]]:
    """Yield ways to cut a region: along its colours, and where its contrast sinks."""
    contrast = np.where(mask, canvas.contrast, 0)
    ridge = contrast > 0.5 * ndimage.maximum_filter(contrast, 5)  # edges mix two colours
    ridge &= contrast > 0.3 * contrast.max()
    color = np.full(mask.shape, -1)
    color[ridge] = _nearest_colors(canvas.smooth[ridge], canvas)
    labels = np.zeros(mask.shape, dtype=np.int32)
    for c in np.unique(color[ridge]):
        found = _connected(color == c)
        labels[found > 0] = found[found > 0] + labels.max()
    yield _parts(labels, mask, canvas)
    for level in _SPLIT_LEVELS:
        yield _parts(_connected(contrast > level * contrast.max()), mask, canvas)


def _nearest_colors(pixels: Float32[np.ndarray, "n 3"], canvas: _Canvas) -> Int[np.ndarray, " n"]:
    """Name differences by the nearest line from background to colour, its far end preferred."""
    vectors = _COLOR_VALUES - canvas.background
    lengths = (vectors**2).sum(1)
    share = np.clip(pixels @ vectors.T / lengths, 0, 1)
    off_line = ((pixels[:, None] - share[..., None] * vectors) ** 2).sum(-1)
    return (off_line + 0.1 * (1 - share) ** 2 * lengths).argmin(1)


def _parts(
    labels: Int[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"], canvas: _Canvas
) -> list[Bool[np.ndarray, "h w"]]:
    """Cut a region among labels: each of its pixels goes to the nearest."""
    seeds, kept = _large_enough(labels, canvas)
    if len(kept) < 2:
        return []
    owner, _ = _nearest_seed(seeds)
    return [mask & (owner == k) for k in kept]


def _fit(mask: Bool[np.ndarray, "h w"], canvas: _Canvas) -> _Fit:
    """Find the object that explains a region best."""
    rows, columns = np.nonzero(mask)
    pixels = canvas.difference[rows, columns]
    energy = float((pixels**2).sum())
    direction = pixels.sum(0)
    weights = np.maximum(pixels @ direction, 0)
    y_px = float(weights @ rows / weights.sum()) + 0.5
    x_px = float(weights @ columns / weights.sum()) + 0.5

    num_px = _template_px(canvas.size_px)
    steps_x, steps_y = round(x_px * _STEPS_PER_PX), round(y_px * _STEPS_PER_PX)
    left, top = steps_x // _STEPS_PER_PX - num_px // 2, steps_y // _STEPS_PER_PX - num_px // 2
    patch = (slice(top, top + num_px), slice(left, left + num_px))
    data = rearrange(canvas.difference[patch] * mask[patch][..., None], "h w c -> (h w) c")
    templates, squares = _templates(
        canvas.size_px, steps_x % _STEPS_PER_PX, steps_y % _STEPS_PER_PX
    )
    vectors = _COLOR_VALUES - canvas.background
    gain = 2 * (templates @ data) @ vectors.T - squares[..., None] * (vectors**2).sum(1)
    blur, kind, color = np.unravel_index(gain.argmax(), gain.shape)
    shape, size = _KINDS[kind]
    noise_energy = pixels.size * canvas.noise**2  # no object explains it, so it is no error
    residual = max(energy - noise_energy - float(gain[blur, kind, color]), 0.0)
    y_px -= _centroid_offset(shape) * SIZES[size] * canvas.size_px
    found = SceneObject(
        shape=shape,
        color=_COLOR_NAMES[color],
        size=size,
        x=float(np.clip((x_px - canvas.pad_px) / canvas.size_px, 0, 1)),
        y=float(np.clip((y_px - canvas.pad_px) / canvas.size_px, 0, 1)),
    )
    return _Fit(mask, found, min(residual / energy, 1.0), residual)


def _template_px(size_px: int) -> int:
    return round(max(SIZES.values()) * size_px) + 2 * _MARGIN_PX


def _centroid_offset(shape: str) -> float:
    """Distance of the centroid below the bounding box's centre, in widths."""
    return ASPECT[shape] / 6 if shape == "triangle" else 0.0


@functools.cache
def _templates(
    size_px: int, step_x: int, step_y: int
) -> tuple[Float32[np.ndarray, "blurs kinds pixels"], Float32[np.ndarray, "blurs kinds"]]:
    """Return all coverages, centroids at the patch's centre plus some steps, and their sum t^2."""
    num_px = _template_px(size_px)
    x_px = num_px // 2 + step_x / _STEPS_PER_PX
    y_px = num_px // 2 + step_y / _STEPS_PER_PX
    sharp = []
    for shape, size in _KINDS:
        width_px = SIZES[size] * size_px
        centre_y_px = y_px - _centroid_offset(shape) * width_px
        sharp.append(coverage(shape, width_px, x_px, centre_y_px, num_px, num_px))
    levels = [ndimage.gaussian_filter(np.stack(sharp), (0, blur, blur)) for blur in _BLURS_PX]
    templates = rearrange(levels, "blurs kinds h w -> blurs kinds (h w)").astype(np.float32)
    return templates, (templates**2).sum(-1)


def _blob(fit: _Fit, canvas: _Canvas) -> Blob:
    y, x = (np.mean(i) - canvas.pad_px + 0.5 for i in np.nonzero(fit.mask))
    return Blob(
        x=float(x / canvas.size_px),
        y=float(y / canvas.size_px),
        area=float(fit.mask.sum() / canvas.size_px**2),
        error=fit.error,
    )
