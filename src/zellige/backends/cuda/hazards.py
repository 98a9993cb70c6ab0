"""Where threads of one program must meet.

A program means what one thread would do, but its lanes belong to many threads, and a load may give another thread's
lane than a store before it. Between two accesses of one array of which one is a store, all threads meet at a barrier.
Different programs need none: their accesses were proved not to conflict.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from zellige.ir import ops
from zellige.ir.ops import Block, Function, Op
from zellige.ir.walk import blocks, walk


@dataclass(slots=True)
class _Since:
    """Arrays loaded and stored since all threads last met."""

    loaded: set[str] = field(default_factory=set)
    stored: set[str] = field(default_factory=set)

    def copy(self) -> _Since:
        return _Since(set(self.loaded), set(self.stored))

    def join(self, other: _Since) -> None:
        self.loaded |= other.loaded
        self.stored |= other.stored

    def meet(self) -> None:
        self.loaded.clear()
        self.stored.clear()


def barriers(function: Function) -> set[Op]:
    """The loads and stores of ``function`` that need a barrier in front of them."""
    shared = {op.array for op in walk(function.body) if isinstance(op, ops.Store)}
    found: set[Op] = set()
    _visit(function.body, _Since(), shared, found)
    return found


def _visit(block: Block, since: _Since, shared: set[str], found: set[Op]) -> None:
    for op in block.ops:
        match op:
            case ops.Load(array=name) if name in shared:
                if name in since.stored:
                    found.add(op)
                if op in found:
                    since.meet()
                since.loaded.add(name)
            case ops.Store(array=name):
                if name in since.stored or name in since.loaded:
                    found.add(op)
                if op in found:
                    since.meet()
                since.stored.add(name)
            case ops.For() | ops.While():
                for _ in range(2):  # the second pass sees what an iteration leaves to the next
                    inside = since.copy()
                    for inner in blocks(op):
                        _visit(inner, inside, shared, found)
                    since.join(inside)
            case ops.If():
                ends = []
                for inner in blocks(op):
                    end = since.copy()
                    _visit(inner, end, shared, found)
                    ends.append(end)
                since.meet()
                for end in ends:
                    since.join(end)
