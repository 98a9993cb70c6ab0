"""What is known of ``Segment`` operations: which segment of an ``Offsets`` array a position, or a tile's number, lies in.

start(s) is array[s], or with a tile array[s] // tile + s. Since start(0) = 0, start never decreases and start(S) is the end,
a position in [0, end) lies in exactly one segment s that is not empty: start(s) ≤ position < start(s + 1). The facts say
this of the segment that the operation gives; that no other has the property follows from the array's own facts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zellige.ir import ops
from zellige.ir.types import ArrayParam, ContractKind
from zellige.verify import terms
from zellige.verify.contracts import array_function
from zellige.verify.substitution import Placed, atoms_of
from zellige.verify.terms import App, Bool, Function, Int, Var, const, of_atom

if TYPE_CHECKING:
    from zellige.verify.lanes import Lanes
    from zellige.verify.symbolic import Symbols


def segment_at(symbols: Symbols, op: ops.Segment, position: Int) -> Int:
    """The segment that a position lies in; unknown, between 0 and S − 1, where the position lies in none."""
    param = symbols.function.array(op.array)
    function = segment_function(symbols, param, op.tile)
    last = end(symbols, param, op.tile) - 1
    inside = terms.between(0, position, last)
    if symbols.ranges.nonneg(position) and symbols.ranges.nonneg(last - position):
        inside = terms.true()
    somewhere = terms.apply(_anywhere(symbols, function, param), (position,))
    reached = symbols.path(symbols.block_of(op.result))
    return terms.ite(inside, terms.apply(function, (position,), terms.conjunction((reached, inside))), somewhere)


def offset_at(symbols: Symbols, op: ops.Offsets, lanes: Lanes) -> Int:
    """An element of a saturated running sum: from 0 to its total, never decreasing."""
    key = (op.result, "offset")
    scope = symbols.scope(symbols.block_of(op.result))
    if key not in symbols.functions:
        total = terms.maximum(symbols.int_at(op.total, ()), const(0))
        last = symbols.extent(op.result.type.shape[0]) - 1

        def facts(app: App) -> list[Bool]:
            place, value = app.args[-1], of_atom(app)
            here = {v: a for v, a in zip((t.atom for t in scope), app.args, strict=False) if isinstance(v, Var)}
            sum_ = Placed(here, app.guard).int(total)
            first = terms.ite(terms.equal(last, 0), sum_, const(0))
            known = (
                terms.implies(terms.equal(place, 0), terms.equal(value, first)),
                terms.le(0, value),
                terms.le(value, sum_),
                terms.implies(terms.equal(place, last), terms.equal(value, sum_)),
            )
            return [terms.implies(app.guard, fact) for fact in known]

        def ordered(a: App, b: App) -> list[Bool]:
            same = terms.conjunction(terms.equal(x, y) for x, y in zip(a.args[:-1], b.args[:-1], strict=True))
            i, j, x, y = a.args[-1], b.args[-1], of_atom(a), of_atom(b)
            return [
                terms.implies(terms.conjunction((same, terms.le(i, j))), terms.le(x, y)),
                terms.implies(terms.conjunction((same, terms.le(j, i))), terms.le(y, x)),
            ]

        symbols.functions[key] = Function(
            f"offset_{len(symbols.functions)}", _unbounded, facts, ordered, approximate=True
        )
    return terms.apply(symbols.functions[key], (*scope, *lanes))


def _unbounded(app: App) -> tuple[Int | None, Int | None]:
    return const(0), None


def segment_function(symbols: Symbols, param: ArrayParam, tile: int | None) -> Function:
    """The function from positions to segments of an array. Guards of its applications: the position lies in some segment."""
    key = (param.name, tile)
    known = symbols.segments.get(key)
    if known is None:
        array = symbols.arrays.setdefault(param.name, array_function(param, symbols.extent))
        count = symbols.extent(param.shape[0]) - 1

        def start(segment: Int, guard: Bool) -> Int:
            offset = terms.apply(array, (segment,), guard)
            return offset if tile is None else terms.div(offset, const(tile)) + segment

        def facts(app: App) -> list[Bool]:
            segment, (position,) = of_atom(app), app.args
            around = terms.between(start(segment, app.guard), position, start(segment + 1, app.guard) - 1)
            return [terms.implies(app.guard, around)]

        name = f"segment_{len(symbols.segments)}_{param.name}"
        known = symbols.segments[key] = Function(name, lambda app: (const(0), count - 1), facts, shown="")
    return known


def _anywhere(symbols: Symbols, function: Function, param: ArrayParam) -> Function:
    """Of a position in no segment: any segment, 0 if there is none."""
    known = symbols.inverses.get(function)
    if known is None:
        last = terms.maximum(symbols.extent(param.shape[0]) - 2, const(0))
        known = Function(f"{function.name}_outside", lambda app: (const(0), last), approximate=True)
        symbols.inverses[function] = known
    return known


def end(symbols: Symbols, param: ArrayParam, tile: int | None) -> Int:
    """One past the last position that lies in a segment: T, or the number of tiles' numbers."""
    assert param.contract is not None
    total = symbols.extent(param.contract.bound)
    return total if tile is None else terms.div(total, const(tile)) + symbols.extent(param.shape[0]) - 1


def cut(symbols: Symbols, expression: Int) -> tuple[Function, Int, Int] | None:
    """Of an index expression that starts at a segment of an ``Offsets`` array: the function from elements to segments, the
    segment as the expression has it, and how many elements there are."""
    for atom in atoms_of(expression, guards=False):
        if isinstance(atom, App) and len(atom.args) == 1:
            param = next((p for p in symbols.function.arrays if symbols.arrays.get(p.name) is atom.function), None)
            if param and param.contract and param.contract.kind is ContractKind.OFFSETS:
                return segment_function(symbols, param, None), atom.args[0], end(symbols, param, None)
    return None
