"""Captions back to claims, without a model: the inverse of `language` for model-made captions too.

Words become tokens (the longest known phrase wins: "in the top left" before "in the top"), and each
sentence is read once from left to right:

- size and colour words wait for the shape word that they describe; ", small and red" and
  ", small in size" describe the shape before them
- a place belongs to the object before it in its sentence, or, at a sentence's start, to the next
- "a" and number words introduce objects; "the" names one again, unless none so far could be meant
- a relation joins the object before it and the object after it
"""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from uae.scenes.graph import BACKGROUNDS, COLORS, SceneObject
from uae.scenes.language import (
    CELL_PHRASES,
    NUMBER_WORDS,
    RELATION_PHRASES,
    SHAPE_WORDS,
    SIZE_WORDS,
    plural,
)

ATTRIBUTES = ("shape", "color", "size", "cell")

_FILLERS = (
    *("there is", "sits", "is placed", "one can see", "appears", "in size", "is", "lies", "on"),
    *("the picture shows", "the image has", "this is", "in it", "with", "plain", "a photo of"),
    *("image", "photo", "it", "this", "shows", "has"),
)
_WORD = re.compile(r"[^\W_]+|[.,!?;:]")


@dataclass(frozen=True, slots=True)
class ObjectClaim:
    """One object as a caption describes it; None is what the caption leaves open.

    `color` may be the name of a background ("a gray circle"), which no object has.
    """

    shape: str
    color: str | None = None
    size: str | None = None
    cell: str | None = None

    @property
    def stated(self) -> dict[str, str]:
        values = (self.shape, self.color, self.size, self.cell)
        return {a: v for a, v in zip(ATTRIBUTES, values, strict=True) if v is not None}

    def fits(self, other: "ObjectClaim") -> bool:
        """Tell whether nothing stated of one contradicts what is stated of the other."""
        mine, theirs = self.stated, other.stated
        return all(mine[a] == theirs[a] for a in mine.keys() & theirs.keys())


@dataclass(frozen=True, slots=True)
class RelationClaim:
    """`subject` stands in relation `name` (one of GenEval's `RELATIONS`) to `reference`.

    Both are as described in this very sentence ("the red circle").
    """

    subject: ObjectClaim
    name: str
    reference: ObjectClaim


@dataclass(frozen=True, slots=True)
class Claims:
    """All that a caption says."""

    background: str | None
    """May be the name of an object's colour, which no background has."""
    count: int | None
    """Number of objects, if the caption states it in a word ("three shapes")."""
    objects: tuple[ObjectClaim, ...]
    """In the order of their introduction. "two red circles" are two claims."""
    relations: tuple[RelationClaim, ...]
    unknown_words: tuple[str, ...]
    """Words that no caption of `language` holds."""
    unread_words: tuple[str, ...]
    """Known words that describe nothing here: a colour without a shape, a second place."""


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    value: str


def full_claim(o: SceneObject) -> ObjectClaim:
    """State everything of an object, as a long caption does."""
    return ObjectClaim(o.shape, o.color, o.size, o.cell)


def read_caption(caption: str) -> Claims:
    """Read a caption or prompt; never fails."""
    tokens = _tokens(caption)
    reader = _Reader()
    reader.read([token for token in tokens if token.kind != "unknown"])
    return Claims(
        background=reader.background,
        count=reader.count,
        objects=tuple(reader.objects),
        relations=tuple(reader.relations),
        unknown_words=tuple(token.value for token in tokens if token.kind == "unknown"),
        unread_words=tuple(reader.unread),
    )


def _tokens(caption: str) -> list[_Token]:
    words = _WORD.findall(caption.lower())
    phrases = _phrases()
    longest = max(len(phrase) for phrase in phrases)
    tokens, i = [], 0
    while i < len(words):
        for length in range(longest, 0, -1):
            token = phrases.get(tuple(words[i : i + length]))
            if token is not None:
                break
        else:
            token, length = _Token("unknown", words[i]), 1
        tokens.append(token)
        i += length
    return tokens


@functools.cache
def _phrases() -> Mapping[tuple[str, ...], _Token]:
    """Return every known phrase, as words, with its meaning."""
    words = {
        "filler": _FILLERS,
        "thing": ("shape", "shapes"),
        "scenery": ("background", "picture"),
        "article": ("a", "an", "the"),
        "comma": (",",),
        "and": ("and",),
        "stop": ".!?;:",
        "color": (*COLORS, *BACKGROUNDS),
    }
    known = {text: _Token(kind, text) for kind, texts in words.items() for text in texts}
    known |= {word: _Token("number", str(i)) for i, word in enumerate(NUMBER_WORDS)}
    known |= {word: _Token("size", size) for size, words in SIZE_WORDS.items() for word in words}
    known |= {text: _Token("cell", cell) for cell, texts in CELL_PHRASES.items() for text in texts}
    for name, text in RELATION_PHRASES.items():
        known |= {text: _Token("relation", name), name: _Token("relation", name)}
    for shape, words in SHAPE_WORDS.items():
        for word in words:
            known |= dict.fromkeys((word, plural(word)), _Token("shape", shape))
    return {tuple(_WORD.findall(text)): token for text, token in known.items()}


