"""Symbolic extents: integer expressions over named dims, such as ``M``, ``NB * P`` or ``ceildiv(M, 64)``.

Extents are immutable, hashable and compared by structure after light normalisation (constants folded, sums and products
flattened and ordered), so that equal spellings are usually equal objects. They denote mathematical integers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce

from zellige.diagnostics.errors import ZelligeError


@dataclass(frozen=True, slots=True)
class Extent:
    """An integer expression. Build with operators; ``//`` and ``%`` round towards minus infinity."""

    def __bool__(self) -> bool:
        """Whether it is not 0. TypeError of an extent that is known at a launch only."""
        if self.constant is None:
            raise TypeError(f"whether {self} is 0 is known at the launch only; compare it")
        return self.constant != 0

    def __add__(self, other: Extent | int) -> Extent:
        return _sum([self, as_extent(other)])

    __radd__ = __add__

    def __sub__(self, other: Extent | int) -> Extent:
        return _sum([self, _product([Const(-1), as_extent(other)])])

    def __rsub__(self, other: Extent | int) -> Extent:
        return as_extent(other) - self

    def __mul__(self, other: Extent | int) -> Extent:
        return _product([self, as_extent(other)])

    __rmul__ = __mul__

    def __truediv__(self, other: object) -> Extent:
        raise ZelligeError(
            "ZL0102",
            f"{self} / {other} is not a whole number",
            help=f"{self} // {other} rounds down, zl.ceildiv({self}, {other}) up",
        )

    def __floordiv__(self, other: Extent | int) -> Extent:
        return _divide("floordiv", self, as_extent(other))

    def __rfloordiv__(self, other: Extent | int) -> Extent:
        return as_extent(other) // self

    def __mod__(self, other: Extent | int) -> Extent:
        return _divide("mod", self, as_extent(other))

    def __rmod__(self, other: Extent | int) -> Extent:
        return as_extent(other) % self

    def dims(self) -> frozenset[str]:
        """Names of the dims that occur in this extent."""
        match self:
            case Dim(name):
                return frozenset((name,))
            case Nary(_, terms):
                return frozenset().union(*(t.dims() for t in terms))
            case Quotient(_, a, b):
                return a.dims() | b.dims()
        return frozenset()

    def evaluate(self, env: Mapping[str, int]) -> int:
        """The value of this extent when dims have the values in ``env``. KeyError if a dim is missing."""
        match self:
            case Const(value):
                return value
            case Dim(name):
                return env[name]
            case Nary(op, terms):
                return reduce(_NARY[op], (t.evaluate(env) for t in terms))
            case Quotient(op, a, b):
                return _QUOTIENT[op](a.evaluate(env), b.evaluate(env))
        raise TypeError(self)

    def substitute(self, env: Mapping[str, Extent] | Mapping[str, int]) -> Extent:
        """This extent with the dims in ``env`` replaced, by numbers or other extents, and constants folded."""
        match self:
            case Dim(name) if name in env:
                return as_extent(env[name])
            case Nary("add", terms):
                return _sum([t.substitute(env) for t in terms])
            case Nary("mul", terms):
                return _product([t.substitute(env) for t in terms])
            case Nary(op, terms):
                return _extremum(op, [t.substitute(env) for t in terms])
            case Quotient(op, a, b):
                return _divide(op, a.substitute(env), b.substitute(env))
        return self

    @property
    def constant(self) -> int | None:
        """The value if this extent is a constant, else None."""
        return self.value if isinstance(self, Const) else None


