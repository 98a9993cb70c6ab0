"""Accesses that are boxes of an array, made by the bulk copy engine (TMA) through tensor descriptors.

A descriptor names an array and the shape of the box; an access then gives the box's corner, and lanes past the array's
end read 0 and write nothing. So an access qualifies if each index is a scalar or consecutive lanes, pads with 0, and is
masked by nothing but the array's own extents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import mul

from zellige.backends.cuda.access import Memory
from zellige.backends.cuda.expressions import Expressions, tuple_text
from zellige.backends.cuda.options import Options
from zellige.ir import ops
from zellige.ir.extent import Const, Extent
from zellige.ir.ops import BinaryOp, Block, Function, Value
from zellige.ir.types import ArrayParam
from zellige.ir.walk import walk
from zellige.passes.intervals import of_extent

LARGEST_BOX = 256


@dataclass(slots=True)
class _Axis:
    """An axis of the array as the copy engine sees it."""

    extent: Extent
    corner: str
    block: int
    cut: bool
    """Whether the box may reach past the axis's end."""


class Descriptors:
    """The tensor descriptors of one function."""

    def __init__(self, function: Function, memory: Memory, options: Options) -> None:
        self.memory = memory
        self.x: Expressions = memory.x
        self.made: dict[tuple[object, ...], tuple[str, str]] = {}
        """Key to (name, expression that makes it)."""
        stored = [op.array for op in walk(function.body) if isinstance(op, ops.Store | ops.Update)]
        loaded = {op.array for op in walk(function.body) if isinstance(op, ops.Load)}
        loops = [op for op in walk(function.body) if isinstance(op, ops.For | ops.While)]
        repeated = {
            op.array for loop in loops for op in walk(Block((), [loop])) if isinstance(op, ops.Store | ops.Update)
        }
        # no order is kept between a box on its way to memory and another access: an array that is stored is stored once
        ordered = {name for name in stored if name in loaded or name in repeated or stored.count(name) > 1}
        self._allowed = options.descriptors - ordered - options.layouts.keys() - options.unaligned

    def load(self, op: ops.Load) -> str | None:
        """The expression that loads a box; None if the access is none."""
        found = self.box(op)
        if found is None:
            return None
        name, corner, shape = found
        text = f"{name}.load([{corner}])"
        return (
            text
            if shape == self.x.padding.shape(op.result)
            else f"{text}.reshape({tuple_text(self.x.padding.shape(op.result))})"
        )

    def box(self, op: ops.Load) -> tuple[str, str, tuple[int, ...]] | None:
        """Descriptor, corner and shape of a load; None if it is no box."""
        return None if op.pad != 0 else self._box(op.array, op.index, op.masks, op.result, stores=False)

    def store(self, op: ops.Store, value: str) -> str | None:
        """The statement that stores a box; None if the access is none."""
        found = self._box(op.array, op.index, op.masks, op.value, stores=True)
        if found is None:
            return None
        name, corner, shape = found
        if shape != self.x.padding.shape(op.value):
            value = f"{value}.reshape({tuple_text(shape)})"
        return f"{name}.store([{corner}], {value})"

    def columns(self, op: ops.Store | ops.Update, most: int) -> tuple[str, tuple[str, ...], tuple[int, ...]] | None:
        """Descriptor, corners and shape of the boxes, each of ``most`` columns if there are more, side by side that make up what is
        stored; None if that is no box."""
        found = self._box(op.array, op.index, op.masks, op.value, stores=True, most=most)
        if found is None:
            return None
        name, corner, shape = found
        count = self.x.padding.extent(op.value, op.value.type.rank - 1) // shape[-1]
        return name, tuple(f"{corner} + {i * shape[-1]}" if i else corner for i in range(count)), shape

    def _box(
        self,
        name: str,
        index: Sequence[Value],
        masks: Sequence[Value],
        tile: Value,
        *,
        stores: bool,
        most: int = LARGEST_BOX,
    ) -> tuple[str, str, tuple[int, ...]] | None:
        array = self.memory.function.array(name)
        if name not in self._allowed or not tile.type.rank or array.dtype.is_block or array.dtype.is_bool:
            return None
        cut = self._cut_axes(array, index, masks)
        if cut is None:
            return None
        axes: list[_Axis] = []
        covered: list[int] = []
        for position, (value, extent) in enumerate(zip(index, array.shape, strict=True)):
            base = self.x.split(value).base
            if not all(bounds.fits_32 for bounds in (self.x.bounds.of(value), *(part for _, part in base))):
                return None
            corner = " + ".join(text for text, _ in base) or "0"
            if not value.type.rank:
                axes.append(_Axis(extent, corner, 1, position in cut))
                continue
            along = self.consecutive(value)
            if along is None or (covered and along <= covered[-1]):
                return None
            if stores and self.x.padding.is_padded(tile, along):
                return None
            covered.append(along)
            axes.append(_Axis(extent, corner, self.x.padding.extent(tile, along), position in cut))
        if any(e != Const(1) and a not in covered for a, e in enumerate(tile.type.shape)):
            return None
        if most < LARGEST_BOX:
            axes[-1].block = min(axes[-1].block, most)
        return self._describe(array, _merged(axes))

    def _describe(self, array: ArrayParam, axes: list[_Axis]) -> tuple[str, str, tuple[int, ...]] | None:
        width = array.dtype.bits // 8
        if not 2 <= len(axes) <= 5 or any(a.block > LARGEST_BOX for a in axes) or axes[-1].block * width < 16:
            return None
        strides = [reduce(mul, (a.extent for a in axes[i + 1 :]), Const(1)) for i in range(len(axes))]
        if not all(self.x.bounds.multiple(s, 16 // width) for s in strides[:-1]):
            return None
        block = tuple(a.block for a in axes)
        key = (array.name, tuple(a.extent for a in axes), block)
        if key not in self.made:
            shape = ", ".join(self.x.extent(a.extent).text for a in axes)
            steps = ", ".join(self.x.extent(s).text for s in strides)
            pointer = self.x.source.parameter("array", array.name)
            text = (
                f"tl.make_tensor_descriptor({pointer}, shape=[{shape}], strides=[{steps}], block_shape={list(block)})"
            )
            self.made[key] = (self.x.source.name(f"{array.name}_box"), text)
        return self.made[key][0], ", ".join(a.corner for a in axes), block

    def _cut_axes(self, array: ArrayParam, index: Sequence[Value], masks: Sequence[Value]) -> set[int] | None:
        """The axes whose ends mask lanes; None if a mask says anything else."""
        found: set[int] = set()
        for mask in masks:
            if self.x.bounds.always(mask):
                continue
            compare = self.x.bounds.definition(self._plain(mask))
            if not isinstance(compare, ops.Binary) or compare.op is not BinaryOp.LT:
                return None
            limit = self.x.bounds.scalar_behind(compare.y)
            top = self.x.bounds.definition(limit) if limit is not None else None
            extent = top.extent if isinstance(top, ops.ExtentValue) else None
            if isinstance(top, ops.Constant):
                extent = Const(int(top.value))
            axis = next(
                (
                    i
                    for i, v in enumerate(index)
                    if self._plain(v) is self._plain(compare.x) and array.shape[i] == extent
                ),
                None,
            )
            if axis is None:
                return None
            found.add(axis)
        return found

    def _plain(self, value: Value) -> Value:
        """A value without the axes of 1 put around it."""
        while isinstance(op := self.x.bounds.definition(value), ops.ExpandDims):
            value = op.x
        return value

    def consecutive(self, value: Value) -> int | None:
        """The axis along which lanes are base, base+1, base+2, …; None if they are not."""
        match self.x.bounds.definition(value):
            case ops.Iota():
                return 0
            case ops.ExpandDims(x=x, axis=new) if (along := self.consecutive(x)) is not None:
                return along + (along >= new)
            case ops.Binary(op=BinaryOp.ADD, x=x, y=y):
                for lanes, base in ((x, y), (y, x)):
                    if self.x.bounds.scalar_behind(base) is not None:
                        return self.consecutive(lanes)
        return None


def _merged(axes: list[_Axis]) -> list[_Axis]:
    """Axes with a scalar axis folded into the next one, where the box stays inside both: fewer dimensions, same bytes."""
    out = list(axes)
    for i in reversed(range(len(out) - 1)):
        outer, inner = out[i], out[i + 1]
        whole = outer.extent * inner.extent
        if outer.block == 1 and not outer.cut and not inner.cut and len(out) > 2 and of_extent(whole).fits_32:
            corner = (
                inner.corner if outer.corner == "0" else f"({outer.corner}) * {_size(inner.extent)} + {inner.corner}"
            )
            if _size(inner.extent) is None:
                continue
            out[i : i + 2] = [_Axis(whole, corner, inner.block, False)]
    return out


def _size(extent: Extent) -> str | None:
    return None if extent.constant is None else str(extent.constant)
