"""Writes the body of a fused kernel: copies of operations of both kernels, pure ones that are equal written once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from zellige.diagnostics.span import NOWHERE, Span
from zellige.ir import dtypes, ops
from zellige.ir.extent import Extent
from zellige.ir.ops import BinaryOp, Block, Op, Value
from zellige.ir.types import BOOL, TileType
from zellige.ir.walk import Rewriter, attributes, blocks, operands, results

_PURE = (
    ops.Constant, ops.ExtentValue, ops.ScalarValue, ops.ProgramId, ops.Unary, ops.Binary, ops.Fma, ops.Select,
    ops.Cast, ops.Bitcast, ops.Random, ops.Broadcast, ops.ExpandDims, ops.Reshape, ops.Transpose, ops.Reduce, ops.Scan, ops.Offsets,
    ops.Gather, ops.Dot,
)  # fmt: skip
"""Not ``Iota``: two spans of one length have different lanes."""


class Page:
    """The blocks that are being written, innermost last, with the pure operations that each has."""

    def __init__(self, constant: frozenset[str]) -> None:
        self.constant = constant
        """Arrays that nobody writes: equal loads of them are one."""
        self.lists: list[list[Op]] = []
        self.known: list[dict[tuple[object, ...], tuple[Value, ...]]] = []

    def open(self) -> list[Op]:
        """Begins a block."""
        self.lists.append([])
        self.known.append({})
        return self.lists[-1]

    def close(self) -> None:
        self.lists.pop()
        self.known.pop()

    def put(self, op: Op) -> tuple[Value, ...]:
        """Appends an operation, unless an equal one has been written where it can be seen; the results to use."""
        pure = isinstance(op, _PURE) or (isinstance(op, ops.Load | ops.Segment) and op.array in self.constant)
        if pure:
            types = tuple(r.type for r in results(op))
            parts = [len(v) for name in ("index", "masks") if isinstance(v := getattr(op, name, None), tuple)]
            key = (type(op), attributes(op), *parts, operands(op), types)
            for known in reversed(self.known):
                if key in known:
                    return known[key]
            self.known[-1][key] = results(op)
        self.lists[-1].append(op)
        return results(op)

    # --- operations that neither kernel has
    def make(self, kind: type[Any], dtype: Any, shape: Sequence[Extent], span: Span, **parts: Any) -> Value:
        """The result of an operation."""
        return self.put(kind(**parts, result=Value(TileType(dtype, tuple(shape))), span=span))[0]

    def stretched(self, x: Value, shape: Sequence[Extent], span: Span = NOWHERE) -> Value:
        """A scalar, or a tile of that rank with axes of 1, in full shape."""
        if x.type.shape == tuple(shape):
            return x
        return self.make(ops.Broadcast, x.type.dtype, shape, span, x=x)

    def loaded(self, load: ops.Load, masks: Sequence[Value], value: Value, shape: Sequence[Extent]) -> Value:
        """What a load gives, in this shape, whose active lanes hold ``value``: its pad where one of its masks is false."""
        dtype, span = value.type.dtype, load.span
        value = self.stretched(self._rounded(value, span), shape, span)
        if not masks:
            return value
        active = self.stretched(masks[0], shape, span)
        for mask in masks[1:]:
            active = self.make(
                ops.Binary, BOOL.dtype, shape, span, op=BinaryOp.AND, x=active, y=self.stretched(mask, shape, span)
            )
        constant = bool(load.pad) if dtype.is_bool else load.pad
        pad = self.stretched(self.make(ops.Constant, dtype, (), span, value=constant), shape, span)
        return self.make(ops.Select, dtype, shape, span, condition=active, x=value, y=pad)

    def _rounded(self, value: Value, span: Span) -> Value:
        """A float as memory would have held it: a conversion to the type that it has keeps backends from fusing the operation
        that made it with what follows (a product and a sum, say, which would round once)."""
        if value.type.dtype in (dtypes.f32, dtypes.f64):
            return self.make(ops.Cast, value.type.dtype, value.type.shape, span, x=value)
        return value


class Copy(Rewriter):
    """Copies operations of one kernel to a page. What ``mapping`` has already is not written again."""

    def __init__(self, page: Page, axes: Mapping[int, Value] | None = None) -> None:
        """``axes``: values to use as ids of the program, by grid axis."""
        super().__init__()
        self.page = page
        self.axes = axes or {}
        self.renumbered: Mapping[int, int] = {}
        """Where the axes of the grid are another kernel's: their new numbers."""
        self.loads: dict[ops.Load, ops.Store] = {}
        """Loads that give what a store of the other kernel stored."""
        self.stored: Copy | None = None
        """The copy of the other kernel."""
        self.lanes: list[Value] = []
        """Lane numbers on the page that this kernel's own may be, each once: then what both compute from them is one."""

    def block(self, old: Block) -> Block:
        params = tuple(self.fresh(p) for p in old.params)
        written = self.page.open()
        for op in old.ops:
            self.write(op)
        self.page.close()
        return Block(params, written, tuple(self.value(v) for v in old.yields))

    def write(self, old: Op) -> None:
        """Writes a copy of an operation."""
        defined = results(old)
        if defined and all(r in self.mapping for r in defined):
            return
        if isinstance(old, ops.ProgramId) and old.axis in self.axes:
            self.mapping[old.result] = self.axes[old.axis]
            return
        if isinstance(old, ops.Load) and self.replaced(old):
            return
        if isinstance(old, ops.Iota):
            equal = next((v for v in self.lanes if v.type == old.result.type), None)
            if equal is not None:
                self.lanes.remove(equal)
                self.mapping[old.result] = equal
                return
        new = self.copy(old)
        if isinstance(new, ops.ProgramId):
            new = replace(new, axis=self.renumbered.get(new.axis, new.axis))
        self.mapping.update(zip(defined, self.page.put(new), strict=True))

    def replaced(self, load: ops.Load) -> bool:
        """Gives a load its value without reading memory, if that is known."""
        store = self.loads.get(load)
        if store is None or self.stored is None:
            return False
        value = self.stored.value(store.value)
        self.mapping[load.result] = self.page.loaded(
            load, [self.value(m) for m in load.masks], value, load.result.type.shape
        )
        return True


def requirements(block: Block) -> list[Op]:
    """The preconditions of a kernel, with what they are computed from."""
    launch_time: dict[Value, Op] = {}
    needed: set[Value] = set()
    for op in block.ops:
        plain = isinstance(op, ops.Constant | ops.ExtentValue | ops.ScalarValue | ops.Unary | ops.Binary | ops.Fma
                           | ops.Select | ops.Cast | ops.Bitcast)  # fmt: skip
        if plain and all(o in launch_time for o in operands(op)):
            launch_time.update((r, op) for r in results(op))
    kept: list[Op] = []
    for op in reversed(block.ops):
        if isinstance(op, ops.Require) or any(r in needed for r in results(op) if r in launch_time):
            needed.update(operands(op))
            kept.append(op)
    return kept[::-1]


def stores_of(block: Block) -> list[ops.Store | ops.Update]:
    """All writes in a block, in program order."""
    found: list[ops.Store | ops.Update] = []
    for op in block.ops:
        if isinstance(op, ops.Store | ops.Update):
            found.append(op)
        for inner in blocks(op):
            found += stores_of(inner)
    return found