class _Reader:
    """State of a reading: objects that are read, and words that wait for their object."""

    def __init__(self) -> None:
        self.background: str | None = None
        self.count: int | None = None
        self.objects: list[ObjectClaim] = []
        self.relations: list[RelationClaim] = []
        self.unread: list[str] = []
        self._start_sentence()

    def _start_sentence(self) -> None:
        self.latest: list[int] = []  # the objects that the sentence named last
        self.said: ObjectClaim | None = None  # and how it named them
        self.place: str | None = None  # a place at the sentence's start
        self.relation: tuple[ObjectClaim, str] | None = None  # a subject without its reference
        self._start_noun()

    def _start_noun(self) -> None:
        self.number = 1
        self.is_definite = False
        self.waiting: dict[str, str] = {}  # attributes of the shape word to come

    def read(self, tokens: Sequence[_Token]) -> None:
        for i, token in enumerate(tokens):
            rest = tokens[i + 1 :]
            match token.kind:
                case "stop":
                    self._end_sentence()
                case "article" | "number":
                    self._drop_waiting()
                    self._start_noun()
                    self.is_definite = token.value == "the"
                    self.number = int(token.value) if token.kind == "number" else 1
                case "color" if rest and rest[0].kind == "scenery":
                    self._set_background(token.value)
                case "size" | "color":
                    self._attribute(token, rest)
                case "cell":
                    self._place(token.value)
                case "relation":
                    self._relate(token.value)
                case "shape":
                    self._object(token.value)
                case "thing":
                    self._things()
                case _:
                    pass  # words that only hold a sentence together
        self._end_sentence()

    def _end_sentence(self) -> None:
        self._drop_waiting()
        if self.place is not None:
            self.unread.append(self.place)
        if self.relation is not None:
            self.unread.append(self.relation[1])
        self._start_sentence()

    def _drop_waiting(self) -> None:
        self.unread += self.waiting.values()
        self.waiting = {}

    def _set_background(self, name: str) -> None:
        if self.background is None:
            self.background = name
        elif self.background != name:
            self.unread.append(name)

    def _things(self) -> None:
        """Read "three shapes": the number of objects, not an object."""
        if self.count is None:
            self.count = self.number
        self._drop_waiting()
        self._start_noun()

    def _attribute(self, token: _Token, rest: Sequence[_Token]) -> None:
        """Keep a size or colour for the shape word after it, or give it to the one before it."""
        ahead = (t.kind for t in rest if t.kind not in ("size", "color", "and"))
        if next(ahead, "stop") != "shape":
            self._describe_latest(token.kind, token.value)
        elif token.kind in self.waiting:
            self.unread.append(token.value)
        else:
            self.waiting[token.kind] = token.value

    def _place(self, cell: str) -> None:
        if not self.latest and self.place is None:
            self.place = cell
        else:
            self._describe_latest("cell", cell)

    def _describe_latest(self, attribute: str, value: str) -> None:
        open_ones = [i for i in self.latest if attribute not in self.objects[i].stated]
        if not open_ones:
            self.unread.append(value)
        for i in open_ones:
            self.objects[i] = replace(self.objects[i], **{attribute: value})

    def _relate(self, name: str) -> None:
        if self.said is None or self.relation is not None:
            self.unread.append(name)
        else:
            self.relation = (self.said, name)

    def _object(self, shape: str) -> None:
        """Read a shape word: new objects, or one that is known already."""
        self.said = ObjectClaim(shape, **self.waiting)
        self.latest = [known] if (known := self._known(self.said)) is not None else []
        if not self.latest:
            self.latest = list(range(len(self.objects), len(self.objects) + self.number))
            self.objects += [self.said] * self.number
        if self.relation is not None:
            self.relations.append(RelationClaim(*self.relation, self.said))
            self.relation = None
        if self.place is not None:
            self._describe_latest("cell", self.place)
            self.place = None
        self._start_noun()

    def _known(self, said: ObjectClaim) -> int | None:
        """Return the object that "the ..." names again, the one that needs no new detail first."""
        if not self.is_definite:
            return None
        fitting = [i for i, claim in enumerate(self.objects) if claim.fits(said)]
        fitting.sort(key=lambda i: len(said.stated.keys() - self.objects[i].stated.keys()))
        if not fitting:
            return None
        new = {a: v for a, v in said.stated.items() if a not in self.objects[fitting[0]].stated}
        self.objects[fitting[0]] = replace(self.objects[fitting[0]], **new)
        return fitting[0]
