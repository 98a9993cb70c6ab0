"""``zl.tensor``, ``zl.empty`` and ``zl.index``: tensors in the memory where launches run, which a ``with zl.using(…)`` chooses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zellige.ir import dtypes
from zellige.ir.dtypes import DType
from zellige.lang.dtype_names import checked
from zellige.runtime import tensor as host
from zellige.runtime.execution import current_executor
from zellige.runtime.tensor_type import HOST, Tensor


def empty(shape: Sequence[int], dtype: DType) -> Tensor:
    """An uninitialised tensor. ZelligeError ZL0506 if memory is short, ZL0502 of a negative extent."""
    host.stored_shape(tuple(shape), checked(dtype, "ZL0501"))
    return current_executor().empty(shape, dtype)


def tensor(values: Any, dtype: DType | None = None, shape: Sequence[int] | None = None) -> Tensor:
    """A tensor with a copy of ``values`` (anything NumPy or DLPack can read).

    For a block type give the raw bytes as uint8 and the ``shape`` in elements."""
    return _moved(host.tensor(values, dtype, shape))


def index(values: Any, below: int, *, distinct: bool = False, optional: bool = False) -> Tensor:
    """An i32 tensor whose elements are checked, now, to be indices below ``below`` (−1 allowed if ``optional``).

    ZelligeError ZL0505 names the first offending positions."""
    return _moved(host.index(values, below, distinct=distinct, optional=optional))


index.__zl_dtype__ = dtypes.index  # type: ignore[attr-defined]
"""In a kernel it is the element type: ``x[m].to(zl.index)``."""


def _moved(made: Tensor) -> Tensor:
    """A new tensor of the host's, where launches run."""
    executor = current_executor()
    if executor.place == HOST:
        return made
    there = executor.empty(made.shape, made.dtype)
    there.write(made)
    for fact in made.facts:
        there.learn(fact)
    return there
