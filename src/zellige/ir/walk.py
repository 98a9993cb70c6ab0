"""Generic traversal and rewriting of operations: operands, results, nested blocks, substitution, specialisation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import fields, replace
from typing import Any

from zellige.ir import ops
from zellige.ir.extent import Extent
from zellige.ir.ops import Block, Function, GridAxis, Op, Value
from zellige.ir.types import ArrayParam, Contract, ScalarParam, TileType

_RESULTS = frozenset({"result", "results", "order"})


_Layout = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]
_layouts: dict[type[Any], _Layout] = {}


def _layout(kind: type[Op]) -> _Layout:
    """Field names of an operation: single operands, operand tuples, blocks, results."""
    known = _layouts.get(kind)
    if known is None:
        known = _layouts[kind] = _read_layout(kind)
    return known


def _read_layout(kind: type[Op]) -> _Layout:
    single, many, blocks, results = [], [], [], []
    for f in fields(kind):
        annotation = str(f.type)
        if f.name in _RESULTS and "Value" in annotation:
            results.append(f.name)
        elif annotation in ("Value", "Value | None"):
            single.append(f.name)
        elif annotation == "tuple[Value, ...]":
            many.append(f.name)
        elif annotation == "Block":
            blocks.append(f.name)
    return tuple(single), tuple(many), tuple(blocks), tuple(results)


def operands(op: Op) -> tuple[Value, ...]:
    """The values that ``op`` itself reads (not those that its blocks read)."""
    single, many, _, _ = _layout(type(op))
    found = [v for name in single if (v := getattr(op, name)) is not None]
    for name in many:
        found.extend(getattr(op, name))
    return tuple(found)


def of_launch_time(op: Op, known: Set[Value]) -> bool:
    """Whether what an operation gives depends on dims and scalars only; ``known`` are the values before it that do."""
    return isinstance(op, ops.Constant | ops.ExtentValue | ops.ScalarValue) or (
        isinstance(op, ops.Unary | ops.Binary | ops.Fma | ops.Select | ops.Cast | ops.Bitcast)
        and all(o in known for o in operands(op))
    )


def results(op: Op) -> tuple[Value, ...]:
    """The values that ``op`` defines in the block that it stands in."""
    found: list[Value] = []
    for name in _layout(type(op))[3]:
        value = getattr(op, name)
        found.extend(value if isinstance(value, tuple) else (value,))
    return tuple(found)


def attributes(op: Op) -> tuple[object, ...]:
    """What an operation is apart from operands, blocks, results and its place in the source: equal for equal computations."""
    single, many, inner, defined = _layout(type(op))
    values = {*single, *many, *inner, *defined, "span"}
    plain = [getattr(op, f.name) for f in fields(op) if f.name not in values]
    return tuple((type(v), repr(v)) if isinstance(v, int | float) else v for v in plain)  # 0.0 is not −0.0, 1 not True


def blocks(op: Op) -> tuple[Block, ...]:
    """The blocks nested directly in ``op``."""
    return tuple(getattr(op, name) for name in _layout(type(op))[2])


def walk(block: Block) -> Iterator[Op]:
    """All operations in a block and in the blocks nested in it, in program order; an operation before its blocks."""
    for op in block.ops:
        yield op
        for inner in blocks(op):
            yield from walk(inner)


def definitions(block: Block) -> dict[Value, Op]:
    """For every value defined by an operation, that operation. Block parameters map to nothing."""
    return {value: op for op in walk(block) for value in results(op)}


def uses(block: Block) -> dict[Value, int]:
    """How often each value is read, by operations and yields, in a block and all nested ones."""
    counts: dict[Value, int] = {}

    def visit(b: Block) -> None:
        for op in b.ops:
            for value in operands(op):
                counts[value] = counts.get(value, 0) + 1
            for inner in blocks(op):
                visit(inner)
        for value in b.yields:
            counts[value] = counts.get(value, 0) + 1

    visit(block)
    return counts


class Rewriter:
    """Copies a block, with fresh values. Override ``op`` to change what an operation becomes.

    ``mapping`` takes old values to new ones; ``extent`` is applied to every extent met (types, iotas, dims)."""

    def __init__(self, extent: Callable[[Extent], Extent] = lambda e: e) -> None:
        self.mapping: dict[Value, Value] = {}
        self.extent = extent

    def value(self, old: Value) -> Value:
        """The new value for an operand."""
        return self.mapping.get(old, old)

    def fresh(self, old: Value) -> Value:
        """A new value that stands for a result or block parameter of the old program."""
        shape = tuple(self.extent(e) for e in old.type.shape)
        new = Value(TileType(old.type.dtype, shape), old.name)
        self.mapping[old] = new
        return new

    def block(self, old: Block) -> Block:
        """A copy of ``old`` with everything in it rewritten."""
        new = Block(tuple(self.fresh(p) for p in old.params), [])
        for op in old.ops:
            new.ops.extend(self.op(op))
        new.yields = tuple(self.value(v) for v in old.yields)
        return new

    def op(self, old: Op) -> list[Op]:
        """The operations that replace ``old``; by default a copy with operands mapped and results fresh."""
        return [self.copy(old)]

    def copy(self, old: Op) -> Op:
        """``old`` with operands mapped, blocks rewritten and results fresh."""
        single, many, inner, defined = _layout(type(old))
        changes: dict[str, Any] = {}
        for name in single:
            operand = getattr(old, name)
            changes[name] = None if operand is None else self.value(operand)
        for name in many:
            changes[name] = tuple(self.value(v) for v in getattr(old, name))
        for name in inner:
            changes[name] = self.block(getattr(old, name))
        for name in defined:
            value = getattr(old, name)
            changes[name] = tuple(map(self.fresh, value)) if isinstance(value, tuple) else self.fresh(value)
        if isinstance(old, ops.ExtentValue):
            changes["extent"] = self.extent(old.extent)
        return replace(old, **changes)


def specialise(function: Function, dims: Mapping[str, Extent] | Mapping[str, int]) -> Function:
    """``function`` with the dims in ``dims`` replaced everywhere, by their values or by other extents."""

    def extent(e: Extent) -> Extent:
        return e.substitute(dims)

    def contract(c: Contract | None) -> Contract | None:
        return None if c is None else replace(c, bound=extent(c.bound))

    def array(a: ArrayParam) -> ArrayParam:
        return replace(a, shape=tuple(map(extent, a.shape)), contract=contract(a.contract))

    def scalar(s: ScalarParam) -> ScalarParam:
        return replace(s, contract=contract(s.contract))

    def axis(g: GridAxis) -> GridAxis:
        return GridAxis(extent(g.extent), None if g.tile is None else extent(g.tile), extent(g.programs))

    return replace(
        function,
        arrays=tuple(map(array, function.arrays)),
        scalars=tuple(map(scalar, function.scalars)),
        grid=tuple(map(axis, function.grid)),
        body=Rewriter(extent).block(function.body),
    )
