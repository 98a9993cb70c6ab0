"""Loads, stores and updates as pointers with masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import inf
from operator import mul

from zellige.backends.cuda.expressions import Expressions, Term
from zellige.backends.cuda.options import Options
from zellige.ir import ops
from zellige.ir.extent import Const, Extent
from zellige.ir.ops import Function, Value
from zellige.ir.types import ArrayParam
from zellige.passes.intervals import Interval, of_extent


def stride_name(array: str, axis: int) -> str:
    """The kernel parameter that holds a run-time stride."""
    return f"{array}_stride_{axis}"


@dataclass(frozen=True, slots=True)
class Stride:
    """Elements (of block types: bytes) from one index of an axis to the next."""

    term: Term
    bounds: Interval


class Memory:
    """Addresses and masks of one function's accesses."""

    def __init__(self, function: Function, expressions: Expressions, options: Options) -> None:
        self.function = function
        self.x = expressions
        self.options = options
        self.carried: dict[ops.Load, str] = {}
        """Pointers of loads that the loop around them carries (``carried.py``)."""

    # --- layout
    def strides(self, array: ArrayParam) -> list[Stride]:
        """Strides of all axes. Of block types the last one is of the block, and all count bytes."""
        layout = self.options.layouts.get(array.name)
        unit = array.dtype.bits // 8 if array.dtype.is_block else 1
        made = []
        for axis in range(len(array.shape)):
            if layout is None:
                tail = array.shape[axis + 1 :]
                extent: Extent = reduce(mul, tail, Const(1))
                if array.dtype.is_block and tail:
                    extent = reduce(mul, tail[:-1], Const(1)) * (tail[-1] // array.dtype.block)
                extent = extent * unit
                made.append(Stride(self.x.extent(extent), of_extent(extent)))
            elif (stride := layout[axis]) is not None:
                if axis + 1 < len(array.shape):
                    stride //= array.dtype.block  # they count elements, of which blocks are whole
                made.append(Stride(Term(str(stride * unit), literal=True), Interval(stride * unit, stride * unit)))
            else:
                name = self.x.source.parameter("stride", stride_name(array.name, axis))
                made.append(Stride(Term(name), Interval(0, float("inf"))))
        return made

    def is_small(self, array: ArrayParam) -> bool:
        """Whether 32-bit offsets reach every element."""
        strides = self.strides(array)
        last = sum(
            (of_extent(e).high - 1) * _reach(s.bounds) if of_extent(e).high > 1 else 0
            for e, s in zip(array.shape, strides, strict=True)
        )
        return last < (1 << 31)

    # --- addresses
    def pointer(self, array: ArrayParam, index: Sequence[Value], shape_of: Value | None) -> str:
        """The address of every lane of an access whose tile is shaped like ``shape_of`` (None: a scalar)."""
        scalar, lanes = self._offsets(array, index)
        pointer = self.x.source.parameter("array", array.name)
        if scalar:
            pointer = self.x.source.bind(
                f"{pointer} + ({scalar})" if " " in scalar else f"{pointer} + {scalar}", f"{array.name}_at"
            )
        if lanes:
            pointer = self.x.source.bind(
                f"{pointer} + ({lanes})" if " " in lanes else f"{pointer} + {lanes}", f"{array.name}_tile"
            )
        if shape_of is not None and shape_of.type.rank and not self._covers(index, shape_of):
            pointer = self.x.source.bind(f"tl.broadcast_to({pointer}, {self.x.shape(shape_of)})", f"{array.name}_tile")
        return pointer

    def block_pointer(self, array: ArrayParam, outer: Sequence[Value], block: str, shape_of: Value) -> str:
        """The first byte of the quantisation block that each lane lies in; ``block`` is the block's number in its row."""
        scalar, lanes = self._offsets(array, outer)
        size = array.dtype.bits // 8
        wide = "" if self.is_small(array) else ".to(tl.int64)"
        parts = [p for p in (lanes, f"{block}{wide} * {size}") if p]
        pointer = self.x.source.parameter("array", array.name)
        if scalar:
            pointer = f"{pointer} + ({scalar})"
        text = f"{self.x.source.bind(pointer, f'{array.name}_at')} + ({' + '.join(parts)})"
        return self.x.source.bind(
            f"tl.broadcast_to({text}, {self.x.shape(shape_of)})" if shape_of.type.rank else text, f"{array.name}_block"
        )

    def _offsets(self, array: ArrayParam, index: Sequence[Value]) -> tuple[str, str]:
        """The offset that all lanes share, and that of each lane. ``index`` may leave out trailing axes.

        An index of one part is within its axis wherever there is an access. Parts of a sum may be anywhere, so that even in a small
        array 32 bits are enough only for what is known not to wrap in them."""
        small = self.is_small(array)
        scalars: list[_Part] = []
        lanes: list[_Part] = []
        for value, stride, extent in zip(index, self.strides(array), array.shape, strict=False):
            parts = self.x.split(value)
            alone = small and len(parts.base) + (parts.offset is not None) == 1
            most = max(of_extent(extent).high - 1, 0) if alone else inf
            scalars += [_Part(text, stride, bounds, most) for text, bounds in parts.base]
            if parts.offset is not None:
                lanes.append(_Part(parts.offset, stride, parts.bounds, most))
        shared = _summed(scalars, wide=not (small and _fits(scalars)))
        return shared, _summed(lanes, wide=not _fits(lanes))

    def _covers(self, index: Sequence[Value], shape_of: Value) -> bool:
        """Whether the lanes of ``index`` run along every axis of a tile."""
        one = Const(1)
        return all(
            extent == one or any(v.type.rank and v.type.shape[axis] != one for v in index)
            for axis, extent in enumerate(shape_of.type.shape)
        )

    # --- masks
    def mask(self, masks: Sequence[Value], shape_of: Value) -> str | None:
        """The lanes to touch: the masks that may be false, and only true lanes of padded axes. None if all are."""
        texts = [self.x.text(m) for m in masks if not self.x.bounds.always(m)]
        for axis in range(shape_of.type.rank):
            within = self.x.true_lanes(shape_of, axis)
            if within is not None:
                texts.append(within)
        texts = list(dict.fromkeys(texts))
        return " & ".join(texts) if texts else None

    def load_text(self, op: ops.Load, pad: str) -> str:
        """The expression that loads."""
        array = self.function.array(op.array)
        arguments = [self.carried.get(op) or self.pointer(array, op.index, op.result)]
        mask = self.mask(op.masks, op.result)
        if mask is not None:
            arguments += [f"mask={mask}", f"other={pad}"]
        if op.array in self.options.streamed and op.array not in self.options.fresh:
            arguments.append('eviction_policy="evict_first"')
        return f"tl.load({', '.join(arguments)}{self.past_first_cache(op.array)})"

    def past_first_cache(self, array: str) -> str:
        """What every load of an array says at its end: of one that is ``fresh``, that the first cache is not asked."""
        return ', cache_modifier=".cg"' if array in self.options.fresh else ""

    def store_text(self, op: ops.Store | ops.Update, function: str, value: str) -> str:
        """The statement that stores or updates."""
        array = self.function.array(op.array)
        arguments = [self.pointer(array, op.index, op.value), value]
        mask = self.mask(op.masks, op.value)
        if mask is not None:
            arguments.append(f"mask={mask}")
        if isinstance(op, ops.Update):
            arguments.append('sem="relaxed"')
        elif op.array in self.options.streamed:
            arguments.append('eviction_policy="evict_first"')
        return f"{function}({', '.join(arguments)})"


def _reach(bounds: Interval) -> float:
    """The largest distance from 0."""
    return max(abs(bounds.low), abs(bounds.high))


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of an address: a term, times a stride."""

    text: str
    stride: Stride
    bounds: Interval
    most: float
    """What the term is at most, by its place, wherever there is an access."""

    @property
    def reach(self) -> float:
        return min(_reach(self.bounds), self.most) * max(_reach(self.stride.bounds), 1)

    @property
    def is_loose(self) -> bool:
        """Whether it has 32 bits, or no width, also in a sum in 64."""
        if _is_number(self.text):
            return self.stride.term.literal
        return self.stride.term.text == "1" and self.bounds.fits_32

    def scaled(self, *, wide: bool, far: bool) -> str:
        """Its text. ``wide``: in 64 bits, if its stride is not 1; ``far``: also then."""
        text, stride, narrow = self.text, self.stride.term.text, self.bounds.fits_32
        if text == "0":
            return "0"
        if _is_number(text):  # (which has no width)
            if not self.stride.term.literal and self.stride.bounds.fits_32 and (wide or not narrow):
                stride = f"{stride}.to(tl.int64)"
        elif narrow and (far if stride == "1" else wide):
            text = f"{text}.to(tl.int64)"
        return text if stride == "1" else f"{text} * {stride}"


def _fits(parts: Sequence[_Part]) -> bool:
    """Whether no sum of some of the parts leaves 32 bits."""
    return sum(part.reach for part in parts) < (1 << 31)


def _summed(parts: Sequence[_Part], *, wide: bool) -> str:
    far = not _fits([part for part in parts if part.is_loose])
    return " + ".join(text for part in parts if (text := part.scaled(wide=wide, far=far)) != "0")


def _is_number(text: str) -> bool:
    return text.strip("()-").isdigit()
