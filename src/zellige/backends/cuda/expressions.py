"""Values as Triton text: names, literals, widths of index arithmetic, dim expressions, lanes of an axis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from zellige.backends.cuda.operators import TRITON_DTYPE, number
from zellige.backends.cuda.padding import Padding
from zellige.backends.cuda.source import Source
from zellige.diagnostics.errors import InternalError
from zellige.ir import ops
from zellige.ir.extent import Const, Dim, Extent, Nary, Quotient
from zellige.ir.ops import Value
from zellige.passes.bounds import Bounds, is_index
from zellige.passes.intervals import Interval, of_extent


@dataclass(frozen=True, slots=True)
class Term:
    """How a value is written. A literal has no dtype of its own and takes that of the operand beside it."""

    text: str
    literal: bool = False


@dataclass(frozen=True, slots=True)
class Lanes:
    """An index split in two: ``base``, equal in all lanes, and ``offset``, which differs between them and stays small.

    Either may be absent. Wide bases cost one scalar, wide offsets cost registers in every thread.
    """

    base: tuple[tuple[str, Interval], ...]
    """Scalar terms to be added, with their bounds."""
    offset: str | None
    bounds: Interval
    """Of the offset."""


class Expressions:
    """Texts of values in one function."""

    def __init__(self, source: Source, bounds: Bounds, padding: Padding) -> None:
        self.source = source
        self.bounds = bounds
        self.padding = padding
        self._terms: dict[Value, Term] = {}
        self._width: dict[Value, bool] = {}
        """Whether an index value has 64 bits: decided once, since bounds narrow where a condition is known."""

    # --- values
    def define(self, value: Value, term: Term) -> None:
        """Says how ``value`` is written from now on."""
        self._terms[value] = term

    def bind(self, value: Value, text: str) -> None:
        """Gives a pure expression a name, which stands for ``value``."""
        self._terms[value] = Term(self.source.bind(text, value.name or "v"))

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Definitions made inside the ``with`` are forgotten at its end."""
        terms, widths = dict(self._terms), dict(self._width)
        try:
            yield
        finally:
            self._terms, self._width = terms, widths

    def known(self) -> dict[Value, Term]:
        """How every value is written now, for ``learn``."""
        return dict(self._terms)

    def learn(self, terms: dict[Value, Term]) -> None:
        """Writes these values as said."""
        self._terms |= terms

    def is_defined(self, value: Value) -> bool:
        """Whether a value has been written."""
        return value in self._terms

    def term(self, value: Value) -> Term:
        """How a value is written."""
        if value not in self._terms:
            raise InternalError(f"{value!r} is read before it is defined")
        return self._terms[value]

    def text(self, value: Value) -> str:
        """A value as an operand, possibly a literal."""
        return self.term(value).text

    def typed(self, value: Value) -> str:
        """A value as text that has a dtype: literals become scalars of it."""
        term = self.term(value)
        if not term.literal:
            return term.text
        return self.source.bind(f"tl.full((), {term.text}, {self.dtype(value)})", value.name or "c")

    def shape(self, value: Value) -> str:
        """The padded shape of a value's tile as a tuple."""
        return tuple_text(self.padding.shape(value))

    def dtype(self, value: Value) -> str:
        """The Triton dtype of a value."""
        if is_index(value):
            return "tl.int64" if self.is_wide(value) else "tl.int32"
        return TRITON_DTYPE[value.type.dtype]

    # --- widths
    def is_wide(self, value: Value) -> bool:
        """Whether an index value is computed in 64 bits."""
        if value not in self._width:
            self._width[value] = not self.bounds.of(value).fits_32
        return self._width[value]

    def widen(self, *values: Value) -> None:
        """Gives index values 64 bits; those that are written already keep the width that they have."""
        self._width.update((v, True) for v in values if v not in self._terms)

    def widen_together(self, *values: Value) -> None:
        """Gives index values that share a variable one width."""
        if any(is_index(v) and self.is_wide(v) for v in values):
            self.widen(*values)

    def widened(self, value: Value, wide: bool) -> str:
        """An index value as an operand of arithmetic in 32 or 64 bits."""
        term = self.term(value)
        if term.literal or self.is_wide(value) == wide:
            return term.text
        return f"{term.text}.to({'tl.int64' if wide else 'tl.int32'})"

    # --- dims
    def extent(self, extent: Extent) -> Term:
        """A dim expression as an integer."""
        match extent:
            case Const(value):
                return Term(str(value) if value >= 0 else f"({value})", literal=True)
            case Dim(name):
                return Term(self.source.parameter("dim", name))
            case Nary(op, terms):
                wide = not of_extent(extent).fits_32
                parts = [self._dim_operand(t, wide) for t in terms]
                if op in ("min", "max"):
                    whole = parts[0]
                    for part in parts[1:]:
                        whole = f"{'tl.minimum' if op == 'min' else 'tl.maximum'}({whole}, {part})"
                    return Term(whole)
                return Term("(" + (" + " if op == "add" else " * ").join(parts) + ")")
            case Quotient(op, left, right):
                return Term(self._quotient(op, extent, left, right))
        raise InternalError(f"extent {extent!r} has no text")

    def _quotient(self, op: str, extent: Extent, left: Extent, right: Extent) -> str:
        """A division of extents, which rounds down or up, where Triton's rounds towards zero."""
        dividend, divisor = of_extent(left), of_extent(right)
        # the number that `tl.cdiv` divides is larger than the dividend
        sum_ = dividend + divisor if op == "ceildiv" else dividend
        wide = not all(part.fits_32 for part in (sum_, dividend, divisor, of_extent(extent)))
        a, b = self._dim_operand(left, wide), self._dim_operand(right, wide)
        if dividend.low >= 0 and divisor.low >= 0:
            text = {"floordiv": f"({a} // {b})", "ceildiv": f"tl.cdiv({a}, {b})", "mod": f"({a} % {b})"}[op]
            narrow = wide and of_extent(extent).fits_32
            return f"{text}.to(tl.int32)" if narrow else text
        remainder = f"({a} % {b})"
        below, above = (f"(({remainder} != 0) & (({remainder} < 0) {sign} ({b} < 0)))" for sign in ("!=", "=="))
        match op:
            case "floordiv":
                return f"({a} // {b} - {below})"
            case "ceildiv":
                return f"({a} // {b} + {above})"
        return f"({remainder} + {below} * {b})"

    def _dim_operand(self, extent: Extent, wide: bool) -> str:
        term = self.extent(extent)
        if wide and not term.literal and of_extent(extent).fits_32:
            return f"{term.text}.to(tl.int64)"
        return term.text

    # --- lanes
    def true_lanes(self, value: Value, axis: int) -> str | None:
        """A mask, of the value's rank, of the lanes within an axis's true extent; None if all are."""
        if not self.padding.is_padded(value, axis):
            return None
        padded, true = self.padding.extent(value, axis), value.type.shape[axis].constant
        name = self.source.bind(f"tl.arange(0, {padded}) < {true}", f"within_{true}")
        return expand(name, axis, value.type.rank)

    def where_true(self, value: Value, text: str, axes: tuple[int, ...], fill: str) -> str:
        """``text`` with lanes past the true extent of ``axes`` replaced."""
        for axis in axes:
            mask = self.true_lanes(value, axis)
            if mask is not None:
                text = self.source.bind(f"tl.where({mask}, {text}, {fill})", "whole")
        return text

    def split(self, value: Value) -> Lanes:
        """An index as a base that all lanes share and an offset per lane."""

        if not value.type.rank:
            return Lanes(((self.text(value), self.bounds.of(value)),), None, Interval(0, 0))
        match self.bounds.definition(value):
            case ops.Broadcast(x=x):
                return self.split(x)
            case ops.ExpandDims(x=x, axis=axis):
                return self._mapped(
                    self.split(x), lambda text: self.source.bind(f"tl.expand_dims({text}, {axis})", "lanes")
                )
            case ops.Binary(op=ops.BinaryOp.ADD, x=x, y=y):
                return self._sum(self.split(x), self.split(y), value)
            case ops.Binary(op=ops.BinaryOp.SUB, x=x, y=y) if self.bounds.scalar_behind(y) is not None:
                left, right = self.split(x), self.split(y)
                negated = tuple(_negated(text, b) for text, b in right.base)
                return Lanes(left.base + negated, left.offset, left.bounds)
        return Lanes((), self.text(value), self.bounds.of(value))

    def _sum(self, a: Lanes, b: Lanes, value: Value) -> Lanes:
        bounds = a.bounds + b.bounds
        if a.offset is None or b.offset is None:
            return Lanes(a.base + b.base, a.offset or b.offset, bounds)
        if not bounds.fits_32 or not (a.bounds.fits_32 and b.bounds.fits_32):
            return Lanes((), self.text(value), self.bounds.of(value))
        return Lanes(a.base + b.base, self.source.bind(f"{a.offset} + {b.offset}", "lanes"), bounds)

    @staticmethod
    def _mapped(lanes: Lanes, change: Callable[[str], str]) -> Lanes:
        return lanes if lanes.offset is None else Lanes(lanes.base, change(lanes.offset), lanes.bounds)


def _negated(text: str, bounds: Interval) -> tuple[str, Interval]:
    """The negative of a scalar term and its bounds: of the least number of 32 bits it has 64."""
    whole = Interval(-bounds.high, -bounds.low)
    wide = bounds.fits_32 and not whole.fits_32
    return (f"(-{text}.to(tl.int64))" if wide else f"(-{text})"), whole


def tuple_text(items: tuple[int, ...] | list[str]) -> str:
    """A Python tuple as text."""
    return f"({', '.join(map(str, items))}{',' if len(items) == 1 else ''})"


def expand(name: str, axis: int, rank: int) -> str:
    """A one-dimensional tile placed at ``axis`` of a tile of ``rank``."""
    if rank == 1:
        return name
    return f"{name}[{', '.join(':' if a == axis else 'None' for a in range(rank))}]"


def literal_number(value: int | float | bool, of: Value) -> Term:
    """A constant as a literal of a value's dtype."""
    return Term(number(value, of.type.dtype), literal=True)
