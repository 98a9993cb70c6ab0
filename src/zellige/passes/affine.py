"""How an index varies over the lanes of its tile: base + Σ stride·lane, if it does so at all.

Backends read from it whether an access is contiguous, how it is aligned, and where it begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from zellige.ir import dtypes, ops
from zellige.ir.extent import Const
from zellige.ir.ops import BinaryOp, Block, Function, UnaryOp, Value
from zellige.ir.walk import blocks, results
from zellige.passes.bounds import bounds_of_values
from zellige.passes.intervals import Interval


@dataclass(frozen=True, slots=True)
class Linear:
    """constant + Σ coefficient·scalar, over index scalars of the function."""

    constant: int = 0
    terms: tuple[tuple[Value, int], ...] = ()

    def plus(self, other: Linear, factor: int = 1) -> Linear:
        """This + factor·other."""
        coefficients = dict(self.terms)
        for value, coefficient in other.terms:
            coefficients[value] = coefficients.get(value, 0) + factor * coefficient
        kept = tuple(sorted(((v, c) for v, c in coefficients.items() if c), key=lambda t: t[0].id))
        return Linear(self.constant + factor * other.constant, kept)

    def times(self, factor: int) -> Linear:
        """This, multiplied."""
        return Linear().plus(self, factor)

    @property
    def value(self) -> int | None:
        """The number it is, if it has no terms."""
        return None if self.terms else self.constant

    @property
    def divisor(self) -> int:
        """The greatest number that surely divides it; 0 stands for every number."""
        return gcd(self.constant, *(c for _, c in self.terms))


@dataclass(frozen=True, slots=True)
class Affine:
    """An index tile whose lane (l₀, …) holds base + Σ strides[a]·lₐ. A scalar has no strides."""

    base: Linear
    strides: tuple[Linear, ...] = ()

    @property
    def alignment(self) -> int:
        """The greatest number that surely divides the value of lane 0; 0 stands for every number."""
        return self.base.divisor


def affine(function: Function) -> dict[Value, Affine]:
    """The affine index values of a function. A scalar that is no sum of others stands for itself."""
    analysis = _Analysis(bounds_of_values(function))
    analysis.block(function.body)
    return analysis.known


class _Analysis:
    """One walk in program order."""

    def __init__(self, bounds: dict[Value, Interval]) -> None:
        self.bounds = bounds
        self.known: dict[Value, Affine] = {}

    def block(self, block: Block) -> None:
        for param in block.params:
            self.opaque(param)
        for op in block.ops:
            for inner in blocks(op):
                self.block(inner)
            for result in results(op):
                if result.type.dtype is dtypes.index:
                    form = self.transfer(op, result)
                    if form is not None:
                        self.known[result] = form
                    else:
                        self.opaque(result)

    def opaque(self, value: Value) -> None:
        """A scalar of which nothing more is known stands for itself."""
        if value.type.dtype is dtypes.index and value.type.rank == 0:
            self.known[value] = Affine(Linear(0, ((value, 1),)))

    def transfer(self, op: ops.Op, result: Value) -> Affine | None:
        """The affine form of a result, or None."""
        match op:
            case ops.Constant(value=value):
                return Affine(Linear(int(value)))
            case ops.ExtentValue(extent=Const(value)):
                return Affine(Linear(value))
            case ops.Iota():
                return Affine(Linear(), (Linear(1),))
            case ops.Unary(op=UnaryOp.NEG, x=x) if x in self.known:
                form = self.known[x]
                return Affine(form.base.times(-1), tuple(s.times(-1) for s in form.strides))
            case ops.Binary(op=operator, x=x, y=y) if x in self.known and y in self.known:
                return self.binary(operator, x, y)
            case ops.Broadcast(x=x) if x in self.known:
                return self.broadcast(self.known[x], x, result)
            case ops.ExpandDims(x=x, axis=axis) if x in self.known:
                form = self.known[x]
                return Affine(form.base, (*form.strides[:axis], Linear(), *form.strides[axis:]))
            case ops.Transpose(x=x, permutation=permutation) if x in self.known:
                form = self.known[x]
                return Affine(form.base, tuple(form.strides[p] for p in permutation))
            case ops.Reshape(x=x) if x in self.known:
                return self.reshape(self.known[x], x, result)
        return None

    def broadcast(self, form: Affine, x: Value, result: Value) -> Affine:
        if not form.strides:
            return Affine(form.base, (Linear(),) * result.type.rank)
        pairs = zip(form.strides, x.type.shape, result.type.shape, strict=True)
        return Affine(form.base, tuple(s if before == after else Linear() for s, before, after in pairs))

    def reshape(self, form: Affine, x: Value, result: Value) -> Affine | None:
        """Reshapes that only drop or insert axes of extent 1."""
        one = Const(1)
        kept = [(s, e) for s, e in zip(form.strides, x.type.shape, strict=True) if e != one]
        if [e for _, e in kept] != [e for e in result.type.shape if e != one]:
            return None
        strides = iter([s for s, _ in kept])
        return Affine(form.base, tuple(Linear() if e == one else next(strides) for e in result.type.shape))

    def binary(self, op: BinaryOp, x: Value, y: Value) -> Affine | None:
        a, b = self.known[x], self.known[y]
        match op:
            case BinaryOp.ADD | BinaryOp.SUB:
                factor = 1 if op is BinaryOp.ADD else -1
                strides = tuple(s.plus(t, factor) for s, t in zip(a.strides, b.strides, strict=True))
                return Affine(a.base.plus(b.base, factor), strides)
            case BinaryOp.MUL:
                return _product(a, b) or _product(b, a)
            case BinaryOp.FLOORDIV | BinaryOp.MOD:
                divisor = b.base.value
                if divisor is None or divisor <= 0 or any(s.value != 0 for s in b.strides):
                    return None
                return self.divided(op, a, x, divisor)
        return None

    def divided(self, op: BinaryOp, form: Affine, x: Value, divisor: int) -> Affine | None:
        """a // d and a % d where a = d·q + r and r is known to stay in [0, d)."""
        if any(s.value is None for s in form.strides):
            return None
        whole = all(s.constant % divisor == 0 for s in form.strides)
        rest = Linear(form.base.constant % divisor, tuple((v, c) for v, c in form.base.terms if c % divisor))
        quotient = form.base.plus(rest, -1)
        low: float = rest.constant
        high: float = rest.constant
        for value, coefficient in rest.terms:
            bounds = self.bounds.get(value, Interval(float("-inf"), float("inf")))
            ends = sorted((bounds.low * coefficient, bounds.high * coefficient))
            low, high = low + ends[0], high + ends[1]
        moving = tuple(s for s in form.strides if s.constant % divisor)
        if not whole:
            for stride, extent in zip(form.strides, x.type.shape, strict=True):
                if stride in moving:
                    if extent.constant is None:
                        return None
                    reach = stride.constant * max(extent.constant - 1, 0)
                    low, high = low + min(reach, 0), high + max(reach, 0)
        if not 0 <= low <= high < divisor:
            return None
        if op is BinaryOp.MOD:
            return Affine(rest, tuple(s if s.constant % divisor else Linear() for s in form.strides))
        exact = Linear(quotient.constant // divisor, tuple((v, c // divisor) for v, c in quotient.terms))
        return Affine(
            exact, tuple(Linear(s.constant // divisor) if s.constant % divisor == 0 else Linear() for s in form.strides)
        )


def _product(a: Affine, b: Affine) -> Affine | None:
    """a·b where b is one number for all lanes and the product is linear."""
    if any(s.value != 0 for s in b.strides):
        return None
    factor = b.base.value
    if factor is not None:
        return Affine(a.base.times(factor), tuple(s.times(factor) for s in a.strides))
    constants = [part.value for part in (a.base, *a.strides)]
    if any(c is None for c in constants):
        return None
    base, *strides = (b.base.times(c) for c in constants if c is not None)
    return Affine(base, tuple(strides))
