"""Builds IR, folding constants and sharing equal pure operations as it goes.

Sharing matters beyond tidiness: a mask that the frontend computes twice is one value, so the verifier's syntactic rules
see at once that a load's mask bounds its index.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from zellige.diagnostics.span import NOWHERE, Span
from zellige.ir import dtypes, ops
from zellige.ir.dtypes import DType, Kind
from zellige.ir.extent import Const, Extent, as_extent
from zellige.ir.ops import BinaryOp, Block, Op, ReduceOp, UnaryOp, UpdateOp, Value
from zellige.ir.types import TileType
from zellige.ir.walk import of_launch_time, results

Number = int | float | bool


class Builder:
    """Appends operations to the innermost open block. ``span`` is given to every operation made."""

    def __init__(self) -> None:
        self.span: Span = NOWHERE
        self._blocks: list[Block] = []
        self._shared: list[dict[tuple[object, ...], Value]] = []
        self._constants: dict[Value, Number] = {}
        self._defined: list[set[Value]] = []
        self._closed: dict[Block, dict[tuple[object, ...], Value]] = {}
        """What closed blocks share, for those that are spliced."""
        self.effects = 0
        """How many operations were made that do more than give a value."""

    # --- blocks
    @contextmanager
    def block(self, *params: Value) -> Iterator[Block]:
        """Opens a block; operations go into it until the ``with`` ends."""
        block = Block(params, [])
        self._blocks.append(block)
        self._shared.append({})
        self._defined.append(set(params))
        try:
            yield block
        finally:
            self._blocks.pop()
            self._closed[block] = self._shared.pop()
            self._defined.pop()

    def splice(self, block: Block) -> None:
        """Makes the operations of a closed block part of the current one, instead of nesting it."""
        for op in block.ops:
            self.emit(op)
        self._shared[-1] |= self._closed.pop(block)

    @contextmanager
    def reopened(self, block: Block) -> Iterator[None]:
        """Appends to a closed block of the current one, to add what it still has to yield."""
        self._blocks.append(block)
        self._shared.append({})
        self._defined.append(set())
        try:
            yield
        finally:
            self._blocks.pop()
            self._shared.pop()
            self._defined.pop()

    @contextmanager
    def unshared(self) -> Iterator[None]:
        """Operations made inside are not shared with those made afterwards."""
        self._shared.append({})
        try:
            yield
        finally:
            self._shared.pop()

    def defined_in_innermost(self, value: Value) -> bool:
        """Whether the innermost open block defines ``value`` (and so it is gone once that block is closed)."""
        return value in self._defined[-1]

    def in_scope(self, value: Value) -> bool:
        """Whether an operation made now may use ``value``."""
        return any(value in defined for defined in self._defined)

    def of_launch_time(self, value: Value) -> bool:
        """Whether a value of the outermost block depends on dims and scalars only."""
        known: set[Value] = set()
        for op in self._blocks[0].ops:
            if of_launch_time(op, known):
                known.update(results(op))
        return value in known

    def emit(self, op: Op) -> None:
        """Appends an operation as it is."""
        self.effects += isinstance(op, ops.Store | ops.Update | ops.Guard)
        self._blocks[-1].ops.append(op)
        self._defined[-1].update(results(op))

    def _pure(self, key: tuple[Any, ...], kind: type[Any], type_: TileType, **operands: Any) -> Value:
        """The value of a pure operation: one that an enclosing block already has, or a new one."""
        key = (kind, type_, *key)
        for shared in reversed(self._shared):
            if key in shared:
                return shared[key]
        result = Value(type_)
        self.emit(kind(**operands, result=result, span=self.span))
        self._shared[-1][key] = result
        return result

    def constant_of(self, value: Value) -> Number | None:
        """The value of a scalar made by ``constant`` (or folded to one), else None."""
        return self._constants.get(value)

    # --- leaves
    def constant(self, value: Number, dtype: DType) -> Value:
        """A scalar constant."""
        result = self._pure((type(value), repr(value)), ops.Constant, TileType(dtype), value=value)
        self._constants[result] = value
        return result

    def extent(self, extent: Extent | int) -> Value:
        """An extent as an index scalar; a constant if it is one."""
        extent = as_extent(extent)
        if isinstance(extent, Const):
            return self.constant(extent.value, dtypes.index)
        return self._pure((extent,), ops.ExtentValue, TileType(dtypes.index), extent=extent)

    def scalar(self, name: str, dtype: DType) -> Value:
        """A run-time scalar argument."""
        return self._pure((name,), ops.ScalarValue, TileType(dtype), param=name)

    def program_id(self, axis: int) -> Value:
        """This program's position on a grid axis."""
        return self._pure((axis,), ops.ProgramId, TileType(dtypes.index), axis=axis)

    def iota(self, extent: Extent | int) -> Value:
        """0 … extent−1. Every call makes a new value, since two spans of one length have different lanes."""
        result = Value(TileType(dtypes.index, (as_extent(extent),)))
        self.emit(ops.Iota(result=result, span=self.span))
        return result

    # --- elementwise
    def unary(self, op: UnaryOp, x: Value) -> Value:
        """An elementwise function of one operand."""
        known, dtype = self.constant_of(x), x.type.dtype
        if op is UnaryOp.NEG and known is not None and dtype.kind in (Kind.INDEX, Kind.FLOAT):  # others may wrap
            return self.constant(-known, dtype)
        return self._pure((op, x), ops.Unary, x.type, op=op, x=x)

    def binary(self, op: BinaryOp, x: Value, y: Value) -> Value:
        """An elementwise function of two operands of one type; scalars are broadcast, axes of 1 stretched."""
        x, y = self.aligned(x, y)
        folded = self._fold(op, x, y)
        if folded is not None:
            return folded
        dtype = dtypes.bool_ if op.is_comparison else x.type.dtype
        return self._pure((op, x, y), ops.Binary, TileType(dtype, x.type.shape), op=op, x=x, y=y)

    def _fold(self, op: BinaryOp, x: Value, y: Value) -> Value | None:
        """Constant folding and identities of ``index`` scalars (floats are left alone)."""
        a, b = self.constant_of(x), self.constant_of(y)
        if x.type.dtype is not dtypes.index:
            return None
        match op, a, b:
            case (BinaryOp.ADD, 0, _) | (BinaryOp.MUL, 1, _):
                return y
            case (BinaryOp.ADD | BinaryOp.SUB, _, 0) | (BinaryOp.MUL | BinaryOp.FLOORDIV, _, 1):
                return x
            case (BinaryOp.FLOORDIV | BinaryOp.MOD, _, 0):
                return None
        if a is None or b is None:
            return None
        a, b = int(a), int(b)
        table = {
            BinaryOp.ADD: a + b, BinaryOp.SUB: a - b, BinaryOp.MUL: a * b, BinaryOp.MIN: min(a, b), BinaryOp.MAX: max(a, b),
            BinaryOp.FLOORDIV: a // b if b else None, BinaryOp.MOD: a % b if b else None,
        }  # fmt: skip
        value = table.get(op)
        return None if value is None else self.constant(value, dtypes.index)

    def add(self, x: Value, y: Value) -> Value:
        return self.binary(BinaryOp.ADD, x, y)

    def sub(self, x: Value, y: Value) -> Value:
        return self.binary(BinaryOp.SUB, x, y)

    def mul(self, x: Value, y: Value) -> Value:
        return self.binary(BinaryOp.MUL, x, y)

    def lt(self, x: Value, y: Value) -> Value:
        return self.binary(BinaryOp.LT, x, y)

    def fma(self, x: Value, y: Value, z: Value) -> Value:
        """x·y + z of f32 or f64, rounded once."""
        x, y = self.aligned(x, y)
        x, z = self.aligned(x, z)
        x, y = self.aligned(x, y)
        return self._pure((x, y, z), ops.Fma, x.type, x=x, y=y, z=z)

    def select(self, condition: Value, x: Value, y: Value) -> Value:
        """x where condition, else y."""
        x, y = self.aligned(x, y)
        condition, x = self.aligned(condition, x)
        x, y = self.aligned(x, y)
        return self._pure((condition, x, y), ops.Select, x.type, condition=condition, x=x, y=y)

    def cast(self, x: Value, dtype: DType) -> Value:
        """Conversion by value; nothing if the dtype is the same."""
        if x.type.dtype is dtype:
            return x
        known = self.constant_of(x)
        if known is not None and dtype is dtypes.index and isinstance(known, int):
            return self.constant(known, dtype)
        return self._pure((x,), ops.Cast, TileType(dtype, x.type.shape), x=x)

    def bitcast(self, x: Value, dtype: DType) -> Value:
        """The same bits as another dtype of equal width."""
        return self._pure((x,), ops.Bitcast, TileType(dtype, x.type.shape), x=x)

    def random(self, seed: Value, counter: Value) -> Value:
        """Philox words for a tile of u64 counters."""
        return self._pure(
            (seed, counter), ops.Random, TileType(dtypes.u32, counter.type.shape), seed=seed, counter=counter
        )

    # --- shape
    def broadcast(self, x: Value, shape: Sequence[Extent]) -> Value:
        """``x`` stretched to ``shape`` (NumPy's rules)."""
        shape = tuple(shape)
        if x.type.shape == shape:
            return x
        if x.type.rank:
            for _ in range(len(shape) - x.type.rank):
                x = self.expand_dims(x, 0)
        if x.type.shape == shape:
            return x
        return self._pure((x, shape), ops.Broadcast, TileType(x.type.dtype, shape), x=x)

    def aligned(self, x: Value, y: Value) -> tuple[Value, Value]:
        """Both operands broadcast to their common shape. ValueError if there is none."""
        if x.type.shape == y.type.shape:
            return x, y
        shape = broadcast_shape(x.type.shape, y.type.shape)
        return self.broadcast(x, shape), self.broadcast(y, shape)

    def expand_dims(self, x: Value, axis: int) -> Value:
        """An axis of extent 1 inserted at ``axis``."""
        shape = (*x.type.shape[:axis], Const(1), *x.type.shape[axis:])
        return self._pure((x, axis), ops.ExpandDims, TileType(x.type.dtype, shape), x=x, axis=axis)

    def reshape(self, x: Value, shape: Sequence[Extent]) -> Value:
        """Row-major reshape."""
        if x.type.shape == tuple(shape):
            return x
        return self._pure((x, tuple(shape)), ops.Reshape, TileType(x.type.dtype, tuple(shape)), x=x)

    def transpose(self, x: Value, permutation: Sequence[int]) -> Value:
        """Result axis i is x's axis permutation[i]."""
        shape = tuple(x.type.shape[p] for p in permutation)
        return self._pure(
            (x, tuple(permutation)), ops.Transpose, TileType(x.type.dtype, shape), x=x, permutation=tuple(permutation)
        )

    # --- across lanes
    def reduce(self, op: ReduceOp, x: Value, axis: int) -> Value:
        """Removes ``axis``."""
        dtype = dtypes.index if op in (ReduceOp.ARGMAX, ReduceOp.ARGMIN) else x.type.dtype
        shape = (*x.type.shape[:axis], *x.type.shape[axis + 1 :])
        return self._pure((op, x, axis), ops.Reduce, TileType(dtype, shape), op=op, x=x, axis=axis)

    def scan(self, op: ReduceOp, x: Value, axis: int) -> Value:
        """Inclusive running reduction along ``axis``."""
        return self._pure((op, x, axis), ops.Scan, x.type, op=op, x=x, axis=axis)

    def offsets(self, lengths: Value, total: Value) -> Value:
        """The saturated running sum of ``lengths``, from 0 to ``total``."""
        type_ = TileType(dtypes.index, (lengths.type.shape[0] + 1,))
        return self._pure((lengths, total), ops.Offsets, type_, lengths=lengths, total=total)

    def sort(self, x: Value, descending: bool) -> tuple[Value, Value]:
        """Sorted values and their source positions, along the last axis."""
        result, order = Value(x.type), Value(TileType(dtypes.index, x.type.shape))
        self.emit(ops.Sort(x=x, descending=descending, result=result, order=order, span=self.span))
        return result, order

    def gather(self, x: Value, positions: Value, axis: int) -> Value:
        """Elements of a tile by position along ``axis``."""
        type_ = TileType(x.type.dtype, positions.type.shape)
        return self._pure((x, positions, axis), ops.Gather, type_, x=x, positions=positions, axis=axis)

    def dot(self, a: Value, b: Value, acc: Value) -> Value:
        """acc + a·b."""
        return self._pure((a, b, acc), ops.Dot, acc.type, a=a, b=b, acc=acc)

    def segment(self, array: str, position: Value, tile: int | None = None) -> Value:
        """The segment of an ``Offsets`` input that a position (or a tile's number) lies in."""
        return self._pure(
            (array, position, tile), ops.Segment, position.type, array=array, position=position, tile=tile
        )

    # --- memory (never shared: memory changes)
    def load(
        self,
        array: str,
        index: Sequence[Value],
        masks: Sequence[Value],
        pad: int | float,
        dtype: DType,
        shape: Sequence[Extent],
    ) -> Value:
        """Reads a tile of ``shape``."""
        result = Value(TileType(dtype, tuple(shape)))
        self.emit(ops.Load(array=array, index=tuple(index), masks=tuple(masks), pad=pad, result=result, span=self.span))
        return result

    def store(self, array: str, index: Sequence[Value], masks: Sequence[Value], value: Value) -> None:
        """Writes a tile."""
        self.emit(ops.Store(array=array, index=tuple(index), masks=tuple(masks), value=value, span=self.span))

    def update(self, op: UpdateOp, array: str, index: Sequence[Value], masks: Sequence[Value], value: Value) -> None:
        """Combines a tile into an ``Acc`` array."""
        self.emit(ops.Update(op=op, array=array, index=tuple(index), masks=tuple(masks), value=value, span=self.span))


class ShapeError(ValueError):
    """Shapes that do not broadcast. Whoever builds IR from what an author wrote tells the author."""


def broadcast_shape(a: Sequence[Extent], b: Sequence[Extent]) -> tuple[Extent, ...]:
    """The common shape of two operands by NumPy's rules. ValueError if two extents differ and neither is 1."""
    rank = max(len(a), len(b))
    one = Const(1)
    left, right = (one,) * (rank - len(a)) + tuple(a), (one,) * (rank - len(b)) + tuple(b)
    shape = []
    for x, y in zip(left, right, strict=True):
        if x != y and one not in (x, y):
            raise ShapeError(f"shapes ({', '.join(map(str, a))}) and ({', '.join(map(str, b))}) do not broadcast")
        shape.append(y if x == one else x)
    return tuple(shape)
