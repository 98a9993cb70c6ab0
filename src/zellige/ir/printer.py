"""The IR as text: canonical, readable, and read back by ``parser``.

Values are numbered in the order of their definition, so that two builds of one kernel print alike and the text can serve
as the content key of a cache. One operation a line::

    kernel double grid 64 of M: ceildiv(M, 64) {
      in x: In[f32, M]
      in y: Out[f32, M]
      %0: index = program_id 0
      %lanes.1: index[64] = iota
      …
      %7: f32[64] = load x[%5] if %6 pad 0
      store y[%5] if %6 = %8
    }
"""

from __future__ import annotations

import json
import linecache
from collections.abc import Callable, Sequence
from typing import Any

from zellige.diagnostics.errors import InternalError
from zellige.diagnostics.span import Span
from zellige.ir import ops
from zellige.ir.ops import Block, Function, GridAxis, Op, Value
from zellige.ir.walk import results


def text(function: Function, *, spans: bool = False) -> str:
    """The canonical text of a function; with ``spans``, every operation's place in the source and the source itself."""
    return _Printer(spans).function(function)


def portable_text(function: Function) -> tuple[str, tuple[str, ...]]:
    """The canonical text with spans, files told by number (the same wherever the source lies), and those files."""
    printer = _Portable(spans=True)
    return printer.function(function), tuple(printer.files)


def listing(function: Function) -> str:
    """The text for people: before the operations of each source line, the line itself."""
    return _Listing(spans=False).function(function)


class _Printer:
    """Numbers values and indents blocks."""

    def __init__(self, spans: bool) -> None:
        self.spans = spans
        self.numbers: dict[Value, int] = {}
        self.lines: list[str] = []

    def function(self, function: Function) -> str:
        header = ["kernel", function.name]
        if function.grid:
            header.append("grid " + ", ".join(map(_axis, function.grid)))
        if function.group != 1:
            header.append(f"group {function.group}")
        if function.index_bits != 64:
            header.append(f"index_bits {function.index_bits}")
        self.lines.append(" ".join(header) + " {" + self.place(function.span))
        for array in function.arrays:
            self.lines.append(f"  in {array}")
        for scalar in function.scalars:
            self.lines.append(f"  scalar {scalar}")
        for block in function.unsafe:
            self.lines.append(f"  unsafe {json.dumps(block.reason)}{self.place(block.span)}")
        if self.spans and function.source:
            self.lines.append(f"  source {json.dumps(function.source)}")
        self.block(function.body, 1)
        self.lines.append("}")
        return "\n".join(self.lines) + "\n"

    def place(self, span: Span) -> str:
        """The suffix that tells a span."""
        if not self.spans:
            return ""
        return f" @ {self.file(span.file)} {span.line}:{span.column} {span.end_line}:{span.end_column}"

    def file(self, name: str) -> str:
        """How a span tells its file."""
        return json.dumps(name)

    def define(self, value: Value) -> str:
        """A value where it is defined: name and type."""
        self.numbers[value] = len(self.numbers)
        return f"{self.use(value)}: {value.type}"

    def use(self, value: Value) -> str:
        """A value where it is used."""
        name = f"{value.name}." if value.name else ""
        return f"%{name}{self.numbers[value]}"

    def all(self, values: Sequence[Value]) -> str:
        return ", ".join(map(self.use, values))

    def block(self, block: Block, depth: int) -> None:
        """The operations of a block, and what it yields if anything."""
        for op in block.ops:
            self.op(op, depth)
        if block.yields:
            self.lines.append("  " * depth + f"yield {self.all(block.yields)}")

    def op(self, op: Op, depth: int) -> None:
        shape = _SHAPES.get(type(op))
        if shape is not None:
            body = shape(self, op)
            defined = ", ".join(map(self.define, results(op)))
            prefix = f"{defined} = " if defined else ""
            self.lines.append("  " * depth + prefix + body + self.place(op.span))
            return
        self.control(op, depth)

    def control(self, op: Op, depth: int) -> None:
        """An operation with blocks: head, blocks, results."""
        pad = "  " * depth
        place = self.place(op.span)
        match op:
            case ops.For():
                bounds = f"{self.use(op.lower)} to {self.use(op.upper)} step {op.step}"
                head, sections = f"for {bounds} carry [{self.all(op.init)}]", [("do", op.body)]
            case ops.While():
                head = f"while at most {self.use(op.limit)} carry [{self.all(op.init)}]"
                sections = [("check", op.condition), ("do", op.body)]
            case ops.If():
                head, sections = f"if {self.use(op.condition)}", [("then", op.then), ("else", op.orelse)]
            case _:
                raise InternalError(f"the printer does not know {type(op).__name__}")
        self.lines.append(pad + head + place)
        for title, block in sections:
            params = f" ({', '.join(map(self.define, block.params))})" if block.params else ""
            self.lines.append(f"{pad}{title}{params} {{")
            self.block(block, depth + 1)
            self.lines.append(pad + "}")
        self.lines.append(f"{pad}end [{', '.join(map(self.define, op.results))}]")

    def access(self, array: str, index: Sequence[Value], masks: Sequence[Value]) -> str:
        """``array[indices] if masks``."""
        condition = f" if {self.all(masks)}" if masks else ""
        return f"{array}[{self.all(index)}]{condition}"


