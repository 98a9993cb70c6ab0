"""Device memory with a shape: what a ``Tensor`` on a GPU has for storage, in the few terms of NumPy that binding uses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zellige.runtime.cuda.memory import Block, BorrowedBlock

if TYPE_CHECKING:
    from zellige.runtime.cuda.executor import CudaExecutor


@dataclass(frozen=True, slots=True)
class _Flags:
    c_contiguous: bool
    writeable: bool


_FLAGS = {(c, w): _Flags(c, w) for c in (False, True) for w in (False, True)}


class DeviceArray:
    """An array in the memory of a GPU."""

    __slots__ = ("_strides", "address", "dtype", "executor", "flags", "memory", "shape")

    def __init__(
        self,
        executor: CudaExecutor,
        memory: Block | BorrowedBlock | None,
        address: int,
        shape: Sequence[int],
        dtype: np.dtype[Any],
        strides: tuple[int, ...] | None = None,
        *,
        writeable: bool = True,
    ) -> None:
        """``memory``: what it lies in, None of a GPU that is not there; ``strides``: bytes; None: row-major without gaps."""
        self.executor = executor
        self.memory = memory
        self.address = address
        self.shape = tuple(shape)
        self.dtype = dtype
        if strides is not None and _same(self.shape, strides, _row_major(self.shape, dtype.itemsize)):
            strides = None
        self._strides = strides
        self.flags = _FLAGS[strides is None, writeable]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.itemsize

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes from one index of an axis to the next."""
        return self._strides or _row_major(self.shape, self.itemsize)

    def outline(self) -> NDArray[Any]:
        """A NumPy array of raw bytes that lies in memory like this one: for arithmetic of views and overlaps, never for elements."""
        return np.asarray(_Outline(self))

    def _view(self, outline: NDArray[Any]) -> DeviceArray:
        address = outline.__array_interface__["data"][0] if outline.size else self.address
        return DeviceArray(
            self.executor, self.memory, address, outline.shape, self.dtype, outline.strides, writeable=self.flags.writeable
        )  # fmt: skip

    def reshape(self, shape: Sequence[int], copy: bool | None = None) -> DeviceArray:
        """The same memory in another shape of equal size. ValueError if there is no such view."""
        return self._view(self.outline().reshape(shape, copy=copy))

    def transpose(self, axes: Sequence[int] | None) -> DeviceArray:
        """The same memory with its axes in another order. ValueError if it is no order of the axes."""
        return self._view(self.outline().transpose(axes))

    def __getitem__(self, key: Any) -> DeviceArray:
        """A part, by integers and slices. IndexError beyond the ends."""
        return self._view(self.outline()[key])

    def __setitem__(self, key: Any, values: NDArray[Any]) -> None:
        """``array[...] = values``: an upload of the whole array."""
        assert key is Ellipsis
        self.executor.upload(np.broadcast_to(np.asarray(values, self.dtype), self.shape), self)

    def download(self) -> NDArray[Any]:
        """A host copy, after all work given before."""
        return self.executor.download(self)


class _Outline:
    """Gives NumPy an address, a shape and strides."""

    def __init__(self, array: DeviceArray) -> None:
        self.__array_interface__ = {
            "shape": array.shape, "typestr": f"|V{array.itemsize}", "data": (array.address, True),
            "strides": array.strides, "version": 3,
        }  # fmt: skip


def _row_major(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Strides in bytes."""
    steps, step = [], itemsize
    for extent in reversed(shape):
        steps.append(step)
        step *= extent
    return tuple(reversed(steps))


def _same(shape: tuple[int, ...], some: tuple[int, ...], others: tuple[int, ...]) -> bool:
    """Whether strides reach the same elements: those of axes with one element do not matter."""
    return 0 in shape or all(n == 1 or a == b for n, a, b in zip(shape, some, others, strict=True))
