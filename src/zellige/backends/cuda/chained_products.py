"""Functions made of chained products, as attention is: what is served by warp groups (``chained_groups.py``), and its parts.

In each turn of a loop a first product of a tile that stays (queries) and a copied one (keys) starts at 0; elementwise arithmetic and
reductions along its rows make weights of it and rescale the sums that the loop carries; a second product of the weights and another copied
tile (values) is added to these sums. A function may have several such loops, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zellige.backends.cuda.grouped_products import BEFORE, axes_of, following, is_zero, refused
from zellige.ir import ops
from zellige.ir.dtypes import f32
from zellige.ir.ops import Function, Op, Value
from zellige.ir.walk import definitions, operands, results

_ELEMENTWISE = (*BEFORE, ops.Select)


@dataclass(frozen=True, slots=True)
class Chain:
    """One loop."""

    loop: ops.For
    first: ops.Dot
    second: ops.Dot
    keys: ops.Load
    values: ops.Load
    sums: int
    """Which of the carried values the second product is added to."""
    after: frozenset[Op]
    """What follows from the carried sums: it waits for the second product of the turn before."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a function of the served form consists of."""

    chains: tuple[Chain, ...]
    queries: ops.Load
    """The tile that stays: left operand of all first products."""
    axis: int
    """Grid axis of which programs share a block: they read the same keys and values, equally many. Of several it is the fastest."""


def is_chained(function: Function) -> bool:
    """Whether a product in a loop is made of another one's result."""
    for loop in (op for op in function.body.ops if isinstance(op, ops.For)):
        dots = [op for op in loop.body.ops if isinstance(op, ops.Dot)]
        if any(other in following(loop.body.ops, [dot.result]) for dot in dots for other in dots):
            return True
    return False


def plan(function: Function) -> Plan:
    """ZelligeError ZL0909 if the function is not of the served form."""
    top = function.body.ops
    defined = definitions(function.body)
    loops = [op for op in top if isinstance(op, ops.For)]
    chains = tuple(_chain(function, defined, loop) for loop in loops)
    left = {defined.get(chain.first.a) for chain in chains}
    queries = left.pop()
    if left or not isinstance(queries, ops.Load) or queries not in top or top.index(queries) > top.index(loops[0]):
        raise refused(function, "its first products have no left operand in common that is loaded before its loops")
    stored = {op.array for op in top if isinstance(op, ops.Store)}
    for position, op in enumerate(top):
        match op:
            case ops.For():
                pass
            case ops.Store():
                if position < top.index(loops[-1]):
                    raise refused(function, "a store before the end of its loops")
            case ops.Load():
                if op is not queries and (op.result.type.rank or position > top.index(loops[0])):
                    raise refused(function, f"a tile of '{op.array}' loaded outside of its loops")
            case _ if not isinstance(op, _ELEMENTWISE):
                raise refused(function, f"{type(op).__name__} outside of its loops")
        if queries.result in operands(op):
            raise refused(function, "its queries are used by something else than the first products")
    for load in (queries, *(part for chain in chains for part in (chain.keys, chain.values))):
        if load.array in stored:
            raise refused(function, f"'{load.array}' is loaded and stored")
    if any(isinstance(op, ops.Load) and op.array in stored for op in top):
        raise refused(function, "an array is loaded and stored")
    for chain in chains:
        for op in chain.loop.body.ops:
            if op is not chain.first and queries.result in operands(op):
                raise refused(function, "its queries are used by something else than the first products")
    made = {value for loop in loops for value in loop.results}
    made |= {value for op in following(top, made) for value in results(op)}
    for chain in chains:
        loads = (chain.keys, chain.values)
        where = needed(chain.loop.body.ops, [value for load in loads for value in (*load.index, *load.masks)])
        if made & {chain.loop.lower, chain.loop.upper, *(v for op in (*loads, *where) for v in operands(op))}:
            raise refused(function, "where its operands are depends on the results of another loop")
    shared = {axis for chain in chains for axis in _shared_axes(defined, chain)}
    axes = axes_of(defined, queries) - shared
    if not axes:
        raise refused(function, "no axis of the grid moves the queries alone")
    return Plan(chains, queries, max(axes))


