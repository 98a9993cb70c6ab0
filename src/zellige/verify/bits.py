"""What is known of ``&``, ``|`` and ``^``: functions of their operands, bounded where those are not negative.

For x, y ≥ 0: max(x, y) ≤ x | y ≤ x + y; 0 ≤ x ^ y ≤ x + y; and where both are below 2ᵏ, so are both results. For x ≥ 0, whatever y
is: 0 ≤ x & y ≤ x. x ^ y = x′ ^ y only if x = x′. All of it of operands that the type holds: a term that stands for nothing that is
computed may be larger, and would have bits beyond the type's.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from zellige.ir.dtypes import DType
from zellige.ir.ops import BinaryOp
from zellige.verify import terms
from zellige.verify.contracts import storage_range
from zellige.verify.terms import App, Bool, Function, Int, const, of_atom

if TYPE_CHECKING:
    from zellige.verify.symbolic import Symbols


def combined(symbols: Symbols, op: BinaryOp, dtype: DType, x: Int, y: Int) -> Int:
    """The bits of two integers of a type combined by AND, OR or XOR: an integer of that type."""
    function = symbols.bitwise.get((op, dtype))
    if function is None:
        low, high = storage_range(dtype)
        facts = {BinaryOp.AND: _of_and, BinaryOp.OR: _of_or, BinaryOp.XOR: _of_xor}[op]

        def known(app: App) -> list[Bool]:
            a, b = app.args
            most = max(symbols.ranges.interval(a)[1], symbols.ranges.interval(b)[1])
            below = [] if most == inf or most < 0 else [terms.le(of_atom(app), (1 << int(most).bit_length()) - 1)]
            both = terms.conjunction((terms.le(0, a), terms.le(0, b)))
            of_all = [*facts(a, b, of_atom(app)), *(terms.implies(both, fact) for fact in below)]
            fit = terms.conjunction((terms.le(a, high), terms.le(b, high)))  # where nothing runs, they may not
            return [terms.implies(fit, fact) for fact in of_all]

        function = symbols.bitwise[op, dtype] = Function(
            f"{op.value}_{dtype}", lambda app: (const(low), const(high)), known, _invertible if op is BinaryOp.XOR else None,
            approximate=True,
        )  # fmt: skip
    return terms.apply(function, (x, y))


def _of_and(x: Int, y: Int, both: Int) -> list[Bool]:
    return [terms.implies(terms.le(0, a), terms.between(0, both, a)) for a in (x, y)]


def _of_or(x: Int, y: Int, either: Int) -> list[Bool]:
    positive = terms.conjunction((terms.le(0, x), terms.le(0, y)))
    return [
        terms.implies(positive, fact) for fact in (terms.le(x, either), terms.le(y, either), terms.le(either, x + y))
    ]


def _of_xor(x: Int, y: Int, different: Int) -> list[Bool]:
    positive = terms.conjunction((terms.le(0, x), terms.le(0, y)))
    return [terms.implies(positive, terms.between(0, different, x + y))]


def _invertible(a: App, b: App) -> list[Bool]:
    (x, y), (v, w) = a.args, b.args
    same = terms.equal(of_atom(a), of_atom(b))
    return [
        terms.implies(terms.conjunction((same, terms.equal(y, w))), terms.equal(x, v)),
        terms.implies(terms.conjunction((same, terms.equal(x, v))), terms.equal(y, w)),
    ]
