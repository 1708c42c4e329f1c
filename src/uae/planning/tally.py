# torch's operators and modes are untyped
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
"""Counts what a step takes, operations and memory, by running it on tensors without numbers.

    tally = Tally(model.parameters())
    with tally.counting() as count:
        loss = ...
        loss.backward()
    count.total, count.peak

The weights are on torch's `meta` device, which knows shapes alone; small inputs (token ids, masks,
noise levels) stay on the CPU and keep their numbers. Where both meet, the result has none. Code
that asks for a number is told that all went well: True, 1, a loss or deviation of 0.0.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary, finalize

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten
_MAKERS = {
    op.default for op in (aten.arange, aten.zeros, aten.ones, aten.full, aten.scalar_tensor)
} | {aten.arange.start, aten.arange.start_step}
_PER_INDEX = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)


@dataclass(slots=True)
class Count:
    """What a piece of work took.

    Attributes:
        flop: Floating-point operations by precision, of products of matrices and convolutions, as
            torch's FlopCounterMode counts them.
        moved: Bytes that these read and wrote.
        peak: Most bytes at once, beside those that were there before the tally began.
        kept: Bytes that were there when it ended.
    """

    flop: Counter[torch.dtype] = field(default_factory=Counter)
    moved: int = 0
    peak: int = 0
    kept: int = 0

    @property
    def total(self) -> int:
        """Operations in all."""
        return self.flop.total()


class Tally(TorchDispatchMode):
    """Counts operations and the bytes of storages as long as it is entered."""

    def __init__(self, present: Iterable[Tensor] = ()) -> None:
        """Begin at nothing; `present` are tensors that count for nothing."""
        super().__init__()
        self.count = Count()
        self.now = self.peak = 0
        self._sizes: WeakKeyDictionary[torch.UntypedStorage, int] = WeakKeyDictionary()
        for tensor in present:
            self._sizes[tensor.untyped_storage()] = 0

    @contextmanager
    def counting(self) -> Iterator[Count]:
        """Within this context, count anew; what was made before still takes its bytes."""
        self.count, self.peak = Count(), self.now
        with self:
            yield self.count
        self.count.peak, self.count.kept = self.peak, self.now

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = _answer(func, args, kwargs)
        results = _tensors_of((out,))
        for tensor in results:
            self._see(tensor.untyped_storage())
        if formula := flop_registry.get(func._overloadpacket):
            self.count.flop[results[0].dtype] += formula(*args, **kwargs, out_val=out)
            given = (*_tensors_of(args), *results)
            self.count.moved += sum(x.numel() * x.element_size() for x in given)
        return out

    def _see(self, storage: torch.UntypedStorage) -> None:
        if storage in self._sizes:
            return
        size = self._sizes[storage] = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self.now -= size


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention as GPUs compute it; torch takes that on `meta` apart into whole matrices."""
    repeats = query.shape[1] // key.shape[1] if enable_gqa else 1
    key, value = (x if repeats == 1 else x.repeat_interleave(repeats, 1) for x in (key, value))
    bias = None
    if attn_mask is not None:
        shape = (*query.shape[:-1], key.shape[-2])
        bias = attn_mask.to(query.device, query.dtype).expand(shape)
    return aten._scaled_dot_product_efficient_attention(
        query, key, value, bias, torch.is_grad_enabled(), dropout_p, is_causal, scale=scale
    )[0]


_kernels = torch.library.Library("aten", "IMPL")
_kernels.impl("scaled_dot_product_attention", _attention, "AutogradMeta")


def _answer(func: Any, args: Any, kwargs: Any) -> Any:
    """Run an operator with what is known of its inputs."""
    given = _tensors_of((*args, *kwargs.values()))
    if not any(x.is_meta for x in given):
        if str(kwargs.get("device")) == "meta" and not _is_float(func, args, kwargs):
            kwargs = {**kwargs, "device": "cpu"}  # what is known stays known
        return func(*args, **kwargs)
    if func in _GUESSES:
        return _GUESSES[func](*args, **kwargs)
    first = args[0]
    if func._schema.is_mutable and isinstance(first, Tensor) and first.is_cpu:
        return first  # its numbers stay as they were
    if (
        func is aten._to_copy.default
        and torch.device(kwargs.get("device") or "meta").type != "meta"
    ):
        return torch.ones(first.shape, dtype=kwargs.get("dtype") or first.dtype)
    if func in _PER_INDEX:
        args = (first, _whole(args[1]), *args[2:])
    if not all(x.is_meta for x in given):
        args, kwargs = tree_map(_unknown, (args, kwargs))
    return _run(func, args, kwargs)


