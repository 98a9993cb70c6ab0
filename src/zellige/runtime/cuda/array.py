"""Device memory with a shape: what a ``Tensor`` on a GPU has for storage, in the few terms of NumPy that binding uses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zellige.diagnostics.errors import ZelligeError

if TYPE_CHECKING:
    from zellige.runtime.cuda.executor import CudaExecutor


@dataclass(frozen=True, slots=True)
class _Flags:
    c_contiguous: bool = True
    writeable: bool = True


class DeviceArray:
    """A row-major array in the memory of a GPU."""

    __slots__ = ("address", "dtype", "executor", "memory", "shape")
    flags = _Flags()

    def __init__(
        self, executor: CudaExecutor, memory: Any, address: int, shape: Sequence[int], dtype: np.dtype[Any]
    ) -> None:
        self.executor = executor
        self.memory = memory
        self.address = address
        self.shape = tuple(shape)
        self.dtype = dtype

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes, row-major."""
        steps, step = [], self.itemsize
        for extent in reversed(self.shape):
            steps.append(step)
            step *= extent
        return tuple(reversed(steps))

    def reshape(self, shape: Sequence[int], copy: bool | None = None) -> DeviceArray:
        """The same memory in another shape of equal size."""
        return DeviceArray(self.executor, self.memory, self.address, shape, self.dtype)

    def __setitem__(self, key: Any, values: NDArray[Any]) -> None:
        """``array[...] = values``: an upload of the whole array."""
        if key is not Ellipsis:
            raise ZelligeError("ZL0502", "device memory is written whole from the host")
        self.executor.upload(np.broadcast_to(np.asarray(values, self.dtype), self.shape), self)

    def download(self) -> NDArray[Any]:
        """A host copy, after all work given before."""
        return self.executor.download(self)