@dataclass(frozen=True, slots=True)
class Const(Extent):
    """An integer constant."""

    value: int

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, slots=True)
class Dim(Extent):
    """A named, symbolic extent: an unknown integer ≥ 0."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Nary(Extent):
    """``add``, ``mul``, ``min`` or ``max`` of two or more terms, in canonical order."""

    op: str
    terms: tuple[Extent, ...]

    def __str__(self) -> str:
        if self.op in ("min", "max"):
            return f"{self.op}({', '.join(map(str, self.terms))})"
        if self.op == "mul":
            return "(" + "*".join(map(str, self.terms)) + ")"
        first, *rest = self.terms
        return f"({first}{''.join(map(_summand, rest))})"


@dataclass(frozen=True, slots=True)
class Quotient(Extent):
    """``floordiv``, ``ceildiv`` or ``mod`` of two extents."""

    op: str
    left: Extent
    right: Extent

    def __str__(self) -> str:
        return f"{self.op}({self.left}, {self.right})"


_NARY: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "min": min,
    "max": max,
}
_QUOTIENT: dict[str, Callable[[int, int], int]] = {
    "floordiv": lambda a, b: a // b,
    "ceildiv": lambda a, b: -(-a // b),
    "mod": lambda a, b: a % b,
}


def as_extent(value: Extent | int) -> Extent:
    """``value`` as an extent. TypeError unless it is an int or already one."""
    if isinstance(value, Extent):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Const(value)
    raise TypeError(f"an extent is an int or an expression over dims, not {value!r}")


def ceildiv(a: Extent | int, b: Extent | int) -> Extent:
    """a / b rounded up."""
    return _divide("ceildiv", as_extent(a), as_extent(b))


def minimum(a: Extent | int, b: Extent | int) -> Extent:
    """The smaller of two extents."""
    return _extremum("min", [as_extent(a), as_extent(b)])


def maximum(a: Extent | int, b: Extent | int) -> Extent:
    """The larger of two extents."""
    return _extremum("max", [as_extent(a), as_extent(b)])


def opposite(term: Extent) -> Extent:
    """−1 times a summand: a constant, or a product with another constant factor."""
    if isinstance(term, Const):
        return Const(-term.value)
    factors = term.terms if isinstance(term, Nary) and term.op == "mul" else (term,)
    if isinstance(factors[0], Const):
        rest = factors[1:] if factors[0].value == -1 else (Const(-factors[0].value), *factors[1:])
        return rest[0] if len(rest) == 1 else Nary("mul", rest)
    return Nary("mul", (Const(-1), *factors))


def _summand(term: Extent) -> str:
    """A further summand of a sum, with its sign."""
    return f" - {opposite(term)}" if _is_negative(term) else f" + {term}"


def _is_negative(term: Extent) -> bool:
    """Whether a summand has a constant factor below 0."""
    factor = term.terms[0] if isinstance(term, Nary) and term.op == "mul" else term
    return isinstance(factor, Const) and factor.value < 0


def _split(term: Extent) -> tuple[int, Extent]:
    """A term as (integer factor, the rest)."""
    if isinstance(term, Const):
        return term.value, Const(1)
    if isinstance(term, Nary) and term.op == "mul" and isinstance(term.terms[0], Const):
        rest = term.terms[1:]
        return term.terms[0].value, rest[0] if len(rest) == 1 else Nary("mul", rest)
    return 1, term


def _sum(terms: list[Extent]) -> Extent:
    factors: dict[Extent, int] = {}
    for term in terms:
        for part in term.terms if isinstance(term, Nary) and term.op == "add" else (term,):
            factor, rest = _split(part)
            factors[rest] = factors.get(rest, 0) + factor
    constant = factors.pop(Const(1), 0)
    parts = sorted(
        (_product([Const(f), rest]) for rest, f in factors.items() if f), key=lambda t: (_is_negative(t), str(t))
    )
    if constant:
        parts.append(Const(constant))
    return Const(0) if not parts else parts[0] if len(parts) == 1 else Nary("add", tuple(parts))


def _product(terms: list[Extent]) -> Extent:
    constant, parts = 1, []
    for term in terms:
        for part in term.terms if isinstance(term, Nary) and term.op == "mul" else (term,):
            if isinstance(part, Const):
                constant *= part.value
            else:
                parts.append(part)
    if constant == 0 or not parts:
        return Const(constant)
    if len(parts) == 1 and isinstance(parts[0], Nary) and parts[0].op == "add" and constant != 1:
        return _sum([_product([Const(constant), t]) for t in parts[0].terms])
    parts.sort(key=str)
    if constant != 1:
        parts.insert(0, Const(constant))
    return parts[0] if len(parts) == 1 else Nary("mul", tuple(parts))


def _divide(op: str, a: Extent, b: Extent) -> Extent:
    if isinstance(b, Const):
        if b.value == 0:
            raise ZeroDivisionError(f"{op}({a}, 0)")
        if isinstance(a, Const):
            return Const(_QUOTIENT[op](a.value, b.value))
        if b.value == 1:
            return Const(0) if op == "mod" else a
    return Quotient(op, a, b)


def _extremum(op: str, terms: list[Extent]) -> Extent:
    flat: list[Extent] = []
    for term in terms:
        flat.extend(term.terms if isinstance(term, Nary) and term.op == op else (term,))
    constants = [t.value for t in flat if isinstance(t, Const)]
    rest: list[Extent] = sorted({t for t in flat if not isinstance(t, Const)}, key=str)
    if constants:
        rest.append(Const(reduce(_NARY[op], constants)))
    return rest[0] if len(rest) == 1 else Nary(op, tuple(rest))
