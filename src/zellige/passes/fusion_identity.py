"""Which values of two kernels are equal, in a program of the one and a program of the other: by construction, not by value.

Two index values are equal if they are made by the same operations from equal parts, down to lanes (an ``Iota`` of one
extent holds the same numbers everywhere), dims, constants and what both load from an array that neither writes. A program
id of the producer is equal to whatever the first comparison finds in its place; later ones must find the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from zellige.ir import ops
from zellige.ir.ops import Function, Value
from zellige.ir.types import INDEX
from zellige.ir.walk import attributes, definitions, operands

_BY_PARTS = (
    ops.Constant, ops.ExtentValue, ops.Iota, ops.Unary, ops.Binary, ops.Fma, ops.Select, ops.Cast, ops.Bitcast,
    ops.Broadcast, ops.ExpandDims, ops.Reshape, ops.Transpose,
)  # fmt: skip


class Identity:
    """What has been found equal so far."""

    def __init__(
        self,
        producer: Function,
        consumer: Function,
        constant: Collection[str],
        programs: Mapping[int, int] | None = None,
    ) -> None:
        """``constant``: arrays that neither kernel writes. ``programs``: which axis of the consumer's grid each of the producer's
        is; None: that is to be found."""
        self._made = definitions(producer.body)
        self._read = definitions(consumer.body)
        self._constant = constant
        self._programs = programs
        self.axes: dict[int, Value] = {}
        """By axis of the producer's grid: the value of the consumer that is its program id."""
        self.equal: dict[Value, Value] = {}
        """By value of the consumer: the producer's."""

    def stored(self, store: ops.Store, load: ops.Load) -> bool:
        """Whether each active lane of ``load`` is the element that the same lane of ``store`` writes. If not, nothing is found."""
        return self._or_nothing(
            lambda: (
                store.value.type == load.result.type
                and all(self._same(a, b) for a, b in zip(store.index, load.index, strict=True))
                and all(any(self._same(mine, theirs) for theirs in load.masks) for mine in store.masks)
            )
        )

    def overwritten(self, store: ops.Store, later: ops.Store) -> bool:
        """Whether ``later``, a store of the consumer, writes at least the elements that ``store`` writes."""
        return self._or_nothing(
            lambda: (
                store.value.type == later.value.type
                and all(self._same(a, b) for a, b in zip(store.index, later.index, strict=True))
                and all(any(self._same(mine, theirs) for mine in store.masks) for theirs in later.masks)
            )
        )

    def _or_nothing(self, found: Callable[[], bool]) -> bool:
        axes, equal = dict(self.axes), dict(self.equal)
        if found():
            return True
        self.axes, self.equal = axes, equal
        return False

    def _same(self, mine: Value, theirs: Value) -> bool:
        if theirs in self.equal:
            return self.equal[theirs] is mine
        if mine.type != theirs.type or not self._alike(mine, theirs):
            return False
        self.equal[theirs] = mine
        return True

    def _alike(self, mine: Value, theirs: Value) -> bool:
        a, b = self._made.get(mine), self._read.get(theirs)
        if isinstance(a, ops.ProgramId):
            if self._programs is not None:
                return isinstance(b, ops.ProgramId) and b.axis == self._programs[a.axis]
            return theirs.type == INDEX and self.axes.setdefault(a.axis, theirs) is theirs
        if a is None or b is None or type(a) is not type(b) or attributes(a) != attributes(b):
            return False
        if not isinstance(a, _BY_PARTS) and not (isinstance(a, ops.Load) and a.array in self._constant):
            return False
        if isinstance(a, ops.Load) and isinstance(b, ops.Load) and len(a.masks) != len(b.masks):
            return False
        return all(self._same(x, y) for x, y in zip(operands(a), operands(b), strict=True))
