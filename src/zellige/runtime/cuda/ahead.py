"""Which weights of later launches a recorded launch asks for ahead of time, so that memory works while launches wait for each other.

A schedule says how many bytes (``Options.ahead``): of launches that move little themselves. What is asked for comes into the second
cache; nothing that a program could see depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence

from zellige.backends.cuda.prefetch import PIECES
from zellige.ir import ops
from zellige.ir.ops import Block, Function, Value
from zellige.ir.walk import blocks, operands, results
from zellige.runtime.cuda.prepared import PreparedLaunch, Ranges, constant_inputs, memory_range, written

LEAST = 1 << 16
"""Bytes of an array that is worth asking for."""
LINE = 128
"""Bytes that are asked for together."""


def asked_for(launches: Sequence[PreparedLaunch], budgets: Sequence[int]) -> list[Ranges]:
    """For each launch, up to ``PIECES`` pieces of memory that later launches read, as many bytes as its budget: each byte once, in
    the order of the launches that read it."""
    ranges = written(launches)
    weights = [(i, *piece) for i, launch in enumerate(launches) for piece in _weights(launch, ranges)] if any(budgets) else []
    found: list[Ranges] = []
    at = 0
    """Of the first weights that nobody has asked for."""
    for i, left in enumerate(budgets):
        pieces: list[tuple[int, int]] = []
        while at < len(weights) and (left >= LEAST or weights[at][0] <= i) and len(pieces) < PIECES:
            reader, start, end = weights[at]
            stop = min(end, start + left // LINE * LINE)
            if reader > i:
                pieces.append((start, stop))
                left -= stop - start
            if reader <= i or stop == end:
                at += 1
            else:
                weights[at] = reader, stop, end
        found.append(tuple(pieces))
    return found


def _weights(launch: PreparedLaunch, ranges: Ranges) -> Ranges:
    """The memory of large inputs that nothing writes and a launch reads wherever its programs are, not where other numbers say."""
    function, tensors = launch.instance.function, launch.binding.tensors
    names = addressed_alone(function) & constant_inputs(function, tensors, ranges)
    spans = [memory_range(tensors[a.name]) for a in function.arrays if a.name in names]
    lines = [(-(-low // LINE) * LINE, high // LINE * LINE) for low, high in spans]
    return tuple((low, high) for low, high in lines if high - low >= LEAST)


def addressed_alone(function: Function) -> frozenset[str]:
    """Arrays that are read, and none of whose addresses depends on what was loaded."""
    found: set[str] = set()
    others: set[str] = set()
    loaded: set[Value] = set()

    def visit(block: Block) -> None:
        for op in block.ops:
            if isinstance(op, ops.Load):
                (found if loaded.isdisjoint((*op.index, *op.masks)) else others).add(op.array)
            if blocks(op) or isinstance(op, ops.Load | ops.Segment) or not loaded.isdisjoint(operands(op)):
                loaded.update(results(op))
            for inner in blocks(op):
                counts = isinstance(op, ops.For) and loaded.isdisjoint((op.lower, op.upper))
                loaded.update(inner.params[1:] if counts else inner.params)
                visit(inner)

    visit(function.body)
    return frozenset(found - others)
