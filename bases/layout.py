"""What is where: scene graphs as class targets, and a probe that reads them off hidden states.

Two cores cannot afford the images that binding takes to emerge from captions alone, so the parts of
uae-tiny are also taught the scene graph directly, cell by cell. Heads and probes are thrown away.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from uae.scenes.graph import BACKGROUNDS, CELLS, COLORS, SHAPES, SIZES, Scene
from uae.scenes.reading import Claims, ObjectClaim, full_claim, read_caption

NUM_CLASSES = (1 + len(SHAPES), 1 + len(COLORS), 1 + len(SIZES))
"""Classes of a cell's shape, colour and size; class 0 is an empty cell."""
LOGITS = sum(NUM_CLASSES)
UNSTATED = -100
EMPTY_WEIGHT = 0.2  # two cells in three are empty


@dataclass(frozen=True, slots=True)
class Layout:
    """Class targets of b scenes; `UNSTATED` where a text leaves the matter open."""

    cells: Int[Tensor, "b 9 3"]
    background: Int[Tensor, " b"]


def layout_of(scenes: Sequence[Scene]) -> Layout:
    """Return the targets of whole scenes."""
    cells = torch.zeros(len(scenes), len(CELLS), 3, dtype=torch.long)
    for i, scene in enumerate(scenes):
        for o in scene.objects:
            cells[i, CELLS.index(o.cell)] = torch.tensor(_classes(o.shape, o.color, o.size))
    names = [list(BACKGROUNDS).index(s.background) for s in scenes]
    return Layout(cells, torch.tensor(names))


def layout_told(texts: Sequence[Claims]) -> Layout:
    """Return the targets of what texts say.

    An object without a place leaves the cells that others do not claim open.
    """
    cells = torch.zeros(len(texts), len(CELLS), 3, dtype=torch.long)
    background = torch.full((len(texts),), UNSTATED)
    for i, told in enumerate(texts):
        if any(claim.cell is None for claim in told.objects):
            cells[i] = UNSTATED
        for claim in told.objects:
            if claim.cell is not None:
                classes = _classes(claim.shape, claim.color, claim.size)
                cells[i, CELLS.index(claim.cell)] = torch.tensor(classes)
        if told.background in BACKGROUNDS:
            background[i] = list(BACKGROUNDS).index(told.background)
    return Layout(cells, background)


def _classes(shape: str, color: str | None, size: str | None) -> list[int]:
    return [
        1 + SHAPES.index(shape),
        1 + list(COLORS).index(color) if color in COLORS else UNSTATED,
        1 + list(SIZES).index(size) if size is not None else UNSTATED,
    ]