class _Portable(_Printer):
    """Numbers files in the order of their first span."""

    def __init__(self, spans: bool) -> None:
        super().__init__(spans)
        self.files: dict[str, int] = {}

    def file(self, name: str) -> str:
        return str(self.files.setdefault(name, len(self.files)))


class _Listing(_Printer):
    """Interleaves the source."""

    line = ("", 0)

    def op(self, op: Op, depth: int) -> None:
        here = (op.span.file, op.span.line)
        source = linecache.getline(*here).strip()
        if source and here != self.line:
            self.line = here
            self.lines += ["", f"{'  ' * depth}# {here[1]}: {source}"]
        super().op(op, depth)


def _axis(axis: GridAxis) -> str:
    return f"{'each' if axis.tile is None else axis.tile} of {axis.extent}: {axis.programs}"


_SHAPES: dict[type[Op], Callable[[_Printer, Any], str]] = {
    ops.Constant: lambda p, op: f"constant {op.value!r}",
    ops.ExtentValue: lambda p, op: f"extent {op.extent}",
    ops.ScalarValue: lambda p, op: f"scalar {op.param}",
    ops.ProgramId: lambda p, op: f"program_id {op.axis}",
    ops.Iota: lambda p, op: "iota",
    ops.Unary: lambda p, op: f"unary {op.op.value} {p.use(op.x)}",
    ops.Binary: lambda p, op: f"binary {op.op.value} {p.use(op.x)}, {p.use(op.y)}",
    ops.Fma: lambda p, op: f"fma {p.use(op.x)}, {p.use(op.y)}, {p.use(op.z)}",
    ops.Select: lambda p, op: f"select {p.use(op.condition)}, {p.use(op.x)}, {p.use(op.y)}",
    ops.Cast: lambda p, op: f"cast {p.use(op.x)}",
    ops.Bitcast: lambda p, op: f"bitcast {p.use(op.x)}",
    ops.Random: lambda p, op: f"random {p.use(op.seed)}, {p.use(op.counter)}",
    ops.Broadcast: lambda p, op: f"broadcast {p.use(op.x)}",
    ops.ExpandDims: lambda p, op: f"expand_dims {p.use(op.x)} axis {op.axis}",
    ops.Reshape: lambda p, op: f"reshape {p.use(op.x)}",
    ops.Transpose: lambda p, op: f"transpose {p.use(op.x)} [{', '.join(map(str, op.permutation))}]",
    ops.Reduce: lambda p, op: f"reduce {op.op.value} {p.use(op.x)} axis {op.axis}",
    ops.Scan: lambda p, op: f"scan {op.op.value} {p.use(op.x)} axis {op.axis}",
    ops.Offsets: lambda p, op: f"offsets {p.use(op.lengths)}, {p.use(op.total)}",
    ops.Sort: lambda p, op: f"sort {'descending' if op.descending else 'ascending'} {p.use(op.x)}",
    ops.Gather: lambda p, op: f"gather {p.use(op.x)}, {p.use(op.positions)} axis {op.axis}",
    ops.Dot: lambda p, op: f"dot {p.use(op.a)}, {p.use(op.b)}, {p.use(op.acc)}",
    ops.Segment: lambda p, op: f"segment {op.array} {f'tile {op.tile}' if op.tile else 'each'} {p.use(op.position)}",
    ops.Load: lambda p, op: f"load {p.access(op.array, op.index, op.masks)} pad {op.pad!r}",
    ops.Store: lambda p, op: f"store {p.access(op.array, op.index, op.masks)} = {p.use(op.value)}",
    ops.Update: lambda p, op: f"update {op.op.value} {p.access(op.array, op.index, op.masks)} = {p.use(op.value)}",
    ops.Guard: lambda p, op: f"guard {p.use(op.condition)} {json.dumps(op.message)}",
    ops.Require: lambda p, op: f"require {p.use(op.condition)} {json.dumps(op.text)}",
}
"""How each operation without blocks reads, after its results."""
