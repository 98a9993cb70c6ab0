"""How many elements of each array a launch touches: an estimate, for choosing between ways to compute the same."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from zellige.ir import ops
from zellige.ir.ops import Block, Function, Op, Value
from zellige.ir.walk import blocks, definitions

UNKNOWN_TRIPS = 8
"""Iterations of a loop whose bounds are known only when it runs."""


def accesses(function: Function, dims: Mapping[str, int]) -> dict[str, int]:
    """Elements that all programs load, store and update, by array; each access counts, masked lanes too."""
    found: dict[str, int] = {}
    defined = definitions(function.body)

    def visit(block: Block, times: int) -> None:
        for op in block.ops:
            if isinstance(op, ops.Load | ops.Store | ops.Update):
                lanes = op.result.type if isinstance(op, ops.Load) else op.value.type
                count = prod(extent.evaluate(dims) for extent in lanes.shape)
                found[op.array] = found.get(op.array, 0) + times * count
            for inner in blocks(op):
                visit(inner, times * _trips(op, defined, dims))

    visit(function.body, prod(axis.programs.evaluate(dims) for axis in function.grid))
    return found


def _trips(op: Op, defined: Mapping[Value, Op], dims: Mapping[str, int]) -> int:
    """How often the blocks of an operation run."""
    if isinstance(op, ops.For):
        lower, upper = (_number(defined.get(bound), dims) for bound in (op.lower, op.upper))
        if lower is not None and upper is not None:
            return max(-((lower - upper) // op.step), 0)
    return 1 if isinstance(op, ops.If) else UNKNOWN_TRIPS


def _number(op: Op | None, dims: Mapping[str, int]) -> int | None:
    match op:
        case ops.Constant(value=value):
            return int(value)
        case ops.ExtentValue(extent=extent):
            return extent.evaluate(dims)
    return None
