"""What an expression in a kernel evaluates to, besides plain compile-time Python objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import count

from zellige.ir.builder import Builder
from zellige.ir.dtypes import DType
from zellige.ir.extent import Const, Extent
from zellige.ir.ops import Value
from zellige.ir.types import ArrayParam

Lanes = frozenset[int]
"""Which spans an axis's lanes come from: axes that share one are zipped when they index together."""

_lane_ids = count()


def fresh_lanes() -> Lanes:
    """Lanes of a new span."""
    return frozenset((next(_lane_ids),))


class AtRunTime:
    """A value of which nothing is known at compile time: ordinary Python (``any``, ``if``, ``==`` of tuples) must not decide by it.

    A TypeError is told the author at the line (``expressions.static``)."""

    __slots__ = ()

    def __bool__(self) -> bool:
        raise TypeError(
            "a value known only at run time has no truth at compile time; use &, | and zl.any or zl.all of tiles"
        )


@dataclass(frozen=True, slots=True)
class Mask:
    """Lanes of a tile are active where ``value`` (a bool) is true; its axis i runs along the tile's axis ``axes[i]``."""

    value: Value
    axes: tuple[int, ...]

    def moved(self, where: Callable[[int], int]) -> Mask:
        """The mask with its axes renumbered."""
        return Mask(self.value, tuple(where(a) for a in self.axes))


@dataclass(frozen=True, slots=True, eq=False)
class Tile(AtRunTime):
    """An IR value with what the frontend knows of its lanes.

    ``masks``: a lane is active where all are true.
    ``lanes``: per axis, the spans that it runs along.
    ``zero_padded``: inactive lanes are known to hold 0, as a load leaves them.
    ``implies``: of a bool tile, masks that are true wherever it is.
    """

    value: Value
    masks: tuple[Mask, ...] = ()
    lanes: tuple[Lanes, ...] = ()
    zero_padded: bool = False
    implies: tuple[Mask, ...] = ()

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        raise TypeError("values known only at run time are not compared at compile time; compare them one by one")

    __hash__ = object.__hash__

    @property
    def dtype(self) -> DType:
        return self.value.type.dtype

    @property
    def shape(self) -> tuple[Extent, ...]:
        return self.value.type.shape

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_scalar(self) -> bool:
        return not self.shape

    def with_value(self, value: Value, *, zero_padded: bool = False) -> Tile:
        """Another value on the same lanes."""
        return replace(self, value=value, zero_padded=zero_padded, implies=())


@dataclass(frozen=True, slots=True, eq=False)
class SpanTile(Tile):
    """The lanes of one tile of an extent, as ``M.tiles(BM)`` gives them; ``active`` is its own mask, if it needs one."""

    active: Value | None = None
    start: Value | None = None
    """Its first position, an index scalar."""


@dataclass(frozen=True, slots=True)
class SpanRange(AtRunTime):
    """``extent.tiles(size)``: what a grid axis or a loop runs over. Tiles of [start, stop), where both are symbolic or index
    scalars."""

    stop: Extent | Tile
    size: int
    start: Extent | Tile = field(default=Const(0))


@dataclass(frozen=True, slots=True)
class RaggedRange(AtRunTime):
    """``offsets.tiles(size)``: a grid axis that runs over the tiles of all segments of an ``Offsets`` array."""

    array: ArrayParam
    size: int


@dataclass(frozen=True, slots=True)
class RuntimeRange(AtRunTime):
    """``range(lower, upper, step)`` with bounds known only at run time (or simply not unrolled); ``step`` is a number other
    than 0, or an index scalar that is proved to be none."""

    lower: Value
    upper: Value
    step: int | Value


@dataclass(frozen=True, slots=True)
class Unrolled:
    """``zl.unroll(iterable)``."""

    items: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class ArrayRef(AtRunTime):
    """An array parameter, to be indexed."""

    param: ArrayParam


@dataclass(frozen=True, slots=True)
class Grouped:
    """``order=zl.grouped(rows)``."""

    rows: int


@dataclass(frozen=True, slots=True)
class BoundMethod:
    """A method of one of our values, such as ``x.to`` or ``M.tiles``."""

    owner: object
    name: str


@dataclass(frozen=True, slots=True)
class Missing:
    """A name that some path leaves without a value."""

    reason: str


def merge_lanes(a: tuple[Lanes, ...], b: tuple[Lanes, ...]) -> tuple[Lanes, ...]:
    """Lanes of an elementwise result: per axis, right-aligned, the spans of both operands."""
    rank = max(len(a), len(b))
    none: Lanes = frozenset()
    left, right = (none,) * (rank - len(a)) + a, (none,) * (rank - len(b)) + b
    return tuple(x | y for x, y in zip(left, right, strict=True))


def lift_masks(masks: Iterable[Mask], by: int) -> tuple[Mask, ...]:
    """Masks of a tile that gets ``by`` new axes in front."""
    return tuple(mask.moved(lambda a: a + by) for mask in masks)


def expand_mask(builder: Builder, mask: Mask, rank: int) -> Value:
    """A mask as a bool value of ``rank``, with axes of 1 where it does not vary; rank 0 stays."""
    value = mask.value
    if list(mask.axes) != sorted(mask.axes):
        order = sorted(range(len(mask.axes)), key=lambda i: mask.axes[i])
        value = builder.transpose(value, order)
    if value.type.rank:
        for axis in range(rank):
            if axis not in mask.axes:
                value = builder.expand_dims(value, axis)
    return value
