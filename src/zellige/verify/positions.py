"""Numbers that are one of a tile's elements, or its position: results of reductions, scans and sorts.

Which element it is is not followed: its position is an unknown function of the place with the axis as its range.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from zellige.ir import ops
from zellige.ir.ops import ReduceOp, Value
from zellige.verify import terms
from zellige.verify.lanes import Lanes, replaced
from zellige.verify.substitution import Placed, replacing
from zellige.verify.terms import App, Bool, Function, Int, Var, const

if TYPE_CHECKING:
    from zellige.verify.symbolic import Symbols


def reduced_at(symbols: Symbols, op: ops.Reduce, lanes: Lanes) -> Int:
    """One element of a reduced tile of integers."""
    size = symbols.extent(op.x.type.shape[op.axis])
    some = terms.lt(0, size)
    match op.op:
        case ReduceOp.ARGMAX | ReduceOp.ARGMIN:
            where = _position(symbols, op.result, lanes, const(0), size - 1, "chosen")
            return terms.ite(some, where, symbols.unknown(op.result, lanes))
        case ReduceOp.MAX | ReduceOp.MIN:
            where = _position(symbols, op.result, lanes, const(0), size - 1, "attained")
            if not lanes:
                _extreme(symbols, op)
            element = symbols.int_at(op.x, (*lanes[: op.axis], where, *lanes[op.axis :]))
            return terms.ite(some, element, symbols.unknown(op.result, lanes))
    return symbols.unknown(op.result, lanes)


def scanned_at(symbols: Symbols, op: ops.Scan, lanes: Lanes) -> Int:
    """One element of a running maximum or minimum."""
    where = _position(symbols, op.result, lanes, const(0), lanes[op.axis], "scanned")
    return symbols.int_at(op.x, replaced(lanes, op.axis, where))


def sorted_at(symbols: Symbols, op: ops.Sort, value: Value, lanes: Lanes) -> Int:
    """One element of what a sort gives: a position, or the integer there."""
    axis = len(lanes) - 1
    size = symbols.extent(op.x.type.shape[axis])
    source = _position(symbols, op.order, lanes, const(0), size - 1, "order")
    function = symbols.functions[(op.order, "order")]
    function.pair_facts = partial(permutes, size)
    function.permutes = lambda app: size
    return source if value is op.order else symbols.int_at(op.x, replaced(lanes, axis, source))


def _extreme(symbols: Symbols, op: ops.Reduce) -> None:
    """A maximum is not below the first element, nor a minimum above it."""
    function = symbols.functions[(op.result, "attained")]
    scope = symbols.scope(symbols.block_of(op.result))
    position = terms.make_var(f"{function.name}.position", "template")
    first, there = symbols.int_at(op.x, (const(0),)), symbols.int_at(op.x, (terms.of_atom(position),))
    known = terms.le(first, there) if op.op is ReduceOp.MAX else terms.le(there, first)

    def facts(app: App) -> list[Bool]:
        place = {v: a for v, a in zip((t.atom for t in scope), app.args, strict=True) if isinstance(v, Var)}
        there = Placed({**place, position: terms.of_atom(app)}, app.guard).bool(known)
        return [terms.implies(app.guard, there)]

    function.facts = facts


def _position(symbols: Symbols, value: Value, lanes: Lanes, low: Int, high: Int, purpose: str) -> Int:
    """Some position in [low, high], the same for the same place."""
    key = (value, purpose)
    arity = len(lanes)
    if key not in symbols.functions:
        # the bounds depend on the lanes only, which are the last arguments
        names = tuple(terms.make_var(f"{purpose}{len(symbols.functions)}.{i}", "template") for i in range(arity))
        template = {lane.atom: terms.of_atom(n) for lane, n in zip(lanes, names, strict=True) if lane.atom}
        swap = replacing({a: t for a, t in template.items() if isinstance(a, Var)})
        least, most = swap.int(low), swap.int(high)

        def bounds(app: App) -> tuple[Int, Int]:
            back = replacing(dict(zip(names, app.args[len(app.args) - arity :], strict=True)))
            return back.int(least), back.int(most)

        symbols.functions[key] = Function(f"{purpose}_{len(symbols.functions)}", bounds, approximate=True)
    return terms.apply(symbols.functions[key], (*symbols.scope(symbols.block_of(value)), *lanes), terms.le(low, high))


def permutes(size: Int, a: App, b: App) -> list[Bool]:
    """Two positions of one permutation along the last axis: equal only at the same place of its ``size`` places."""
    if a.args[:-1] != b.args[:-1]:
        return []
    places = (terms.between(0, app.args[-1], size - 1) for app in (a, b))
    same = terms.equal(terms.of_atom(a), terms.of_atom(b))
    return [terms.implies(terms.conjunction((*places, same)), terms.equal(a.args[-1], b.args[-1]))]
