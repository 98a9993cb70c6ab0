"""Bounds of index values, and which masks are always true.

The widths of index arithmetic and the masks that disappear come from here. Bounds hold for every lane and program, under
the launch conditions that the architecture page lists (dims in [0, 2³¹)).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf

from zellige.ir import dtypes, ops
from zellige.ir.dtypes import DType, Kind
from zellige.ir.extent import Const, Dim, Extent, Nary, Quotient, ceildiv
from zellige.ir.ops import BinaryOp, Block, Function, Op, ReduceOp, UnaryOp, Value
from zellige.ir.types import Contract, ContractKind
from zellige.ir.walk import definitions, results

DIM_LIMIT = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Interval:
    """All integers from ``low`` to ``high``, either of which may be infinite."""

    low: float
    high: float

    def union(self, other: Interval) -> Interval:
        return Interval(min(self.low, other.low), max(self.high, other.high))

    def within(self, other: Interval) -> bool:
        return other.low <= self.low and self.high <= other.high

    @property
    def fits_32(self) -> bool:
        return self.low >= -(1 << 31) and self.high < (1 << 31)

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high)

    def __sub__(self, other: Interval) -> Interval:
        return Interval(self.low - other.high, self.high - other.low)

    def __mul__(self, other: Interval) -> Interval:
        ends = [0 if 0 in (a, b) else a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Interval(min(ends), max(ends))


EVERYTHING = Interval(-inf, inf)


def point(value: int) -> Interval:
    """The interval of one integer."""
    return Interval(value, value)


def of_extent(extent: Extent) -> Interval:
    """Bounds of a dim expression."""
    match extent:
        case Const(value):
            return point(value)
        case Dim():
            return Interval(0, DIM_LIMIT)
        case Nary(op, terms):
            total = of_extent(terms[0])
            for term in terms[1:]:
                other = of_extent(term)
                total = _NARY[op](total, other)
            return total
        case Quotient(op, left, right):
            return _quotient(op, of_extent(left), of_extent(right))
    raise TypeError(extent)


def _least(a: Interval, b: Interval) -> Interval:
    return Interval(min(a.low, b.low), min(a.high, b.high))


def _greatest(a: Interval, b: Interval) -> Interval:
    return Interval(max(a.low, b.low), max(a.high, b.high))


_NARY = {"add": Interval.__add__, "mul": Interval.__mul__, "min": _least, "max": _greatest}


def _quotient(op: str, a: Interval, b: Interval) -> Interval:
    if b.low <= 0 or a.low == -inf:
        return EVERYTHING if op != "mod" or b.low < 0 else Interval(0, max(b.high - 1, 0))
    if op == "mod":
        return a if a.low >= 0 and a.high < b.low else Interval(0, b.high - 1)
    if op == "ceildiv":
        return Interval(min(-(-a.low // b.high) if b.high != inf else 0, -(-a.low // b.low)), _over(a.high, b, up=True))
    low = a.low // b.low if a.low < 0 else (a.low // b.high if b.high != inf else 0)
    return Interval(low, _over(a.high, b, up=False))


def _over(high: float, b: Interval, *, up: bool) -> float:
    """The largest quotient of a number up to ``high`` by one in ``b``."""
    if high == inf:
        return inf
    divisor = b.low if high >= 0 else b.high
    if divisor == inf:
        return 0
    return -(-high // divisor) if up else high // divisor


def of_contract(contract: Contract) -> Interval:
    """Bounds of integers that keep a contract."""
    bound = of_extent(contract.bound).high
    up_to = contract.kind in (ContractKind.UP_TO, ContractKind.OFFSETS)
    return Interval(-1 if contract.optional else 0, bound if up_to else bound - 1)


def of_dtype(dtype: DType) -> Interval:
    """Bounds of a fixed-width integer type; of any other, everything."""
    if dtype.kind in (Kind.SIGNED, Kind.UNSIGNED):
        return Interval(*dtype.integer_range())
    return Interval(0, 1) if dtype.is_bool else EVERYTHING


class Bounds:
    """Bounds of all integer values of a function."""

    def __init__(self, function: Function, multiples: Mapping[str, int]) -> None:
        self._function = function
        self._multiples = multiples
        self._known: dict[Value, Interval] = {}
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
        return self._known.get(value, of_dtype(value.type.dtype))

    # --- forward analysis
    def _block(self, block: Block) -> None:
        for op in block.ops:
            self._visit(op)

    def _visit(self, op: Op) -> None:
        match op:
            case ops.For():
                lower, upper = self.of(op.lower), self.of(op.upper)
                self._known[op.body.params[0]] = Interval(lower.low, max(upper.high - 1, lower.low))
                top = self._defined.get(op.upper)
                if op.step == 1 and lower == point(0):
                    self._uppers[op.body.params[0]] = op.upper
                    if isinstance(top, ops.ExtentValue):
                        self._ranges[op.body.params[0]] = top.extent
                self._loop(op.init, [op.body], op.body.params[1:], op.body.yields, op.results)
            case ops.While():
                for param, carried in zip(op.condition.params, op.body.params, strict=True):
                    self._known[param] = self._known[carried] = EVERYTHING
                self._block(op.condition)
                self._loop(op.init, [op.condition, op.body], op.body.params, op.body.yields, op.results)
            case ops.If():
                with self.assuming(op.condition):
                    self._block(op.then)
                self._block(op.orelse)
                for result, a, b in zip(op.results, op.then.yields, op.orelse.yields, strict=True):
                    self._known[result] = self.of(a).union(self.of(b))
            case ops.Sort():
                self._known[op.result] = self.of(op.x)
                self._known[op.order] = _positions(op.x, op.x.type.rank - 1)
            case _:
                for result in results(op):
                    if result.type.dtype.is_integer:
                        self._known[result] = self._pure(op, result)

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
            self._known[param] = self.of(first)
        for _ in range(len(params) + 1):
            for block in blocks:
                self._block(block)
            loose = [p for p, y in zip(params, yields, strict=True) if not self.of(y).within(self.of(p))]
            if not loose:
                break
            for param in loose:
                self._known[param] = of_dtype(param.type.dtype)
        for result, param in zip(out, params, strict=True):
            self._known[result] = self.of(param)

    def _pure(self, op: Op, result: Value) -> Interval:
        match op:
            case ops.Constant(value=value):
                return point(int(value))
            case ops.ExtentValue(extent=extent):
                return of_extent(extent)
            case ops.ScalarValue(param=name):
                param = next(s for s in self._function.scalars if s.name == name)
                bounds = of_dtype(param.dtype)
                return _intersection(of_contract(param.contract), bounds) if param.contract else bounds
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
                return self._wrapped(point(0) - self.of(x), result)
            case ops.Unary(op=UnaryOp.ABS, x=x):
                bound = self.of(x)
                return self._wrapped(Interval(0, max(abs(bound.low), abs(bound.high))), result)
            case ops.Binary(op=operator, x=x, y=y):
                return self._wrapped(_binary(operator, self.of(x), self.of(y)), result)
            case ops.Select(condition=condition, x=x, y=y):
                return self.of(x) if self.always(condition) else self.of(x).union(self.of(y))
            case ops.Reduce(op=ReduceOp.MIN, x=x) if (first := self.first_lane(x)) is not None:
                return self.of(first)
            case ops.Cast(x=x):
                return (
                    self._wrapped(self.of(x), result)
                    if x.type.dtype.is_integer or x.type.dtype.is_bool
                    else of_dtype(result.type.dtype)
                )
            case ops.Broadcast(x=x) | ops.ExpandDims(x=x) | ops.Reshape(x=x) | ops.Transpose(x=x) | ops.Gather(x=x):
                return self.of(x)
            case ops.Reduce(op=ReduceOp.MAX | ReduceOp.MIN, x=x) | ops.Scan(op=ReduceOp.MAX | ReduceOp.MIN, x=x):
                return self.of(x)
            case ops.Reduce(op=ReduceOp.ARGMAX | ReduceOp.ARGMIN, x=x, axis=axis):
                return _positions(x, axis)
            case ops.Reduce(op=ReduceOp.SUM, x=x, axis=axis) | ops.Scan(op=ReduceOp.SUM, x=x, axis=axis):
                lanes = Interval(0, of_extent(x.type.shape[axis]).high)
                return self._wrapped(self.of(x).union(point(0)) * lanes, result)
            case ops.Load(array=name, pad=pad):
                array = self._function.array(name)
                bounds = of_dtype(array.dtype)
                if array.contract:
                    bounds = _intersection(of_contract(array.contract), bounds)
                return bounds.union(point(int(pad))) if op.masks else bounds
        return of_dtype(result.type.dtype)

    @staticmethod
    def _wrapped(bounds: Interval, result: Value) -> Interval:
        """Bounds of a fixed-width result, which wraps when they leave its range."""
        full = of_dtype(result.type.dtype)
        return bounds if bounds.within(full) else full

    @contextmanager
    def assuming(self, condition: Value) -> Iterator[None]:
        """Inside the ``with``, values that a scalar condition compares are known to fulfil it."""
        before = dict(self._known)
        narrowed: set[Value] = set()
        self._assume(condition, narrowed)
        try:
            yield
        finally:
            for value in narrowed:
                if value in before:
                    self._known[value] = before[value]
                else:
                    del self._known[value]

    @contextmanager
    def at_iteration(self, loop: ops.For, number: int) -> Iterator[None]:
        """Inside the ``with``, bounds are those of one iteration of a loop."""
        before = dict(self._known)
        self._known[loop.body.params[0]] = point(number)
        self._block(loop.body)
        try:
            yield
        finally:
            self._known = before

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
        kept = _intersection(self.of(value), to)
        if kept.low <= kept.high:
            self._known[value] = kept
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

        The first lane of a tile that exists is within its limit, so the replacement leaves the least lane alone."""
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
                if isinstance(self._defined.get(offsets), ops.Iota):
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


def _intersection(a: Interval, b: Interval) -> Interval:
    return Interval(max(a.low, b.low), min(a.high, b.high))


def _positions(value: Value, axis: int) -> Interval:
    return Interval(0, max(of_extent(value.type.shape[axis]).high - 1, 0))


def _binary(op: BinaryOp, a: Interval, b: Interval) -> Interval:
    match op:
        case BinaryOp.ADD:
            return a + b
        case BinaryOp.SUB:
            return a - b
        case BinaryOp.MUL:
            return a * b
        case BinaryOp.MIN:
            return _least(a, b)
        case BinaryOp.MAX:
            return _greatest(a, b)
        case BinaryOp.FLOORDIV:
            return _quotient("floordiv", a, b)
        case BinaryOp.MOD:
            return _quotient("mod", a, b)
        case BinaryOp.AND if a.low >= 0 and b.low >= 0:
            return Interval(0, min(a.high, b.high))
        case BinaryOp.SHR if a.low >= 0 and b.low >= 0:
            return Interval(0, a.high)
    return EVERYTHING


def is_index(value: Value) -> bool:
    """Whether a value is index arithmetic, whose width is ours to choose."""
    return value.type.dtype is dtypes.index