def _shared_axes(defined: dict[Value, Op], chain: Chain) -> set[int]:
    """The grid axes that what a block's programs share comes from."""
    parts = (chain.keys, chain.values, defined.get(chain.loop.lower), defined.get(chain.loop.upper))
    return {axis for part in parts for axis in axes_of(defined, part)}


def _chain(function: Function, defined: dict[Value, Op], loop: ops.For) -> Chain:
    """One loop of the served form."""
    body, params = loop.body.ops, loop.body.params[1:]
    dots = [op for op in body if isinstance(op, ops.Dot)]
    loads = [op for op in body if isinstance(op, ops.Load)]
    if len(dots) != 2 or len(loads) != 2 or loop.step < 1:
        raise refused(function, "a loop is not of two products and their right operands")
    first, second = dots
    keys, values = _copied(defined, first.b, loads), _copied(defined, second.b, loads)
    if keys is None or values is None or keys is values:
        raise refused(function, "a right operand of a product is not loaded as it is")
    for op in body:
        if isinstance(op, ops.Reduce):
            if op.x.type.rank != 2 or op.axis != 1 or op.x.type.dtype is not f32:
                raise refused(function, "a reduction inside its loops that is not along rows of f32")
        elif not isinstance(op, (*_ELEMENTWISE, ops.Load, ops.Transpose, ops.Dot)):
            raise refused(function, f"{type(op).__name__} inside its loops")
        elif isinstance(op, ops.Transpose) and defined.get(op.x) not in loads:
            raise refused(function, "something else than a loaded tile is transposed")
    if not is_zero(defined, first.acc) or second not in following(body, [first.result]):
        raise refused(function, "its second product is not made of a first one that starts at 0")
    types = {first.a.type.dtype, first.b.type.dtype, second.a.type.dtype, second.b.type.dtype}
    if len(types) != 1 or not all(t.is_float and t.bits == 16 for t in types):
        raise refused(function, "its products are not of one type of 16-bit numbers")
    at = [i for i, value in enumerate(loop.body.yields) if value is second.result]
    if len(at) != 1:
        raise refused(function, "its second product is not what the loop carries once")
    (sums,) = at
    after = following(body, [params[sums]]) - {second}
    tiles = {value for op in loads for value in results(op)}
    tiles |= {op.result for op in body if isinstance(op, ops.Transpose)}
    for op in body:
        late = op in after and (isinstance(op, ops.Reduce | ops.Dot) or second.a in results(op))
        early = op is not second and second.result in operands(op)
        other = not isinstance(op, ops.Dot | ops.Transpose) and tiles & set(operands(op))
        if late or early or other:
            raise refused(
                function, "its weights depend on the sums, or something else than the products on their operands"
            )
    if {value for op in after for value in results(op)} & set(loop.body.yields):
        raise refused(function, "it carries something else that is made of its sums")
    if {value for i, value in enumerate(params) if i != sums} & {value for op in after for value in operands(op)}:
        raise refused(function, "its sums are put together with something else that it carries, as it is")
    if second.acc is not params[sums] and defined.get(second.acc) not in after:
        raise refused(function, "its second product is not added to what the loop carries")
    rows = second.acc.type.shape[0]
    for i, value in enumerate(params):
        if value.type.dtype is not f32 or (i != sums and value.type.shape != (rows,)):
            raise refused(function, "it carries something else than sums and numbers of their rows, in f32")
    where = needed(body, [value for load in loads for value in (*load.index, *load.masks)])
    if any(not isinstance(op, BEFORE) for op in where) or set(params) & {v for op in where for v in operands(op)}:
        raise refused(function, "where its operands are depends on what is loaded or carried")
    return Chain(loop, first, second, keys, values, sums, after)


def _copied(defined: dict[Value, Op], value: Value, loads: Sequence[ops.Load]) -> ops.Load | None:
    """The load, one of these, that a product's right operand comes from."""
    op = defined.get(value)
    op = defined.get(op.x) if isinstance(op, ops.Transpose) else op
    return op if isinstance(op, ops.Load) and op in loads else None


def needed(body: Sequence[Op], values: Iterable[Value]) -> list[Op]:
    """The operations that some values are computed by, in order."""
    found, known = [], set(values)
    for op in reversed(body):
        if known & set(results(op)):
            found.append(op)
            known |= set(operands(op))
    return found[::-1]
