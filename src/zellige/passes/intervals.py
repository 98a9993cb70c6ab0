"""Intervals of integers: their arithmetic, and what dims, contracts and element types allow. ``bounds.py`` finds those of values."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from zellige.ir.dtypes import DType, Kind
from zellige.ir.extent import Const, Dim, Extent, Nary, Quotient
from zellige.ir.ops import BinaryOp
from zellige.ir.types import Contract, ContractKind

DIM_END = 1 << 31
"""Every dim is below this (a launch condition)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The integers from ``low`` to ``high``; ends may be infinite. Empty ones do not occur: bounds of what never runs
    may be anything."""

    low: float
    high: float

    def join(self, other: Interval) -> Interval:
        """The smallest interval that holds both."""
        return Interval(min(self.low, other.low), max(self.high, other.high))

    @property
    def value(self) -> int | None:
        """The only integer in it, or None."""
        return int(self.low) if self.low == self.high and abs(self.low) != inf else None

    @property
    def fits_32(self) -> bool:
        """Whether 32-bit integers hold all of it."""
        return self.low >= -(1 << 31) and self.high < 1 << 31

    def within(self, other: Interval) -> bool:
        """Whether ``other`` holds all of it."""
        return other.low <= self.low and self.high <= other.high

    def common(self, other: Interval) -> Interval:
        """What lies in both."""
        return Interval(max(self.low, other.low), min(self.high, other.high))

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high)

    def __sub__(self, other: Interval) -> Interval:
        return Interval(self.low - other.high, self.high - other.low)

    def __mul__(self, other: Interval) -> Interval:
        ends = [0 if 0 in (x, y) else x * y for x in (self.low, self.high) for y in (other.low, other.high)]
        return Interval(min(ends), max(ends))


ANY = Interval(-inf, inf)
WORD = Interval(-(1 << 63), (1 << 63) - 1)
"""What 64 bits hold."""


def point(value: int) -> Interval:
    """The interval of one integer."""
    return Interval(value, value)


def of_dtype(dtype: DType) -> Interval:
    """What a value of this element type can be."""
    match dtype.kind:
        case Kind.BOOL:
            return Interval(0, 1)
        case Kind.SIGNED | Kind.UNSIGNED:
            return Interval(*dtype.integer_range())
    return ANY


def of_extent(extent: Extent) -> Interval:
    """Bounds of an extent, for all dims in [0, 2³¹)."""
    match extent:
        case Const(value):
            return Interval(value, value)
        case Dim():
            return Interval(0, DIM_END - 1)
        case Nary(op, terms):
            folded = of_extent(terms[0])
            for term in terms[1:]:
                folded = _NARY[op](folded, of_extent(term))
            return folded
        case Quotient("floordiv", a, b):
            return _floordiv(of_extent(a), of_extent(b))
        case Quotient("ceildiv", a, b):
            return _floordiv(point(0) - of_extent(a), of_extent(b), negated=True)
        case Quotient("mod", a, b):
            return _mod(of_extent(a), of_extent(b))
    return ANY


def of_contract(contract: Contract) -> Interval:
    """Bounds of what an array with this contract holds."""
    high = of_extent(contract.bound).high
    reaches = contract.kind in (ContractKind.UP_TO, ContractKind.OFFSETS)
    return Interval(-1 if contract.optional else 0, high if reaches else high - 1)


def decided(op: BinaryOp, a: Interval, b: Interval) -> bool | None:
    """What a comparison gives for all values in the two intervals, or None if it varies."""
    match op:
        case BinaryOp.LT:
            return True if a.high < b.low else False if a.low >= b.high else None
        case BinaryOp.LE:
            return True if a.high <= b.low else False if a.low > b.high else None
        case BinaryOp.GT | BinaryOp.GE:
            return decided(BinaryOp.LT if op is BinaryOp.GT else BinaryOp.LE, b, a)
        case BinaryOp.EQ:
            if a.value is not None and a == b:
                return True
            return False if a.high < b.low or b.high < a.low else None
        case BinaryOp.NE:
            equal = decided(BinaryOp.EQ, a, b)
            return None if equal is None else not equal
    return None


# --- arithmetic


def _floordiv(a: Interval, b: Interval, *, negated: bool = False) -> Interval:
    """a // b; with ``negated``, −(a // b), which rounds −a / b up."""
    if b.low < 1:
        return ANY
    ends = [_quotient(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    return Interval(-max(ends), -min(ends)) if negated else Interval(min(ends), max(ends))


def _quotient(x: float, y: float) -> float:
    if abs(x) == inf:
        return x
    if y == inf:
        return 0 if x >= 0 else -1
    return int(x) // int(y)


def _mod(a: Interval, b: Interval) -> Interval:
    if b.low < 0:
        return ANY  # (a divisor is not 0: that was proved)
    if a.low >= 0 and a.high < b.low:
        return a
    return Interval(0, min(b.high - 1, a.high) if a.low >= 0 else b.high - 1)


def _min(a: Interval, b: Interval) -> Interval:
    return Interval(min(a.low, b.low), min(a.high, b.high))


def _max(a: Interval, b: Interval) -> Interval:
    return Interval(max(a.low, b.low), max(a.high, b.high))


def _and(a: Interval, b: Interval) -> Interval:
    """Bits of both: at most the smaller of two numbers that are not negative."""
    if a.low >= 0 and b.low >= 0:
        return Interval(0, min(a.high, b.high))
    return Interval(0, b.high) if b.low >= 0 else Interval(0, a.high) if a.low >= 0 else ANY


def _shr(a: Interval, b: Interval) -> Interval:
    return Interval(0, a.high) if a.low >= 0 else ANY


_NARY = {"add": Interval.__add__, "mul": Interval.__mul__, "min": _min, "max": _max}
_BINARY = {
    BinaryOp.ADD: Interval.__add__, BinaryOp.SUB: Interval.__sub__, BinaryOp.MUL: Interval.__mul__,
    BinaryOp.FLOORDIV: _floordiv, BinaryOp.MOD: _mod, BinaryOp.MIN: _min, BinaryOp.MAX: _max, BinaryOp.AND: _and,
    BinaryOp.SHR: _shr,
}  # fmt: skip


def of_binary(op: BinaryOp, a: Interval, b: Interval) -> Interval:
    """Bounds of an operation on integers or bools, as if no width limited it."""
    if op.is_comparison:
        known = decided(op, a, b)
        return Interval(0, 1) if known is None else point(int(known))
    if op is BinaryOp.OR and a.within(Interval(0, 1)) and b.within(Interval(0, 1)):
        return _max(a, b)
    rule = _BINARY.get(op)
    return rule(a, b) if rule is not None else ANY