def _number(x: Tensor) -> float | int | bool:
    return 0.0 if x.is_floating_point() else torch.ones((), dtype=x.dtype).item()


def _is_more(x: Tensor, other: Any) -> Tensor:
    """Compare a deviation, which is 0.0."""
    return torch.tensor(other < 0.0) if x.ndim == 0 else x.new_empty(x.shape, dtype=torch.bool)


_GUESSES = {
    aten._local_scalar_dense.default: _number,
    aten.equal.default: lambda *_: True,
    aten.gt.Scalar: _is_more,
    aten.nonzero.default: lambda x: x.new_empty(x.numel(), x.ndim, dtype=torch.int64),
    aten.masked_select.default: lambda x, _: x.new_empty(x.numel()),
}
"""What operators answer whose results depend on numbers that are not there."""


def _tensors_of(values: Iterable[Any]) -> list[Tensor]:
    """Return the tensors among arguments or results, those in lists too."""
    tensors = list[Tensor]()
    for value in values:
        if isinstance(value, Tensor):
            tensors.append(value)
        elif isinstance(value, list | tuple):
            tensors += [x for x in value if isinstance(x, Tensor)]
    return tensors


_results: dict[Any, Any] = {}
"""Shapes of the results of operators by those of their arguments: blocks of a model are alike."""


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """Run an operator, or make what it made of such arguments before."""
    if func._schema.is_mutable or func.is_view:
        return func(*args, **kwargs)
    key = (func, *map(_described, args), *((k, _described(x)) for k, x in kwargs.items()))
    if key not in _results:
        out = func(*args, **kwargs)
        given = {id(x.untyped_storage()) for x in _tensors_of((*args, *kwargs.values()))}
        is_new = all(id(x.untyped_storage()) not in given for x in _tensors_of((out,)))
        _results[key] = _described(out) if is_new else None
        return out
    if (described := _results[key]) is None:
        return func(*args, **kwargs)
    return _made(described)


def _described(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _Like(tuple(value.shape), value.stride(), value.dtype)
    if isinstance(value, list | tuple):
        return tuple(map(_described, value))
    return _Value(type(value), value)


@dataclass(frozen=True, slots=True)
class _Value:
    kind: type  # 1, 1.0 and True are equal
    value: Any


@dataclass(frozen=True, slots=True)
class _Like:
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


def _made(described: Any) -> Any:
    if isinstance(described, _Like):
        like = described
        return torch.empty_strided(like.shape, like.stride, dtype=like.dtype, device="meta")
    if isinstance(described, _Value):
        return described.value
    return tuple(map(_made, described))


def _is_float(func: Any, args: Any, kwargs: Any) -> bool:
    """Tell whether what is made on `meta` has no numbers worth knowing."""
    if func is aten._to_copy.default:
        return False
    dtype = kwargs.get("dtype")
    if func not in _MAKERS:
        return True
    if dtype is not None:
        return dtype.is_floating_point
    is_counting = func._overloadpacket in (aten.arange, aten.full, aten.scalar_tensor)
    return not is_counting or any(isinstance(x, float) for x in args)


def _whole(indices: Any) -> list[Any]:
    """Turn masks into the places they choose: all, where the mask is not known."""
    result: list[Any] = []
    for index in indices:
        if not isinstance(index, Tensor) or index.dtype != torch.bool:
            result.append(index)
        elif index.is_cpu:
            result += index.nonzero().unbind(1)
        else:
            result += index.new_empty(index.numel(), index.ndim, dtype=torch.int64).unbind(1)
    return result


def _unknown(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) and value.is_cpu else value
