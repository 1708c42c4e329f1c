"""Pictures of results: original | caption | redraw | similarities, and the same images over stages.

Lengths are in layout pixels; a sheet is drawn with `_SCALE` real pixels to each, so that text stays
crisp on screens of high density.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate

from PIL import Image, ImageDraw, ImageFont

MAX_ROWS = 100  # a row takes about 3 MB of memory

_SCALE = 2
_PICTURE, _CAPTION, _NUMBER = 192, 380, 64  # widths of columns, the last at least
_MARGIN, _GAP, _ROW_GAP = 36, 28, 32
_PAPER, _INK, _MUTED, _RULE = "#fcfbf9", "#23272c", "#7b8188", "#e4e2dd"
_HEADING_SIZE, _TEXT_SIZE, _LABEL_SIZE = 15, 14, 12
_LINE_HEIGHT = 1.45  # of the text's size
_MAX_LINES = 40
_NEAREST_BELOW_PX = 160  # smaller pictures show their pixels, larger ones are smoothed
_PLAIN = {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'}
_PLAIN |= {"\u2013": "-", "\u2014": " - ", "\u00df": "ss", "\u00d7": "x"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetRow:
    """One image with its caption and redraw. `similarities` are cosines by backbone, in order."""

    name: str
    original: Image.Image
    caption: str
    redraw: Image.Image
    similarities: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageColumn:
    """Captions and redraws of one stage, in the images' order; `similarities` may be left out."""

    title: str
    captions: Sequence[str]
    redraws: Sequence[Image.Image]
    similarities: Sequence[float] = ()


