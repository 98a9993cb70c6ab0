"""Decides which tile values get memory of their own and which are recomputed where they are used.

A value that is cheap or used once is computed in registers at its use. One is kept in a buffer when recomputing it
costs more than a store and a load, or when it must be: a load whose array is written before the value's last use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from zellige.ir import dtypes, ops
from zellige.ir.dtypes import Kind
from zellige.ir.ops import BinaryOp, Block, Function, Op, ReduceOp, UnaryOp, Value
from zellige.ir.types import Role
from zellige.ir.walk import blocks, definitions, operands, results, walk

_LOOP_TRIPS = 8.0  # assumed number of iterations of a loop
_UNARY_COST = {UnaryOp.SQRT: 3.0, UnaryOp.RSQRT: 5.0, UnaryOp.NEG: 0.5, UnaryOp.NOT: 0.5, UnaryOp.ABS: 0.5}
_SINKS = (
    ops.Store,
    ops.Update,
    ops.Guard,
    ops.Reduce,
    ops.Scan,
    ops.Sort,
    ops.Dot,
    ops.Offsets,
    ops.Segment,
    ops.For,
    ops.While,
    ops.If,
)
_LANEWISE = (ops.Unary, ops.Binary, ops.Fma, ops.Select, ops.Cast, ops.Bitcast)
_VIEWS = (ops.Broadcast, ops.ExpandDims, ops.Transpose, ops.Iota, ops.Constant)


def shape_of(value: Value) -> tuple[int, ...]:
    """The concrete shape of a specialised value."""
    shape = []
    for extent in value.type.shape:
        if extent.constant is None:
            raise ValueError(
                f"the shape of {value!r} is not known at compile time: specialise dims {sorted(extent.dims())}"
            )
        shape.append(extent.constant)
    return tuple(shape)


def size_of(value: Value) -> int:
    return math.prod(shape_of(value))


def is_unit_reshape(x: Value, result: Value) -> bool:
    """True if a reshape only inserts or drops axes of extent 1."""
    return [n for n in shape_of(x) if n != 1] == [n for n in shape_of(result) if n != 1]


def materialised_values(function: Function) -> frozenset[Value]:
    """Values that the lowering computes into a buffer where they are defined."""
    return frozenset(_needed(function) | _profitable(function))


def _needed(function: Function) -> set[Value]:
    """Values that cannot be left to their uses."""
    needed: set[Value] = set()
    for op in walk(function.body):
        match op:
            case ops.Gather(x=x):
                needed.add(x)
            case ops.Reshape(x=x, result=result) if not is_unit_reshape(x, result):
                needed.add(x)
    for block in _all_blocks(function.body):
        needed |= _hazardous_loads(block, function)
    return needed


def _all_blocks(block: Block) -> list[Block]:
    found = [block]
    for op in block.ops:
        for inner in blocks(op):
            found.extend(_all_blocks(inner))
    return found


def _writes(op: Op) -> set[str]:
    """Arrays written by an operation or inside it."""
    found = {op.array} if isinstance(op, ops.Store | ops.Update) else set()
    for block in blocks(op):
        for inner in walk(block):
            if isinstance(inner, ops.Store | ops.Update):
                found.add(inner.array)
    return found


def reads(op: Op) -> set[Value]:
    """Values that an operation or anything inside it reads."""
    found = set(operands(op))
    for block in blocks(op):
        found.update(block.yields)
        for inner in block.ops:
            found |= reads(inner)
    return found


def _hazardous_loads(block: Block, function: Function) -> set[Value]:
    """Loads of `block` whose array may be written between the load and the last place that would evaluate it."""
    hazards: set[Value] = set()
    written = set().union(*(_writes(op) for op in walk(function.body)))
    for start, load in enumerate(block.ops):
        if not isinstance(load, ops.Load) or load.array not in written:
            continue
        lanewise, derived = {load.result}, {load.result}  # values that would re-read the array when evaluated
        dirty = False
        for op in block.ops[start + 1 :]:
            read = reads(op) & derived
            if read and dirty:
                hazards.add(load.result)
                break
            if isinstance(op, _SINKS):
                if load.array in _writes(op):
                    same_lanes = (
                        isinstance(op, ops.Store)
                        and op.index == load.index
                        and not (set((*op.index, *op.masks)) & derived)
                        and op.value.type.shape == load.result.type.shape
                        and (op.value in lanewise or op.value not in derived)
                    )
                    if read and not same_lanes:
                        hazards.add(load.result)
                        break
                    dirty = True
            elif read:
                derived.update(results(op))
                if isinstance(op, _LANEWISE):
                    lanewise.update(results(op))
        if dirty and set(block.yields) & derived:
            hazards.add(load.result)
    return hazards


def _profitable(function: Function) -> set[Value]:
    """Values whose recomputation would cost more than keeping them."""
    defined = definitions(function.body)
    costs: dict[Value, float] = {}

    def cost(value: Value) -> float:
        if value not in costs:
            costs[value] = 0.0 if size_of(value) == 1 else _cost(defined.get(value), cost)
        return costs[value]

    chosen: set[Value] = set()
    evaluations: dict[Value, float] = {}
    home: dict[Value, Block] = {}

    def place(block: Block) -> None:
        for op in block.ops:
            for value in results(op):
                home[value] = block
            for inner in blocks(op):
                place(inner)

    place(function.body)

    def visit(block: Block, enclosing: tuple[Block, ...]) -> None:
        chain = (*enclosing, block)
        for value in block.yields:
            use(value, 1.0, chain)
        for op in reversed(block.ops):
            for inner in reversed(blocks(op)):
                visit(inner, chain)
            own = 1.0
            produced = results(op)
            if not isinstance(op, _SINKS) and produced:
                value = produced[0]
                times = evaluations.get(value, 0.0)
                if isinstance(op, ops.Load) and op.result.type.dtype.is_block:
                    own = times
                elif worth_keeping(op, value, times):
                    chosen.add(value)
                else:
                    own = times
            memory = set((*op.index, *op.masks)) if isinstance(op, ops.Load | ops.Store | ops.Update) else set()
            for operand in operands(op):
                if isinstance(op, ops.Broadcast) and size_of(op.x) > 1:
                    use(operand, own * size_of(op.result) / size_of(op.x), chain)
                else:
                    use(operand, own if operand not in memory else min(own, 2.0), chain)

    def use(value: Value, times: float, chain: tuple[Block, ...]) -> None:
        where = home.get(value)
        deeper = len(chain) - 1 - chain.index(where) if where in chain else 0
        evaluations[value] = evaluations.get(value, 0.0) + times * _LOOP_TRIPS**deeper

    def worth_keeping(op: Op, value: Value, times: float) -> bool:
        if size_of(value) == 1 or isinstance(op, _VIEWS) or value.type.dtype.is_block:
            return False
        if isinstance(op, ops.Reshape) and is_unit_reshape(op.x, op.result):
            return False
        once = cost(value)
        if value.type.dtype.kind is Kind.INDEX or value.type.dtype.is_bool:
            return once >= 5 and (times - 1) * once > 8
        return (times - 1) * (once - 1) > 3

    visit(function.body, ())
    return chosen


def _cost(op: Op | None, cost: Callable[[Value], float]) -> float:
    """Instructions per vector to compute a value from scratch."""
    match op:
        case ops.Unary(op=kind, x=x):
            own = _UNARY_COST.get(kind, 12.0 if kind not in (UnaryOp.FLOOR, UnaryOp.CEIL, UnaryOp.ROUND) else 1.0)
            return float(own + cost(x))
        case ops.Binary(op=kind, x=x, y=y):
            own = 3.0 if kind is BinaryOp.DIV else 1.0
            if x.type.dtype.kind is Kind.INDEX:
                own = 4.0 if kind in (BinaryOp.FLOORDIV, BinaryOp.MOD) else 0.25
            return float(own + cost(x) + cost(y))
        case ops.Fma(x=x, y=y, z=z):
            return float(1.0 + cost(x) + cost(y) + cost(z))
        case ops.Select(condition=condition, x=x, y=y):
            return float(1.0 + cost(condition) + cost(x) + cost(y))
        case ops.Cast(x=x, result=result):
            if x.type.dtype.is_block:
                return 10.0
            return float(cost(x) + (0.0 if result.type.dtype.kind is Kind.INDEX else 1.0))
        case ops.Bitcast(x=x) | ops.Broadcast(x=x) | ops.ExpandDims(x=x) | ops.Transpose(x=x) | ops.Reshape(x=x):
            return float(cost(x))
        case ops.Random():
            return 60.0
        case ops.Gather(positions=positions):
            return float(4.0 + cost(positions))
        case ops.Load(index=index, masks=masks):
            return float(1.0 + sum(cost(v) for v in (*index, *masks)))
        case ops.Iota() | ops.Constant() | ops.ExtentValue():
            return 0.0
    return 1.0


LONG_STORE = 1024
"""Elements from which on asking for memory beforehand is worth an instruction a line."""


@dataclass(frozen=True, slots=True)
class Share:
    """Eighths of a row, from the first on."""

    first: int
    eighths: int


WHOLE = Share(0, 8)
REDUCED, KEPT, STORED = Share(0, 1), Share(1, 4), Share(5, 3)
"""What is asked for of the next program's row while this one's is reduced, computed into scratch, and stored from there.