def layout_loss(
    logits: tuple[Float[Tensor, "b 9 c"], Float[Tensor, "b k"]], layout: Layout
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """Return the cross-entropy, and the shares of occupied cells with the right classes."""
    cells, background = logits
    loss = (
        0.2
        * F.cross_entropy(background, layout.background, ignore_index=UNSTATED, reduction="sum")
        / max(1, int((layout.background != UNSTATED).sum()))
    )
    right = {}
    parts = cells.split(NUM_CLASSES, dim=-1)
    for k, (name, part) in enumerate(zip(("shape", "color", "size"), parts, strict=True)):
        target = layout.cells[..., k]
        weight = torch.tensor([EMPTY_WEIGHT] + [1.0] * (NUM_CLASSES[k] - 1))
        loss = loss + F.cross_entropy(
            rearrange(part, "b n c -> (b n) c"),
            rearrange(target, "b n -> (b n)"),
            weight,
            ignore_index=UNSTATED,
        )
        occupied = target > 0
        right[name] = (part.argmax(-1) == target)[occupied].float().mean().item()
    return loss, right


class LayoutHead(nn.Module):
    """A linear readout of the whole layout from one embedding."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.cells = nn.Linear(hidden_size, len(CELLS) * LOGITS)
        self.background = nn.Linear(hidden_size, len(BACKGROUNDS))

    def forward(
        self, states: Float[Tensor, "b d"]
    ) -> tuple[Float[Tensor, "b 9 c"], Float[Tensor, "b k"]]:
        """Return the logits of cells and background."""
        cells = rearrange(self.cells(states), "b (n c) -> b n c", n=len(CELLS))
        return cells, self.background(states)


class LayoutProbe(nn.Module):
    """One attention layer with a learned query for each cell and one for the background.

    It reads states the way the decoder's image tokens read a caption.
    """

    def __init__(self, hidden_size: int, num_positions: int = 0, num_heads: int = 4) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.queries = nn.Parameter(0.02 * torch.randn(len(CELLS) + 1, hidden_size))
        self.positions = nn.Parameter(0.02 * torch.randn(num_positions or 1, hidden_size))
        self.keys = nn.Linear(hidden_size, hidden_size)
        self.values = nn.Linear(hidden_size, hidden_size)
        self.mlp = nn.Sequential(
            nn.LayerNorm(hidden_size), nn.Linear(hidden_size, hidden_size), nn.GELU()
        )
        self.head_cells = nn.Linear(hidden_size, LOGITS)
        self.head_background = nn.Linear(hidden_size, len(BACKGROUNDS))

    def forward(
        self, states: Float[Tensor, "b s d"], mask: Bool[Tensor, "b s"] | None = None
    ) -> tuple[Float[Tensor, "b 9 c"], Float[Tensor, "b k"]]:
        """Return the logits of cells and background."""
        placed = states + self.positions
        queries, keys, values = (
            rearrange(x, "... s (h d) -> ... h s d", h=self.num_heads)
            for x in (self.queries, self.keys(placed), self.values(placed))
        )
        seen = None if mask is None else rearrange(mask, "b s -> b 1 1 s")
        read = F.scaled_dot_product_attention(
            queries.expand(len(states), -1, -1, -1), keys, values, attn_mask=seen
        )
        read = self.mlp(rearrange(read, "b h s d -> b s (h d)"))
        return self.head_cells(read[:, :-1]), self.head_background(read[:, -1])


_SENTENCE = re.compile(r"[^.]+\.?")
_ITEM = re.compile(r"(?:(?! and |,).)+")


def mentions(text: str) -> list[tuple[int, ObjectClaim]]:
    """Return where each object's phrase ends in a text, and what the phrase says of it.

    In a long caption that is the end of its sentence, in a list the end of its item.
    """
    found = []
    for sentence in _SENTENCE.finditer(text):
        pieces = [sentence]
        if len(read_caption(sentence.group()).objects) > 1:
            pieces = list(_ITEM.finditer(text, sentence.start(), sentence.end()))
        for piece in pieces:
            told = read_caption(piece.group())
            if len(told.objects) == 1 and not told.relations:
                found.append((piece.end(), told.objects[0]))
    return found


class MentionHead(nn.Module):
    """Reads one object, its place included, off one state: binding, taught where it happens."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.head = nn.Linear(hidden_size, len(CELLS) + LOGITS)

    def forward(
        self, states: Float[Tensor, "m d"], objects: Sequence[ObjectClaim]
    ) -> Float[Tensor, ""]:
        """Return the cross-entropy of what is stated of each object."""
        targets = [
            [
                UNSTATED if o.cell is None else CELLS.index(o.cell),
                *_classes(o.shape, o.color, o.size),
            ]
            for o in objects
        ]
        wanted = torch.tensor(targets)
        parts = self.head(states).split([len(CELLS), *NUM_CLASSES], dim=-1)
        return sum(
            (
                F.cross_entropy(part, wanted[:, k], ignore_index=UNSTATED)
                for k, part in enumerate(parts)
            ),
            start=states.new_zeros(()),
        )

    def in_texts(
        self,
        states: Float[Tensor, "b s d"],
        ends: Sequence[Sequence[int]],
        texts: Sequence[str],
    ) -> Float[Tensor, ""]:
        """Return the loss at the end of each object's phrase.

        Args:
            states: Hidden states of the texts.
            ends: For each text, where each of its tokens ends, in characters; 0 for a token that
                is not the text's.
            texts: Captions.
        """
        found = [(i, *mention) for i, text in enumerate(texts) for mention in mentions(text)]
        positions = [
            max(t for t, e in enumerate(ends[i]) if 0 < e <= phrase_end)
            for i, phrase_end, _ in found
        ]
        return self(states[[i for i, _, _ in found], positions], [claim for _, _, claim in found])

    def in_images(
        self, states: Float[Tensor, "b s d"], scenes: Sequence[Scene]
    ) -> Float[Tensor, ""]:
        """Return the loss at the visual token over each object's centre; s tokens tile a square."""
        side = math.isqrt(states.shape[1])
        found = [(i, o) for i, scene in enumerate(scenes) for o in scene.objects]
        positions = [int(o.y * side) * side + int(o.x * side) for _, o in found]
        return self(states[[i for i, _ in found], positions], [full_claim(o) for _, o in found])
