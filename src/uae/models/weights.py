"""The weights files of a folder, compared with a module before either is loaded."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from uae.core.errors import UsageError
from uae.models.loading import check_weights, some_weights

_LEFT_OVER = "have no place in the layout that the paper's authors released"

Shapes = Mapping[str, tuple[int, ...]]


class Weights:
    """The weights files of a folder, by their headers; tensors are read one by one."""

    def __init__(self, folder: Path) -> None:
        """Look into all files.

        Raises:
            UsageError: There are none, or one is damaged.
        """
        check_weights(folder)
        self.folder = folder
        self._files: dict[str, Path] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                for key in file.keys():  # noqa: SIM118 - it is no mapping
                    self._files[key] = path
                    self.shapes[key] = tuple(file.get_slice(key).get_shape())
        if not self.shapes:
            raise UsageError(f"{folder} holds no weights: expected *.safetensors")

    def __getitem__(self, key: str) -> Tensor:
        with safe_open(self._files[key], "pt") as file:
            return file.get_tensor(key)

    def check(self, named: Mapping[str, str], expected: Shapes, unless: Iterable[str] = ()) -> None:
        """Compare names and shapes with those of a module.

        Args:
            named: The module's name of each weight to its key here.
            expected: Shapes by the module's names.
            unless: Names that may be missing.

        Raises:
            UsageError: A weight is missing, left over or misshapen; names the first.
        """
        if missing := sorted(expected.keys() - named.keys() - {*unless}):
            raise UsageError(f"{self.folder} lacks {some_weights(missing)}")
        if left := sorted(named[name] for name in named.keys() - expected.keys()):
            raise UsageError(f"{self.folder} holds {some_weights(left)} that {_LEFT_OVER}")
        for name, key in named.items():
            if self.shapes[key] != expected[name]:
                raise UsageError(
                    f"{self.folder}: the weights {key!r} have the shape {self.shapes[key]}: "
                    f"expected {expected[name]}"
                )