Reducing a row that is in the second cache must not wait behind requests to memory, and there is room for 48; stores past the
caches leave little. Soft-max on two threads: all while computing 0.87 of a copy, half and half while storing 0.90, so 0.93."""


def stores_to_come(defined: Mapping[Value, Op], block: Block, kept: frozenset[Value]) -> dict[Value, ops.Store]:
    """For kept values of a block, a later store of the same shape whose place is known by then: made of grid and extents."""
    found: dict[Value, ops.Store] = {}
    for op in block.ops:
        if not isinstance(op, ops.Store) or size_of(op.value) < LONG_STORE or not _placed(defined, op.index):
            continue
        for earlier in block.ops[: block.ops.index(op)]:
            value = next(iter(results(earlier)), None)
            if value in kept and value is not None and shape_of(value) == shape_of(op.value):
                found.setdefault(value, op)
    return found


def reduced_before(block: Block, value: Value) -> Value | None:
    """The first reduction of a tile of the same shape before a value of a block: it reads the same rows for the first time."""
    for op in block.ops:
        if value in results(op):
            return None
        if isinstance(op, ops.Reduce) and shape_of(op.x) == shape_of(value):
            return op.result
    return None


def _placed(defined: Mapping[Value, Op], index: tuple[Value, ...]) -> bool:
    """Whether nothing but the grid, extents and constants goes into an index."""
    pure = (
        ops.ProgramId, ops.Iota, ops.Constant, ops.ExtentValue, ops.Binary, ops.Broadcast, ops.ExpandDims
    )  # fmt: skip
    todo = list(index)
    while todo:
        op = defined.get(todo.pop())
        if not isinstance(op, pure):
            return False
        todo.extend(operands(op))
    return True


def shared_axes(function: Function, defined: Mapping[Value, Op], value: Value) -> int | None:
    """How many leading grid axes choose an operand, if not all of them do; None if something else does, too.

    Consecutive programs whose leading coordinates are equal then have the same operand: it is made of arrays that nobody
    writes, dims, scalars and these coordinates alone."""
    first = 0
    todo, seen = [value], set[Value]()
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        match defined.get(current):
            case ops.ProgramId(axis=axis):
                first = max(first, axis + 1)
            case ops.Load(array=array) as op:
                if any(a.name == array and a.role is not Role.IN for a in function.arrays):
                    return None
                todo.extend(operands(op))
            case (
                ops.Constant() | ops.ExtentValue() | ops.ScalarValue() | ops.Iota() | ops.Unary() | ops.Binary()
                | ops.Fma() | ops.Select() | ops.Cast() | ops.Bitcast() | ops.Broadcast() | ops.ExpandDims() | ops.Transpose()
                | ops.Reshape()
            ) as op:  # fmt: skip
                todo.extend(operands(op))
            case _:
                return None
    return first if first < len(function.grid) else None


def twins(defined: Mapping[Value, Op], load: ops.Load) -> list[ops.Load]:
    """Later loads of other arrays at the same places, if those were looked up in memory: the values that belong to keys.

    The processor does not foresee such places, so they are asked for when the first array is read."""
    if not any(_looked_up(defined, index) for index in load.index):
        return []
    found: list[ops.Load] = []
    for op in defined.values():
        if op is load:
            found = []  # not those before
        elif (
            isinstance(op, ops.Load)
            and op.array not in (load.array, *(other.array for other in found))
            and len(op.index) == len(load.index)
            and op.result.type == load.result.type
            and all(_alike(defined, a, b) for a, b in zip(op.index, load.index, strict=True))
        ):
            found.append(op)
    return found


def _looked_up(defined: Mapping[Value, Op], index: Value) -> bool:
    """Whether an index was read from memory, as it is."""
    op = defined.get(_unspread(defined, index))
    return isinstance(op, ops.Load)


def _alike(defined: Mapping[Value, Op], a: Value, b: Value) -> bool:
    """Whether two index values are the same one, or made alike from positions of a tile."""
    if a is b:
        return True
    x, y = defined.get(a), defined.get(b)
    match x, y:
        case ops.Iota(), ops.Iota():
            return a.type == b.type
        case (ops.Broadcast(), ops.Broadcast()) | (ops.ExpandDims(), ops.ExpandDims()):
            return a.type == b.type and _alike(defined, x.x, y.x)  # type: ignore[union-attr]
    return False


def product_with_vector(defined: Mapping[Value, Op], op: ops.Reduce) -> tuple[ops.Load, Value] | None:
    """Block-quantised rows and the f32 vector that each of them is multiplied with, where a reduction sums up such products.

    The rows lie along the last axis from its start on, one after the other along the axis before; no element is masked alone."""
    shape = shape_of(op.x)
    product = defined.get(op.x)
    if op.op is not ReduceOp.SUM or op.axis != len(shape) - 1 or len(shape) < 2 or shape[-2] != math.prod(shape[:-1]):
        return None
    if not isinstance(product, ops.Binary) or product.op is not BinaryOp.MUL or op.x.type.dtype is not dtypes.f32:
        return None
    for weights, other in ((product.x, product.y), (product.y, product.x)):
        cast, vector = defined.get(weights), _unspread(defined, other)
        load = defined.get(cast.x) if isinstance(cast, ops.Cast) else None
        if not isinstance(load, ops.Load) or not load.result.type.dtype.is_block or load.pad != 0:
            continue
        *outer, last = load.index
        along = defined.get(_unspread(defined, last))
        if (
            shape_of(load.result) == shape
            and size_of(vector) == shape[-1] == max(shape_of(vector), default=0)
            and isinstance(along, ops.Iota)
            and shape_of(along.result) == shape[-1:]
            and all(value.type.rank == 0 or shape_of(value)[-1] == 1 for value in (*outer, *load.masks))
        ):
            return load, vector
    return None


def _unspread(defined: Mapping[Value, Op], value: Value) -> Value:
    """What is repeated, or given further axes, to make a value."""
    op = defined.get(value)
    while isinstance(op, ops.Broadcast | ops.ExpandDims):
        value = op.x
        op = defined.get(value)
    return value


def shares_operands(function: Function) -> bool:
    """Whether consecutive programs may share an operand of a product that was prepared for one of them."""
    defined = definitions(function.body)
    operands_: list[Value] = []
    for op in walk(function.body):
        if isinstance(op, ops.Dot):
            operands_ += [op.a, op.b]
        elif isinstance(op, ops.Reduce):
            found = product_with_vector(defined, op)
            operands_ += [found[1]] if found is not None else []
    return any(shared_axes(function, defined, x) is not None for x in operands_)
