"""What executors whose arrays lie in host memory have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zellige.ir.dtypes import DType
from zellige.runtime.mapped import copy_bytes
from zellige.runtime.tensor import Tensor, alike, check_pieces, empty, tensor, zeros
from zellige.runtime.tensor_type import HOST


class HostArrays:
    """Makes and reads tensors in host memory, for an executor that has finished its work when a call returns."""

    place = HOST
    copies = False
    turn = nullcontext()

    def empty(self, shape: Sequence[int], dtype: DType) -> Tensor:
        """An uninitialised tensor in host memory."""
        return empty(shape, dtype)

    def zeros(self, shape: Sequence[int], dtype: DType) -> Tensor:
        """A cleared tensor in host memory."""
        return zeros(shape, dtype)

    def tensor(self, values: NDArray[Any], dtype: DType) -> Tensor:
        """A tensor in host memory with a copy of an array."""
        return tensor(values, dtype)

    def gathered(self, pieces: Sequence[NDArray[Any]], shape: Sequence[int], dtype: DType) -> Tensor:
        """A tensor in host memory with a copy of arrays of its element type, one after the other."""
        made, first = empty(shape, dtype), 0
        check_pieces(pieces, made)
        room = made.storage.reshape(-1).view(np.uint8)
        for piece in pieces:
            copy_bytes(room[first : first + piece.nbytes], np.ascontiguousarray(piece).reshape(-1).view(np.uint8))
            first += piece.nbytes
        made.initialised = True
        return made

    def alike(self, other: Tensor) -> Tensor:
        """An uninitialised tensor in host memory that lies as another one does."""
        return alike(other)

    def copy_over(self, source: Tensor, target: Tensor) -> None:
        """Copies a tensor to one that lies as it does; the caller has seen to it that nobody of ours writes either."""
        target.storage[...] = source.storage

    def fetch(self, source: Tensor) -> Callable[[], NDArray[Any]]:
        """What a tensor holds now, as a function (work here is done when it is given)."""
        held = source.numpy().copy()
        return lambda: held
