"""Parts of a run take turns on the device: those that a phase does not need wait in CPU memory.

    with offload.at_work("encoder"):
        captions = encoder.sample(...)

A part that is at work comes to the device and stays there until another phase begins without it. No
number changes.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager


class Offload:
    """The places of parts by name; parts without a name here stay where they are."""

    def __init__(self, moves: Mapping[str, Callable[[str], object]], device: str = "cpu") -> None:
        """Send all parts to the CPU.

        Args:
            moves: What moves each part to a device.
            device: Where they work.
        """
        self.device = device
        self.moves: dict[str, Callable[[str], object]] = {}
        self.here: set[str] = set()
        """Parts on the device, of those that take turns."""
        self._wanted: Counter[str] = Counter()
        for name, move in moves.items():
            self.add(name, move)

    def add(self, name: str, move: Callable[[str], object]) -> None:
        """Let one more part take turns; it waits at first."""
        self.moves[name] = move
        move("cpu")

    @contextmanager
    def at_work(self, *names: str) -> Iterator[None]:
        """Within this context these parts, and those of contexts around it, are on the device."""
        self._wanted.update(names)
        try:
            wanted = {name for name, count in self._wanted.items() if count} & self.moves.keys()
            for name in self.here - wanted:  # before others come
                self.moves[name]("cpu")
            for name in wanted - self.here:
                self.moves[name](self.device)
            self.here = wanted
            yield
        finally:
            self._wanted.subtract(names)
