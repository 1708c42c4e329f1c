"""What a prompt of GenEval asks for, be it of classes in photographs or of shapes in scenes."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")


@dataclass(frozen=True, slots=True)
class Clause:
    """`count` objects of a class, of a colour, in a place relative to others."""

    class_name: str
    count: int
    color: str | None = None
    position: tuple[str, int] | None = None
    """Relation, and the index of the earlier include clause that holds its target."""

    def values(self) -> dict[str, Any]:
        """Return the clause as the file holds it, in its order of keys."""
        values: dict[str, Any] = {"class": self.class_name, "count": self.count}
        if self.color is not None:
            values["color"] = self.color
        if self.position is not None:
            values["position"] = list(self.position)
        return values


@runtime_checkable
class Asking(Protocol):
    """Anything that asks for clauses."""

    @property
    def include(self) -> tuple[Clause, ...]: ...

    @property
    def exclude(self) -> tuple[Clause, ...]: ...
