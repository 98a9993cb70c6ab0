"""Bounds of integer values, for every lane, iteration and program, and which masks and comparisons they decide.

They hold under the launch conditions that the architecture page lists (dims in [0, 2³¹)) and in verified functions. Exact on
what frontends produce: ``pid·B + iota < M`` is decided when B is known to divide M. The widths of index arithmetic and the masks
that disappear come from here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import inf

from zellige.ir import dtypes, ops
from zellige.ir.extent import Const, Dim, Extent, Nary, ceildiv
from zellige.ir.ops import BinaryOp, Block, Function, Op, ReduceOp, UnaryOp, Value
from zellige.ir.walk import definitions, results
from zellige.passes.intervals import ANY, Interval, of_binary, of_contract, of_dtype, of_extent, point


def bounds_of_values(function: Function) -> dict[Value, Interval]:
    """Bounds of every integer value of a function; those of bools are 0 and 1, floats are left out."""
    return Bounds(function).known


class Bounds:
    """Bounds of all integer values of a function."""

    def __init__(self, function: Function, multiples: Mapping[str, int] | None = None) -> None:
        """``multiples``: dims that are known to be multiples of a number."""
        self._function = function
        self._multiples = multiples or {}
        self.known: dict[Value, Interval] = {}
        """Of integers and bools; of no value, everything that its type holds."""
        self._defined = definitions(function.body)
        self._ranges: dict[Value, Extent] = {}
        """Positions that run over 0 … extent − 1."""
        self._uppers: dict[Value, Value] = {}
        """Induction variables from 0 in steps of 1, and the values that end them."""
        self._block(function.body)

    def definition(self, value: Value) -> Op | None:
        """The operation that defines a value; None for a block parameter."""
        return self._defined.get(value)

    def of(self, value: Value) -> Interval:
        """Bounds of a value's lanes."""
        return self.known.get(value, of_dtype(value.type.dtype))

    # --- forward analysis
    def _block(self, block: Block) -> None:
        for op in block.ops:
            self._visit(op)

    def _visit(self, op: Op) -> None:
        match op:
            case ops.For():
                lower, upper = self.of(op.lower), self.of(op.upper)
                if op.step > 0:
                    self.known[op.body.params[0]] = Interval(lower.low, max(upper.high - 1, lower.low))
                else:
                    self.known[op.body.params[0]] = Interval(min(upper.low + 1, lower.high), lower.high)
                top = self._defined.get(op.upper)
                if op.step == 1 and lower == point(0):
                    self._uppers[op.body.params[0]] = op.upper
                    if isinstance(top, ops.ExtentValue):
                        self._ranges[op.body.params[0]] = top.extent
                self._loop(op.init, [op.body], op.body.params[1:], op.body.yields, op.results)
            case ops.While():
                for param, carried in zip(op.condition.params, op.body.params, strict=True):
                    self._set(param, ANY)
                    self._set(carried, ANY)
                self._block(op.condition)
                self._loop(op.init, [op.condition, op.body], op.body.params, op.body.yields, op.results)
            case ops.If():
                with self.assuming(op.condition):
                    self._block(op.then)
                self._block(op.orelse)
                for result, a, b in zip(op.results, op.then.yields, op.orelse.yields, strict=True):
                    self._set(result, self.of(a).join(self.of(b)))
            case ops.Sort():
                self._set(op.result, self.of(op.x))
                self._set(op.order, _positions(op.x, op.x.type.rank - 1))
            case _:
                for result in results(op):
                    if _is_integral(result):
                        self._set(result, self._pure(op, result))

    def _loop(
        self,
        init: tuple[Value, ...],
        blocks: list[Block],
        params: tuple[Value, ...],
        yields: tuple[Value, ...],
        out: tuple[Value, ...],
    ) -> None:
        """Guesses that carried values keep their first bounds; those that do not are unbounded."""
        for param, first in zip(params, init, strict=True):
            self._set(param, self.of(first))
        for _ in range(len(params) + 1):
            for block in blocks:
                self._block(block)
            loose = [p for p, y in zip(params, yields, strict=True) if not self.of(y).within(self.of(p))]
            if not loose:
                break
            for param in loose:
                self._set(param, ANY)
        for result, param in zip(out, params, strict=True):
            self._set(result, self.of(param))

    def _pure(self, op: Op, result: Value) -> Interval:
        match op:
            case ops.Constant(value=value):
                return point(int(value))
            case ops.ExtentValue(extent=extent):
                return of_extent(extent)
            case ops.ScalarValue(param=name):
                param = next(s for s in self._function.scalars if s.name == name)
                bounds = of_dtype(param.dtype)
                return of_contract(param.contract).common(bounds) if param.contract else bounds
            case ops.ProgramId(axis=axis):
                programs = self._function.grid[axis].programs
                self._ranges[result] = programs
                return Interval(0, max(of_extent(programs).high - 1, 0))
            case ops.Iota():
                return _positions(result, 0)
            case ops.Segment(array=name):
                return Interval(0, max(of_extent(self._function.array(name).shape[0]).high - 2, 0))
            case ops.Offsets(total=total):
                return Interval(0, max(self.of(total).high, 0))
            case ops.Unary(op=UnaryOp.NEG, x=x):
                return point(0) - self.of(x)
            case ops.Unary(op=UnaryOp.ABS, x=x):
                bound = self.of(x)
                return Interval(0, max(abs(bound.low), abs(bound.high)))
            case ops.Binary(op=operator, x=x, y=y):
                return of_binary(operator, self.of(x), self.of(y))
            case ops.Select(condition=condition, x=x, y=y):
                return self.of(x) if self.always(condition) else self.of(x).join(self.of(y))
            case ops.Reduce(op=ReduceOp.MIN, x=x) if (first := self.first_lane(x)) is not None:
                return self.of(first)
            case ops.Cast(x=x):
                return self.of(x) if _is_integral(x) else ANY
            case ops.Broadcast(x=x) | ops.ExpandDims(x=x) | ops.Reshape(x=x) | ops.Transpose(x=x) | ops.Gather(x=x):
                return self.of(x)
            case ops.Reduce(op=ReduceOp.MAX | ReduceOp.MIN, x=x, axis=axis):
                return self.of(x) if of_extent(x.type.shape[axis]).low > 0 else ANY
            case ops.Scan(op=ReduceOp.MAX | ReduceOp.MIN, x=x):
                return self.of(x)
            case ops.Reduce(op=ReduceOp.ARGMAX | ReduceOp.ARGMIN, x=x, axis=axis):
                return _positions(x, axis)
            case ops.Reduce(op=ReduceOp.SUM, x=x, axis=axis):
                return self.of(x) * of_extent(x.type.shape[axis])
            case ops.Scan(op=ReduceOp.SUM, x=x, axis=axis):
                return self.of(x) * Interval(1, max(of_extent(x.type.shape[axis]).high, 1))
            case ops.Load(array=name, pad=pad):
                array = self._function.array(name)
                bounds = of_dtype(array.dtype)
                if array.contract:
                    bounds = of_contract(array.contract).common(bounds)
                return bounds.join(point(int(pad))) if op.masks else bounds
        return ANY

    def _set(self, value: Value, bounds: Interval) -> None:
        """Notes bounds; a fixed-width result that may leave its range wraps, and has only its type's."""
        if _is_integral(value):
            full = of_dtype(value.type.dtype)
            self.known[value] = bounds if bounds.within(full) else full

    @contextmanager
    def assuming(self, condition: Value) -> Iterator[None]:
        """Inside the ``with``, values that a scalar condition compares are known to fulfil it."""
        before = dict(self.known)
        narrowed: set[Value] = set()
        self._assume(condition, narrowed)
        try:
            yield
        finally:
            for value in narrowed:
                if value in before:
                    self.known[value] = before[value]
                else:
                    del self.known[value]

    @contextmanager
    def at_iteration(self, loop: ops.For, number: int) -> Iterator[None]:
        """Inside the ``with``, bounds are those of one iteration of a loop."""
        before = dict(self.known)
        self.known[loop.body.params[0]] = point(number)
        self._block(loop.body)
        try:
            yield
        finally:
            self.known = before

    def _assume(self, condition: Value, narrowed: set[Value]) -> None:
        op = self._defined.get(condition)
        if not isinstance(op, ops.Binary):
            return
        if op.op is BinaryOp.AND:
            self._assume(op.x, narrowed)
            self._assume(op.y, narrowed)
            return
        a, b = self.of(op.x), self.of(op.y)
        match op.op:
            case BinaryOp.GE:
                self._narrow(op.x, Interval(b.low, inf), narrowed)
                self._narrow(op.y, Interval(-inf, a.high), narrowed)
            case BinaryOp.GT:
                self._narrow(op.x, Interval(b.low + 1, inf), narrowed)
                self._narrow(op.y, Interval(-inf, a.high - 1), narrowed)
            case BinaryOp.LE:
                self._narrow(op.x, Interval(-inf, b.high), narrowed)
                self._narrow(op.y, Interval(a.low, inf), narrowed)
            case BinaryOp.LT:
                self._narrow(op.x, Interval(-inf, b.high - 1), narrowed)
                self._narrow(op.y, Interval(a.low + 1, inf), narrowed)

    def _narrow(self, value: Value, to: Interval, narrowed: set[Value]) -> None:
        if value.type.rank or not value.type.dtype.is_integer:
            return
        kept = self.of(value).common(to)
        if kept.low <= kept.high:
            self.known[value] = kept
            narrowed.add(value)

    # --- masks
    def always(self, mask: Value) -> bool:
        """Whether a bool value is true in every lane of every program."""
        match self._defined.get(mask):
            case ops.Constant(value=value):
                return bool(value)
            case ops.Broadcast(x=x) | ops.ExpandDims(x=x) | ops.Reshape(x=x) | ops.Transpose(x=x):
                return self.always(x)
            case ops.Binary(op=BinaryOp.AND, x=x, y=y):
                return self.always(x) and self.always(y)
            case ops.Binary(op=BinaryOp.OR, x=x, y=y):
                return self.always(x) or self.always(y)
            case ops.Binary(op=BinaryOp.LT, x=x, y=y):
                return self.of(x).high < self.of(y).low or self._tile_of_multiple(x, y)
            case ops.Binary(op=BinaryOp.LE, x=x, y=y):
                return self.of(x).high <= self.of(y).low
            case ops.Binary(op=BinaryOp.GT, x=x, y=y):
                return self.of(x).low > self.of(y).high
            case ops.Binary(op=BinaryOp.GE, x=x, y=y):
                return self.of(x).low >= self.of(y).high
        return False

    def is_tile(self, lanes: Value, limit: Value) -> bool:
        """Whether ``lanes`` is i·size + iota(size) with 0 ≤ i < ceildiv(limit, size): a tile that begins below ``limit``."""
        return self._tile_size(lanes, limit) is not None

    def _tile_of_multiple(self, lanes: Value, limit: Value) -> bool:
        """Whether ``lanes`` is a tile of ``limit`` whose size divides it, so that all lanes are below."""
        size = self._tile_size(lanes, limit)
        total = self.scalar_behind(limit)
        return size is not None and total is not None and self.divisible(total, size)

    def _tile_size(self, lanes: Value, limit: Value) -> int | None:
        total = self.scalar_behind(limit)
        add = self._defined.get(lanes)
        if total is None or not isinstance(add, ops.Binary) or add.op is not BinaryOp.ADD:
            return None
        for base, offsets in ((add.x, add.y), (add.y, add.x)):
            start = self.scalar_behind(base)
            iota = self._defined.get(offsets)
            product = self._defined.get(start) if start else None
            if not isinstance(iota, ops.Iota) or not isinstance(product, ops.Binary) or product.op is not BinaryOp.MUL:
                continue
            size = iota.result.type.shape[0].constant
            for position, factor in ((product.x, product.y), (product.y, product.x)):
                if size is not None and self.of(factor) == point(size) and self._counts_tiles(position, total, size):
                    return size
        return None

    def _counts_tiles(self, position: Value, total: Value, size: int) -> bool:
        """Whether ``position`` runs over 0 … ceildiv(total, size) − 1."""
        extent = self._extent_of(total)
        if extent is not None and self._ranges.get(position) == ceildiv(extent, size):
            return True
        upper = self._defined.get(self._uppers[position]) if position in self._uppers else None
        if not isinstance(upper, ops.Binary) or upper.op is not BinaryOp.FLOORDIV or self.of(upper.y) != point(size):
            return False
        rounded = self._defined.get(upper.x)
        if not isinstance(rounded, ops.Binary) or rounded.op is not BinaryOp.ADD:
            return False
        pairs = ((rounded.x, rounded.y), (rounded.y, rounded.x))
        return any(a is total and self.of(b) == point(size - 1) for a, b in pairs)

    def _extent_of(self, value: Value) -> Extent | None:
        match self._defined.get(value):
            case ops.ExtentValue(extent=extent):
                return extent
            case ops.Constant(value=number) if is_index(value):
                return Const(int(number))
        return None

    def divisible(self, value: Value, by: int) -> bool:
        """Whether an index scalar is known to be a multiple of a number."""
        extent = self._extent_of(value)
        if extent is not None:
            return self.multiple(extent, by)
        match self._defined.get(value):
            case ops.Binary(op=BinaryOp.MUL, x=x, y=y):
                return self.divisible(x, by) or self.divisible(y, by)
            case ops.Binary(op=BinaryOp.ADD | BinaryOp.SUB | BinaryOp.MIN | BinaryOp.MAX, x=x, y=y):
                return self.divisible(x, by) and self.divisible(y, by)
            case ops.Broadcast(x=x) | ops.ExpandDims(x=x) | ops.Reshape(x=x):
                return self.divisible(x, by)
            case ops.Reduce(op=ReduceOp.MIN, x=x):
                first = self.first_lane(x)
                return first is not None and self.divisible(first, by)
        return False

    def first_lane(self, lanes: Value) -> Value | None:
        """The scalar b of a tile b + iota, also where lanes past a limit were replaced by something larger; None otherwise.

        The first lane of a tile that exists is within its limit, so the replacement leaves the least lane alone. A tile that may
        have no lanes has no least one."""
        op = self._defined.get(lanes)
        if isinstance(op, ops.Select):
            compare = self._defined.get(op.condition)
            if not isinstance(compare, ops.Binary) or compare.op is not BinaryOp.LT or compare.x is not op.x:
                return None
            if not self.is_tile(op.x, compare.y) or self.of(op.y).low < self.of(op.x).high:
                return None
            op = self._defined.get(op.x)
        if isinstance(op, ops.Binary) and op.op is BinaryOp.ADD:
            for base, offsets in ((op.x, op.y), (op.y, op.x)):
                if isinstance(self._defined.get(offsets), ops.Iota) and of_extent(offsets.type.shape[0]).low > 0:
                    return self.scalar_behind(base)
        return None

    def multiple(self, extent: Extent, of: int) -> bool:
        """Whether an extent is known to be a multiple of a number."""
        match extent:
            case Const(value):
                return value % of == 0
            case Dim(name):
                return self._multiples.get(name, 1) % of == 0
            case Nary("mul", terms):
                return any(self.multiple(t, of) for t in terms)
            case Nary(_, terms):
                return all(self.multiple(t, of) for t in terms)
        return False

    def scalar_behind(self, value: Value) -> Value | None:
        """The scalar that a value broadcasts, or the value itself if it is one."""
        while value.type.rank:
            op = self._defined.get(value)
            if not isinstance(op, ops.Broadcast | ops.ExpandDims | ops.Reshape):
                return None
            value = op.x
        return value


def _positions(value: Value, axis: int) -> Interval:
    return Interval(0, max(of_extent(value.type.shape[axis]).high - 1, 0))


def _is_integral(value: Value) -> bool:
    return value.type.dtype.is_integer or value.type.dtype.is_bool


def is_index(value: Value) -> bool:
    """Whether a value is index arithmetic, whose width is ours to choose."""
    return value.type.dtype is dtypes.index
