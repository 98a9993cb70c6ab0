"""What ordinary Python may decide when a kernel is compiled: not what depends on a dim, which has its value at a launch only.

Extents are compared by structure inside the compiler, so that ``N == 3`` in Python would be false whatever N is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from zellige.ir.extent import Extent, as_extent, ceildiv

MOVERS: tuple[Callable[..., object], ...] = (
    len,
    tuple,
    list,
    zip,
    enumerate,
    reversed,
    isinstance,
    sum,
    str,
    print,
    ceildiv,
)
"""Functions of Python that may be given dims: they decide nothing by them."""


def depends_on_dims(value: object) -> bool:
    """Whether a compile-time value has a part that is known at a launch only."""
    if isinstance(value, tuple | list):
        return any(map(depends_on_dims, value))
    return isinstance(value, Extent) and value.constant is None


def are_equal(x: object, y: object) -> bool:
    """``x == y``. TypeError if it depends on a dim or on a value known at run time."""
    if isinstance(x, Extent) or isinstance(y, Extent):
        return _equal_extents(x, y)
    if isinstance(x, Sequence) and isinstance(y, Sequence) and type(x) is type(y) and not isinstance(x, str):
        return len(x) == len(y) and not _first_true(lambda pair: not are_equal(*pair), tuple(zip(x, y, strict=True)))
    return bool(x == y)


def is_among(x: object, many: object) -> bool:
    """``x in many``. TypeError if it depends on a dim or on a value known at run time."""
    if isinstance(many, tuple | list):
        return _first_true(lambda other: x is other or are_equal(x, other), many)
    if depends_on_dims(x):
        raise TypeError(f"whether {x} is among these is known at the launch only")
    return x in many  # type: ignore[operator]


def is_same(x: object, y: object) -> bool:
    """``x is y``. TypeError of extents, which are numbers and have no identity."""
    if (isinstance(x, Extent) and y is not None) or (isinstance(y, Extent) and x is not None):
        raise TypeError("extents are numbers: compare them with ==")
    return x is y


def _equal_extents(x: object, y: object) -> bool:
    if isinstance(x, str) or isinstance(y, str) or x is None or y is None:
        return False
    if isinstance(x, float) or isinstance(y, float):
        raise TypeError(f"an extent is a whole number: whether {x} == {y} is not asked of a float")
    a, b = (as_extent(int(v) if isinstance(v, np.integer) else v) for v in (x, y))  # type: ignore[arg-type]
    difference = (a - b).constant
    if difference is None:
        raise TypeError(f"whether {x} is {y} is known at the launch only; compare extents one by one, as {x} == {y}")
    return difference == 0


def _first_true(holds: Callable[..., bool], parts: Sequence[object]) -> bool:
    """Whether something holds of one of the parts; the TypeError of a part of which it is not known, unless another decides."""
    doubt: TypeError | None = None
    for part in parts:
        try:
            if holds(part):
                return True
        except TypeError as error:
            doubt = doubt or error
    if doubt is not None:
        raise doubt
    return False