def reconstruction_sheet(rows: Sequence[SheetRow]) -> Image.Image:
    """Lay out a row for each image: original | caption | redraw | similarities.

    Of more than `MAX_ROWS` images the first are drawn, and the sheet says so.
    """
    if not rows:
        raise ValueError("rows is empty: expected at least one image")
    shown = rows[:MAX_ROWS]
    backbones = list(dict.fromkeys(name for row in shown for name in row.similarities))
    numbers = [max(_NUMBER, round(_width(name, _LABEL_SIZE))) for name in backbones]
    widths = [_PICTURE, _CAPTION, _PICTURE, *numbers]
    lefts = [_MARGIN + x for x in accumulate([0, *(width + _GAP for width in widths[:-1])])]
    texts = [_wrap(row.caption, _CAPTION, _TEXT_SIZE) for row in shown]
    heights = [max(_PICTURE, 22 + _text_height(text, _TEXT_SIZE)) + _ROW_GAP for text in texts]
    top = _MARGIN
    footer = 24 if len(rows) > len(shown) else 0
    right = lefts[-1] + widths[-1]
    canvas = _Canvas(right + _MARGIN, top + 36 + sum(heights) + footer)
    for left, label in zip(lefts, ("original", "caption", "redraw from caption"), strict=False):
        canvas.text(left, top, label, _LABEL_SIZE, _MUTED)
    rights = [left + width for left, width in zip(lefts[3:], numbers, strict=True)]
    for x, label in zip(rights, backbones, strict=True):
        canvas.text(x, top, label, _LABEL_SIZE, _MUTED, anchor="ra")
    top += 36
    for row, text, height in zip(shown, texts, heights, strict=True):
        canvas.rule(_MARGIN, right, top - _ROW_GAP // 2)
        canvas.picture(lefts[0], top, row.original)
        canvas.text(lefts[1], top, _shorten(row.name, _CAPTION), _LABEL_SIZE, _MUTED)
        canvas.lines(lefts[1], top + 22, text, _TEXT_SIZE)
        canvas.picture(lefts[2], top, row.redraw)
        for x, name in zip(rights, backbones, strict=True):
            number = f"{row.similarities[name]:.3f}" if name in row.similarities else "-"
            canvas.text(x, top, number, _HEADING_SIZE, _INK, anchor="ra")
        top += height
    if footer:
        note = f"The first {len(shown)} of {len(rows):,} images."
        canvas.text(_MARGIN, top, note, _LABEL_SIZE, _MUTED)
    return canvas.image


def progress_sheet(originals: Sequence[Image.Image], stages: Sequence[StageColumn]) -> Image.Image:
    """Lay out a row for each image: the original, then each stage's redraw over its caption."""
    if not originals or not stages:
        raise ValueError("originals or stages is empty: expected at least one of each")
    for stage in stages:
        if not len(stage.captions) == len(stage.redraws) == len(originals):
            raise ValueError(f"stage {stage.title!r} has another number of images than originals")
    column = _PICTURE + 24
    lefts = [_MARGIN + i * (column + _GAP) for i in range(1 + len(stages))]
    texts = [[_wrap(text, column, _LABEL_SIZE + 1) for text in stage.captions] for stage in stages]
    text_heights = [
        max(_text_height(text, _LABEL_SIZE + 1) for text in row) for row in zip(*texts, strict=True)
    ]
    above_text = column + 12 + (20 if any(stage.similarities for stage in stages) else 0)
    top = _MARGIN
    heights = [above_text + height + _ROW_GAP for height in text_heights]
    canvas = _Canvas(lefts[-1] + column + _MARGIN, top + 32 + sum(heights))
    for left, heading in zip(lefts, ["original", *(s.title for s in stages)], strict=True):
        canvas.text(left, top, heading, _HEADING_SIZE, _INK)
    top += 32
    for i, original in enumerate(originals):
        canvas.picture(lefts[0], top, original, column)
        for left, stage, text in zip(lefts[1:], stages, texts, strict=True):
            canvas.picture(left, top, stage.redraws[i], column)
            if stage.similarities:
                number = f"similarity {stage.similarities[i]:.3f}"
                canvas.text(left, top + column + 10, number, _LABEL_SIZE, _MUTED)
            canvas.lines(left, top + above_text, text[i], _LABEL_SIZE + 1)
        top += heights[i]
    return canvas.image


class _Canvas:
    """Draws on paper, in layout pixels."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width * _SCALE, height * _SCALE), _PAPER)
        self._draw = ImageDraw.Draw(self.image)

    def text(self, x: int, y: int, text: str, size: int, color: str, anchor: str = "la") -> None:
        place = (x * _SCALE, y * _SCALE)
        self._draw.text(place, _printable(text), fill=color, font=_font(size), anchor=anchor)

    def lines(self, x: int, y: int, lines: Sequence[str], size: int) -> None:
        for i, line in enumerate(lines):
            self.text(x, y + round(i * size * _LINE_HEIGHT), line, size, _INK)

    def rule(self, left: int, right: int, y: int) -> None:
        ends = (left * _SCALE, y * _SCALE, right * _SCALE, y * _SCALE)
        self._draw.line(ends, fill=_RULE, width=_SCALE)

    def picture(self, x: int, y: int, image: Image.Image, side: int = _PICTURE) -> None:
        """Draw an image as large as fits a square, from its top left corner, with a thin edge."""
        inside = _fit_inside(image.convert("RGB"), side * _SCALE)
        left, top = x * _SCALE, y * _SCALE
        self.image.paste(inside, (left, top))
        edge = (left, top, left + inside.width - 1, top + inside.height - 1)
        self._draw.rectangle(edge, outline=_RULE)


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * _SCALE)


def _printable(text: str) -> str:
    """Return text in ASCII, which is what Pillow's own font has; "?" where that has no likeness."""
    plain = unicodedata.normalize("NFKD", text.translate(str.maketrans(_PLAIN)))
    plain = "".join(character for character in plain if not unicodedata.combining(character))
    return plain.encode("ascii", "replace").decode()


def _width(text: str, size: int) -> float:
    return _font(size).getlength(text) / _SCALE


def _wrap(text: str, width: int, size: int) -> list[str]:
    """Break text into lines of at most `width`, inside a word only where it is longer than that."""
    lines, line = [], ""
    words = _printable(text).split()
    for i, word in enumerate(words):
        joined = f"{line} {word}".strip()
        if _width(joined, size) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        *broken, line = _break_word(word, width, size)
        lines += broken
        if len(lines) >= _MAX_LINES:
            return [*lines[:_MAX_LINES], f"[... and {len(words) - i:,} words more]"]
    return [*lines, line] if line else lines


def _break_word(word: str, width: int, size: int) -> list[str]:
    pieces = [""]
    for character in word:
        if pieces[-1] and _width(pieces[-1] + character, size) > width:
            pieces.append("")
        pieces[-1] += character
    return pieces


def _shorten(name: str, width: int) -> str:
    """Return the end of a path name that fits."""
    name = _printable(name)
    if _width(name, _LABEL_SIZE) <= width:
        return name
    while _width(f"...{name}", _LABEL_SIZE) > width:
        name = name[1:]
    return f"...{name}"


def _text_height(lines: Sequence[str], size: int) -> int:
    return round(len(lines) * size * _LINE_HEIGHT)


def _fit_inside(image: Image.Image, side: int) -> Image.Image:
    longest = max(image.size)
    size = tuple(max(1, round(length * side / longest)) for length in image.size)
    if longest <= _NEAREST_BELOW_PX:
        factor = -(-side // longest)
        enlarged = (image.width * factor, image.height * factor)
        image = image.resize(enlarged, Image.Resampling.NEAREST)
    return image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
