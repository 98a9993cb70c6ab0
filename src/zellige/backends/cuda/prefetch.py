"""Under programmatic dependent launch: fetches weights into the cache while earlier kernels still run.

Before a program waits for the kernels ahead of it, it asks for the first lines that its loops will read of arrays that
nothing in flight writes. Only the addresses of the first iteration are computed, one a cache line, and nothing is loaded:
a prefetch has no effect that a program could see.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from zellige.backends.cuda.expressions import Term, expand
from zellige.ir import ops
from zellige.ir.ops import Block, Op
from zellige.ir.walk import operands, results, walk
from zellige.passes.bounds import is_index
from zellige.passes.intervals import point

if TYPE_CHECKING:
    from zellige.backends.cuda.lowering import Lowering

LINE_BYTES = 128
WAITING_PROGRAMS = 2048
"""Programs that a large GPU can hold at once, and so the ones that ever wait; those after them would fetch what they are
about to load anyway."""


def prefetch(lowering: Lowering, rest: Sequence[Op], pid: str) -> None:
    """Writes prefetches for the first loads of constant arrays among ``rest``, what the program has still to do."""
    constant = lowering.options.constant
    if not any(isinstance(op, ops.Load) and op.array in constant for op in walk(Block((), list(rest)))):
        return
    with lowering.x.trial(), lowering.source.nest(f"if {pid} < {WAITING_PROGRAMS}:"):
        _visit(lowering, rest)


def _visit(lowering: Lowering, rest: Sequence[Op]) -> None:
    for op in rest:
        match op:
            case ops.Load(array=name) if name in lowering.options.constant:
                if all(map(lowering.x.is_defined, op.index)):
                    _lines(lowering, op)
            case ops.For() if lowering.bounds.of(op.lower) == point(0):
                lowering.x.define(op.body.params[0], Term("0", literal=True))
                with lowering.bounds.at_iteration(op, 0):
                    _visit(lowering, op.body.ops)
            case ops.Load() | ops.Segment() | ops.Store() | ops.Update() | ops.Guard():
                continue  # memory, which something in flight may write
            case ops.For() | ops.While() | ops.If() | ops.Sort() | ops.Offsets():
                continue
            case _:
                arithmetic = all(is_index(r) or r.type.dtype.is_bool for r in results(op))
                if arithmetic and all(map(lowering.x.is_defined, operands(op))):
                    lowering.op(op)


def _lines(lowering: Lowering, op: ops.Load) -> None:
    """One prefetch a cache line, if the last axis is consecutive lanes and no lane is masked."""
    array = lowering.function.array(op.array)
    rank = op.result.type.rank
    if array.dtype.is_block or not rank or any(not lowering.bounds.always(m) for m in op.masks):
        return
    if any(lowering.padding.is_padded(op.result, axis) for axis in range(rank)):
        return
    if not any(_depends_on_program(lowering, v) for v in op.index):
        return  # every program would ask for the same lines, and they would queue for them
    last = op.index[-1]
    iota = _iota(lowering, last)
    if iota is None or not last.type.rank or last.type.shape[-1] != op.result.type.shape[-1]:
        return
    elements = LINE_BYTES * 8 // array.dtype.bits
    shape = lowering.padding.shape(op.result)
    lines = max(shape[-1] // elements, 1)
    # A tile with fewer lanes than the block has threads is held by several threads each, and all would fetch.
    lanes = max(lines, 32 * lowering.options.num_warps // prod(shape[:-1]))
    number = lowering.source.bind(f"tl.arange(0, {lanes})", "line")
    spread = lowering.source.bind(f"{number} * {elements}", "line")
    with lowering.x.trial():
        lowering.x.define(iota.result, Term(spread))
        pointer = lowering.memory.pointer(array, op.index, None)
    fetched = expand(lowering.source.bind(f"{number} < {lines}", "fetched"), rank - 1, rank)
    lowering.source.effect(f"_prefetch({pointer}, {fetched})")


def _depends_on_program(lowering: Lowering, value: ops.Value) -> bool:
    op = lowering.bounds.definition(value)
    if isinstance(op, ops.ProgramId):
        return True
    return op is not None and any(_depends_on_program(lowering, v) for v in operands(op))


def _iota(lowering: Lowering, value: ops.Value) -> ops.Iota | None:
    """The iota behind base + iota; None if lanes are anything else."""
    match lowering.bounds.definition(value):
        case ops.Iota() as found:
            return found
        case ops.ExpandDims(x=x):
            return _iota(lowering, x)
        case ops.Binary(op=ops.BinaryOp.ADD, x=x, y=y):
            for lanes, base in ((x, y), (y, x)):
                if lowering.bounds.scalar_behind(base) is not None:
                    return _iota(lowering, lanes)
    return None
