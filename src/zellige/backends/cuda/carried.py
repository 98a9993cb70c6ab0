"""Pointers that a loop carries (``Options.carried``): computed before it, moved on by a constant in each turn.

Without, each turn computes its addresses from the loop's index. The pipeliner of Triton places that arithmetic behind the barrier
between turns; additions to carried pointers are done earlier, beside the products. At 8192³ that is 1 % of a matrix product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zellige.backends.cuda.expressions import Term
from zellige.ir import ops
from zellige.ir.ops import Op, Value
from zellige.ir.walk import operands, results
from zellige.passes.affine import affine

if TYPE_CHECKING:
    from zellige.backends.cuda.lowering import Lowering


_INDEX_ARITHMETIC = (
    ops.Constant, ops.ExtentValue, ops.ScalarValue, ops.ProgramId, ops.Iota, ops.Unary, ops.Binary, ops.Broadcast, ops.ExpandDims,
)  # fmt: skip


def carry(lowering: Lowering, loop: ops.For) -> list[tuple[str, int]]:
    """Writes the pointers of the loop's first turn, which its loads then take; their names, with the elements to the next turn."""
    made: list[tuple[str, int]] = []
    index = loop.body.params[0]
    for load in loop.body.ops:
        if not isinstance(load, ops.Load) or load.array in lowering.options.descriptors or load.result.type.rank < 2:
            continue
        step, needed = _step(lowering, loop, load), _needed(loop, load.index)
        if not step or not all(isinstance(op, _INDEX_ARITHMETIC) for op in needed):
            continue
        x, memory = lowering.x, lowering.memory
        with x.trial():
            x.define(index, Term(x.widened(loop.lower, x.is_wide(index)), x.term(loop.lower).literal))
            for op in needed:
                lowering.op(op)
            first = memory.pointer(lowering.function.array(load.array), load.index, load.result)
        name = lowering.source.name(f"{load.array}_next")
        lowering.source.assign(name, first)
        memory.carried[load] = name
        made.append((name, step))
    return made


def _step(lowering: Lowering, loop: ops.For, load: ops.Load) -> int | None:
    """Elements by which a load's addresses, all alike, move from one turn to the next; None if that is not a constant."""
    array = lowering.function.array(load.array)
    if array.dtype.is_block:
        return None
    forms, index = affine(lowering.function), loop.body.params[0]
    changing = {result for op in loop.body.ops for result in results(op)} | set(loop.body.params)
    step = 0
    for value, stride in zip(load.index, lowering.memory.strides(array), strict=True):
        form = forms.get(value)
        if form is None:
            return None
        factor = dict(form.base.terms).get(index, 0)
        others = {term for part in (form.base, *form.strides) for term, _ in part.terms}
        if others & changing - {index} or any(term is index for part in form.strides for term, _ in part.terms):
            return None
        if factor and stride.bounds.low != stride.bounds.high:
            return None
        step += factor * int(stride.bounds.low) * loop.step if factor else 0
    return step


def _needed(loop: ops.For, values: tuple[Value, ...]) -> list[Op]:
    """The operations of a loop's turn that these values come from, in order."""
    needed, found = set(values), []
    for op in reversed(loop.body.ops):
        if needed & set(results(op)):
            needed |= set(operands(op))
            found.append(op)
    return found[::-1]
