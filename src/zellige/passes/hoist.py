"""Moves what needs nothing but constants to the front, so that a program can do it while it waits for other programs.

Both passes keep the order of every sum: results are the same, bit for bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from zellige.ir import dtypes, ops
from zellige.ir.ops import Block, Function, Op, Value
from zellige.ir.types import TileType
from zellige.ir.walk import Rewriter, blocks, operands, results, walk
from zellige.passes.bounds import bounds_of_values
from zellige.passes.intervals import Interval
from zellige.passes.simplify import has_effect

UNROLLED = 4
"""Most iterations of a loop that is written out."""


def unroll_short_loops(function: Function) -> Function:
    """``function`` with loops of a known, small number of iterations written out.

    Loops around a matrix product stay: their loads are pipelined."""
    return replace(function, body=_Unroller(bounds_of_values(function)).block(function.body))


class _Unroller(Rewriter):
    def __init__(self, bounds: Mapping[Value, Interval]) -> None:
        super().__init__()
        self.bounds = bounds

    def op(self, old: Op) -> list[Op]:
        if isinstance(old, ops.For):
            turns = self._turns(old)
            if turns is not None and not any(isinstance(inner, ops.Dot) for inner in walk(old.body)):
                return self._written_out(old, turns)
        return [self.copy(old)]

    def _turns(self, loop: ops.For) -> range | None:
        lower, upper = self.bounds.get(loop.lower), self.bounds.get(loop.upper)
        if lower is None or upper is None or lower.value is None or upper.value is None:
            return None
        turns = range(lower.value, upper.value, loop.step)
        return turns if len(turns) <= UNROLLED else None

    def _written_out(self, loop: ops.For, turns: range) -> list[Op]:
        made: list[Op] = []
        carried = tuple(map(self.value, loop.init))
        for turn in turns:
            index = Value(TileType(dtypes.index), loop.body.params[0].name)
            made.append(ops.Constant(value=turn, result=index, span=loop.span))
            self.mapping.update(zip(loop.body.params, (index, *carried), strict=True))
            for inner in loop.body.ops:
                made.extend(self.op(inner))
            carried = tuple(map(self.value, loop.body.yields))
        self.mapping.update(zip(loop.results, carried, strict=True))
        return made


def constants_first(function: Function, constant: frozenset[str], most: int = UNROLLED) -> Function:
    """``function`` with loads of arrays in ``constant``, the first ``most`` of each, where they stand at its top level and nothing but
    such loads decides their addresses, in front of the rest; what is made of the loaded values stays where it was.

    ``constant``: inputs that nothing writes while the function runs. What moves has no effect and reads only them, so it gives
    the same wherever it stands."""
    early: dict[Value, Op] = {}
    loads: list[Op] = []
    count: Counter[str] = Counter()
    late: set[Value] = set()
    for op in function.body.ops:
        if _reads_only(op, constant) and not late.intersection(operands(op)):
            early.update(dict.fromkeys(results(op), op))
            if isinstance(op, ops.Load) and count[op.array] < most:
                loads.append(op)
                count[op.array] += 1
        else:
            late.update(results(op))
    needed: set[Op] = set()
    pending = loads
    while pending:
        op = pending.pop()
        if op not in needed:
            needed.add(op)
            pending.extend(early[v] for v in operands(op) if v in early)
    body = function.body
    order = [op for op in body.ops if op in needed] + [op for op in body.ops if op not in needed]
    return replace(function, body=Block(body.params, order, body.yields))


def _reads_only(op: Op, constant: frozenset[str]) -> bool:
    if has_effect(op) or blocks(op):
        return False
    return not isinstance(op, ops.Load | ops.Segment) or op.array in constant
