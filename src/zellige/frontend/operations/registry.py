"""Which function lowers each declaration of ``lang.operations``, and readers of their arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

from zellige.frontend import habits
from zellige.frontend.context import BROADCAST, Context, describe
from zellige.frontend.errors import refuse
from zellige.ir.builder import ShapeError
from zellige.ir.dtypes import DType
from zellige.ir.extent import Extent, as_extent
from zellige.lang import operations as declared
from zellige.lang.dtype_names import dtype_for

Lowering = Callable[..., object]
LOWERINGS: dict[str, Lowering] = {}


def lowers(function: Lowering) -> Lowering:
    """Registers ``_name(context, …)`` as the lowering of ``zl.name``."""
    LOWERINGS[function.__name__.removeprefix("_")] = function
    return function


def call(context: Context, name: str, arguments: Sequence[object], keywords: dict[str, object]) -> object:
    """Lowers a call of ``zl.name``. LanguageError ZL0104 if the arguments do not fit the declaration."""
    declaration = getattr(declared, name).__wrapped__
    try:
        inspect.signature(declaration).bind(*arguments, **keywords)
    except TypeError as error:
        shape = ", ".join(
            str(p.replace(annotation=p.empty)) for p in inspect.signature(declaration).parameters.values()
        )
        refuse("ZL0104", f"zl.{name}: {error}", context.span, habits.CALLS.get(name, f"it is zl.{name}({shape})"))
    try:
        return LOWERINGS[name](context, *arguments, **keywords)
    except ShapeError as error:
        refuse(
            "ZL0106",
            f"operands of 'zl.{name}' do not fit: {error}",
            context.span,
            BROADCAST,
        )


def shape_of(context: Context, shape: object) -> tuple[Extent, ...]:
    """A tuple of ints and extents as a shape."""
    parts = shape if isinstance(shape, tuple | list) else (shape,)
    for part in parts:
        if not isinstance(part, int | Extent) or isinstance(part, bool):
            refuse("ZL0106", f"{describe(part)} in a shape; extents of tiles are known at compile time", context.span,
                   "use an int, a dim or a zl.Static; zl.tiles(n, size) goes over a length known at run time")  # fmt: skip
    extents = tuple(as_extent(p) for p in parts)
    for extent in extents:
        if extent.constant is not None and extent.constant < 0:
            refuse("ZL0106", f"an extent of {extent}", context.span, "a tile has 0 lanes or more")
    return extents


def dtype_of(context: Context, dtype: object) -> DType:
    """An argument that must be a dtype, or ``zl.index``."""
    dtype = getattr(dtype, "__zl_dtype__", dtype)
    if not isinstance(dtype, DType):
        refuse("ZL0105", f"{describe(dtype)} is not a dtype", context.span, dtype_for(dtype))
    return dtype


def axis_of(context: Context, axis: object, rank: int) -> int:
    if not isinstance(axis, int) or isinstance(axis, bool) or not -rank <= axis < rank:
        help = f"an axis is a static int from {-rank} to {rank - 1}" if rank else "a scalar has no axes"
        refuse("ZL0106", f"{describe(axis)} as an axis of a tile of rank {rank}", context.span, help)
    return axis % rank
