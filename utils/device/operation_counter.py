"""Count what torch computes on any device: operations, bytes moved, bytes allocated."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# These launch nothing: they allocate, or give a view that torch does not declare as one.
_NO_LAUNCH = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
_NO_LAUNCH |= {"_unsafe_view", "lift_fresh"}


class OperationCounter(TorchDispatchMode):
    """Context in which operations are counted, those of backward passes included.

    `operations` are those that compute tensors, by name; an eager operation is one kernel launch or
    a few. `bytes_moved` are the bytes that they read and write, each operand once. `live` and
    `peak` are bytes of storage: of the `resident` tensors, and of all that is allocated in the
    context, each rounded up to a multiple of `granule`. On the `meta` device the same operations
    run without values: the counts are those of a GPU without the workspaces of its libraries.
    """

    def __init__(self, resident: Iterable[Tensor] = (), granule: int = 1) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()
        self.bytes_moved = self.live = self.peak = 0
        self.granule = granule
        self._known: set[int] = set()
        for tensor in resident:
            self._track(tensor)

    @property
    def total(self) -> int:
        """Number of operations."""
        return self.operations.total()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default and result.is_meta:
            result = _as_on_a_device(result, *args[:2])
        if not func.is_view:
            self._count(func, args, kwargs or {}, result)
        return result

    def _count(self, func, args: tuple, kwargs: dict, result: object) -> None:
        returns = func._schema.returns
        outputs = [result] if len(returns) == 1 else list(result or ())
        for output, info in zip(outputs, returns, strict=True):
            if info.alias_info is None:
                for tensor in _tensors(output):
                    self._track(tensor)
        name = func._overloadpacket.__name__
        if name in _NO_LAUNCH or not _computes(func):
            return
        self.operations[name] += 1
        operands = [*_tensors(result), *_operands(func, args, kwargs)]
        self.bytes_moved += sum(_extent(tensor) for tensor in operands)

    def _track(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = -(-storage.nbytes() // self.granule) * self.granule
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def _as_on_a_device(output: Tensor, images: Tensor, weight: Tensor) -> Tensor:
    """Return the output of a convolution on meta in the memory format that devices give it."""
    nhwc = torch.channels_last
    if any(t.is_contiguous(memory_format=nhwc) and not t.is_contiguous() for t in (images, weight)):
        return torch.empty_like(output, memory_format=nhwc)
    return output


def _tensors(value: object) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))


def _computes(func) -> bool:
    """Return whether an operation gives tensors, or writes into some."""
    schema = func._schema
    gives = any("Tensor" in str(value.type) for value in schema.returns)
    return gives or any(map(_is_written, schema.arguments))


def _is_written(argument) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def _operands(func, args: tuple, kwargs: dict) -> Iterator[Tensor]:
    """Yield the tensors that an operation reads, and those that it writes but does not return."""
    returned = any(value.alias_info is not None for value in func._schema.returns)
    for position, argument in enumerate(func._schema.arguments):
        value = args[position] if position < len(args) else kwargs.get(argument.name)
        if not argument.is_out:
            yield from _tensors(value)
        if _is_written(argument) and not returned:
            yield from _tensors(value)


def _extent(tensor: Tensor) -> int:
    """Return the bytes of distinct elements: an expanded dimension counts once."""
    elements = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        elements *= size if stride else min(size, 1)
    return elements * tensor.element_size()
