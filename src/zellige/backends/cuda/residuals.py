"""Sums that start at what they replace in memory: they start at 0 instead, and memory adds them.

``acc = h[rows, cols]``, a loop that adds products to acc, ``h[rows, cols] = acc``: as nothing else sees the tile of h, it may as well
be added where it lies, once, when the sums are done. No thread then waits for it or holds it. That changes the order of one
sum, as schedules may, and what adds there takes subnormal numbers (below 1.2e-38) for 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from zellige.ir import ops
from zellige.ir.dtypes import f32
from zellige.ir.ops import Block, Function, Op, UpdateOp, Value
from zellige.ir.types import Role, TileType
from zellige.ir.walk import blocks, definitions, operands, walk


def added_to_memory(function: Function) -> Function:
    """The function with such loads gone and such stores made into updates; others stay as they are."""
    top = function.body.ops
    loops = [op for op in walk(function.body) if blocks(op)]
    if len(loops) != 1 or not isinstance(loops[0], ops.For) or loops[0] not in top:
        return function
    found = {store: load for load, store in _residuals(function, loops[0])}
    if not found:
        return function
    zeros = {load.result: Value(load.result.type) for load in found.values()}
    made: list[Op] = []
    for op in top:
        match op:
            case ops.Load(result=result) if result in zeros:
                zero = Value(TileType(result.type.dtype))
                made += [
                    ops.Constant(span=op.span, value=0, result=zero),
                    ops.Broadcast(span=op.span, x=zero, result=zeros[result]),
                ]
            case ops.For(init=init):
                made.append(replace(op, init=tuple(zeros.get(value, value) for value in init)))
            case ops.Store() if op in found:
                made.append(
                    ops.Update(
                        span=op.span, op=UpdateOp.ADD, array=op.array, index=op.index, masks=op.masks, value=op.value
                    )
                )
            case _:
                made.append(op)
    added = {store.array for store in found}
    arrays = tuple(replace(array, role=Role.ACC) if array.name in added else array for array in function.arrays)
    return replace(function, arrays=arrays, body=Block(function.body.params, made, function.body.yields))


def _residuals(function: Function, loop: ops.For) -> Iterator[tuple[ops.Load, ops.Store]]:
    """Loads that only a loop's sums start at, and the stores of those sums to the same elements of an array that nothing else touches.

    The loop is all that the function nests."""
    everything, defined = list(walk(function.body)), definitions(function.body)
    top = function.body.ops
    before, behind = top[: top.index(loop)], top[top.index(loop) + 1 :]
    for position, (init, result) in enumerate(zip(loop.init, loop.results, strict=True)):
        load = defined.get(init)
        users = [op for op in everything if result in operands(op)]
        if not isinstance(load, ops.Load) or load not in before or load.result.type.dtype is not f32 or len(users) != 1:
            continue
        (store,) = users
        if (
            not isinstance(store, ops.Store)
            or store not in behind
            or store.value is not result
            or not _only_added_to(loop, position)
        ):
            continue
        alone = [op for op in everything if getattr(op, "array", None) == load.array] == [load, store]
        unseen = [op for op in everything if init in operands(op)] == [loop] and loop.init.count(init) == 1
        same = (store.index, store.masks) == (load.index, load.masks)
        if alone and unseen and same:
            yield load, store


def _only_added_to(loop: ops.For, position: int) -> bool:
    """Whether all that a turn does with what the loop carries there is to add a product to it."""
    carried, after = loop.body.params[1 + position], loop.body.yields[position]
    users = [op for op in walk(loop.body) if carried in operands(op) or after in operands(op)]
    if carried in loop.body.yields or loop.body.yields.count(after) != 1 or len(users) != 1:
        return False
    (dot,) = users
    return isinstance(dot, ops.Dot) and dot.acc is carried and dot.result is after and carried not in (dot.a, dot.b)
