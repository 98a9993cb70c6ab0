"""Sums of integers along an axis of a tile: a running sum is an unknown function of how far it has got, with bounds.

If every element lies between low and high, S(i) = x(0) + … + x(i) grows by x(i) from one place to the next, and by low to high
at each place between: for i < j, S(j) − S(i) − x(j) lies between low·(j − i − 1) and high·(j − i − 1). So the running sum of a
mask never decreases and grows where the mask is true, which makes S(i) − 1 a place of its own for each such lane, at most i. A
sum of the whole axis is S at its end.

Only sums that cannot wrap are followed: of indices it is an obligation (``overflow.py``), of other integers it is seen by
their bounds.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from zellige.ir import ops
from zellige.ir.dtypes import index
from zellige.ir.ops import Value
from zellige.verify import terms
from zellige.verify.lanes import Lanes
from zellige.verify.substitution import Placed
from zellige.verify.terms import App, Bool, Function, Int, Var, const, of_atom

if TYPE_CHECKING:
    from zellige.verify.symbolic import Symbols


def scanned_at(symbols: Symbols, op: ops.Scan, lanes: Lanes) -> Int:
    """One element of a running sum."""
    return _running(symbols, op.x, op.axis, lanes) or symbols.unknown(op.result, lanes)


def total_at(symbols: Symbols, op: ops.Reduce, lanes: Lanes) -> Int:
    """A sum along an axis: the running sum at its end, 0 if it has none."""
    size = symbols.extent(op.x.type.shape[op.axis])
    sum_ = _running(symbols, op.x, op.axis, (*lanes[: op.axis], size - 1, *lanes[op.axis :]))
    if sum_ is None:
        return symbols.unknown(op.result, lanes)
    return terms.ite(terms.lt(0, size), sum_, const(0))


def _running(symbols: Symbols, x: Value, axis: int, lanes: Lanes) -> Int | None:
    """The sum of the elements up to a place; None if it is not followed."""
    key = (x, f"sum{axis}")
    if key not in symbols.functions:
        limits = _limits(symbols, x, axis)
        if limits is None:
            return None
        symbols.functions[key] = _function(symbols, x, axis, *limits)
    place = (*symbols.scope(symbols.block_of(x)), *lanes)
    return terms.apply(symbols.functions[key], place, symbols.reached(x, lanes))


def _limits(symbols: Symbols, x: Value, axis: int) -> tuple[int, int] | None:
    """Numbers that every element lies between, if there are any, and no sum along the axis wraps."""
    low, high = symbols.ranges.interval(symbols.int_at(x, symbols.lanes(x.type.shape, ".summed")))
    most = symbols.ranges.interval(symbols.extent(x.type.shape[axis]))[1]
    if -inf in (low, high) or inf in (low, high, most):
        return None
    if x.type.dtype is not index:
        least, largest = x.type.dtype.integer_range()
        if min(low, 0) * most < least or max(high, 0) * most > largest:
            return None
    return int(low), int(high)


def _function(symbols: Symbols, x: Value, axis: int, low: int, high: int) -> Function:
    scope, lanes = symbols.scope(symbols.block_of(x)), symbols.lanes(x.type.shape, ".summed")
    element, parameters = symbols.int_at(x, lanes), tuple(t.atom for t in (*scope, *lanes))
    at = len(scope) + axis

    def here(app: App) -> Int:
        """The element at the place that a sum has got to."""
        place = {v: a for v, a in zip(parameters, app.args, strict=True) if isinstance(v, Var)}
        return Placed(place, app.guard).int(element)

    def bounds(app: App) -> tuple[Int, Int]:
        count = app.args[at] + 1
        return count * low, count * high

    def facts(app: App) -> list[Bool]:
        before, count = of_atom(app) - here(app), app.args[at]
        return [terms.implies(app.guard, terms.between(count * low, before, count * high))]

    def growth(a: App, b: App) -> list[Bool]:
        others = [(y, z) for k, (y, z) in enumerate(zip(a.args, b.args, strict=True)) if k != at]
        same = terms.conjunction((a.guard, b.guard, *(terms.equal(y, z) for y, z in others)))
        known = []
        for one, two in ((a, b), (b, a)):
            count = two.args[at] - one.args[at] - 1
            between = of_atom(two) - of_atom(one) - here(two)
            known.append(
                terms.implies(
                    terms.conjunction((same, terms.le(0, count))), terms.between(count * low, between, count * high)
                )
            )
        return known

    return Function(f"sum_{len(symbols.functions)}", bounds, facts, growth, approximate=True)
