"""Reads back what ``printer`` writes: ``parse(text(f))`` is ``f`` up to the identity of its values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from zellige.diagnostics.errors import ZelligeError
from zellige.diagnostics.span import NOWHERE, Span
from zellige.ir import dtypes, ops
from zellige.ir.dtypes import DType
from zellige.ir.extent import Extent
from zellige.ir.lexer import Reader
from zellige.ir.ops import BinaryOp, Block, Function, GridAxis, Op, ReduceOp, UnaryOp, Unsafe, UpdateOp, Value
from zellige.ir.types import ArrayParam, Contract, ContractKind, Role, ScalarParam, TileType


def parse(text: str) -> Function:
    """The function that ``text`` prints. ZelligeError ZL0120, with the line, if it is not the text of one."""
    parser = _Parser(text)
    function = parser.function()
    if parser.next.kind != "end":
        raise parser.fail("the end")
    return function


T = TypeVar("T")


class _Parser(Reader):
    """Recursive descent over the tokens; knows the values defined so far by their printed names."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.values: dict[str, Value] = {}

    # --- the function
    def function(self) -> Function:
        self.expect("kernel")
        name = self.name()
        grid: list[GridAxis] = []
        if self.accept("grid"):
            grid.append(self.grid_axis())
            while self.accept(","):
                grid.append(self.grid_axis())
        group = self.integer() if self.accept("group") else 1
        bits = self.integer() if self.accept("index_bits") else 64
        self.expect("{")
        span = self.span()
        arrays, scalars, unsafe, source = [], [], [], ""
        while self.accept("in"):
            arrays.append(self.array())
        while self.accept("scalar"):
            scalars.append(self.scalar_param())
        while self.accept("unsafe"):
            reason = self.string()
            unsafe.append(Unsafe(reason, self.span()))
        if self.accept("source"):
            source = self.string()
        body = self.block_body(())
        return Function(
            name, tuple(arrays), tuple(scalars), tuple(grid), body,
            span=span, group=group, index_bits=bits, unsafe=tuple(unsafe), source=source,
        )  # fmt: skip

    def grid_axis(self) -> GridAxis:
        tile = None if self.accept("each") else self.extent()
        self.expect("of")
        extent = self.extent()
        self.expect(":")
        return GridAxis(extent, tile, self.extent())

    def array(self) -> ArrayParam:
        name = self.name()
        self.expect(":")
        role = Role(self.name())
        self.expect("[")
        dtype = self.dtype()
        contract = self.contract() if self.accept(":") else None
        shape: list[Extent] = []
        while self.accept(","):
            shape.append(self.extent())
        self.expect("]")
        init = float(self.number()) if self.accept("init") else None
        return ArrayParam(name, role, dtype, tuple(shape), contract, init)

    def scalar_param(self) -> ScalarParam:
        name = self.name()
        self.expect(":")
        dtype = self.dtype()
        return ScalarParam(name, dtype, self.contract() if self.accept(":") else None)

    def contract(self) -> Contract:
        kind = ContractKind(self.name())
        self.expect("[")
        bound = self.extent()
        flags: set[str] = set()
        while self.accept(","):
            flags.add(self.name())
        self.expect("]")
        return Contract(kind, bound, "distinct" in flags, "optional" in flags)

    def dtype(self) -> DType:
        name = self.name()
        if name not in dtypes.ALL:
            raise ZelligeError("ZL0120", f"IR text, line {self.next.line}: no element type is called {name}")
        return dtypes.ALL[name]

    def span(self) -> Span:
        """``@ "file" line:column line:column``, or nowhere."""
        if not self.accept("@"):
            return NOWHERE
        file = self.string()
        places: list[int] = []
        for _ in range(2):
            places.append(self.integer())
            self.expect(":")
            places.append(self.integer())
        return Span(file, *places)

    # --- values
    def define(self) -> Value:
        """``%name.3: type``."""
        written = self.take("value")
        self.expect(":")
        dtype = self.dtype()
        shape: list[Extent] = []
        if self.accept("["):
            shape.append(self.extent())
            while self.accept(","):
                shape.append(self.extent())
            self.expect("]")
        name, dot, _ = written[1:].rpartition(".")
        value = Value(TileType(dtype, tuple(shape)), name if dot else "")
        self.values[written] = value
        return value

    def use(self) -> Value:
        if self.next.kind != "value" or self.next.text not in self.values:
            raise self.fail("a value defined before")
        return self.values[self.take("value")]

    def uses(self, count: int) -> list[Value]:
        """That many values, separated by commas."""
        found = [self.use()]
        for _ in range(count - 1):
            self.expect(",")
            found.append(self.use())
        return found

    def listed(self, item: Callable[[], T]) -> tuple[T, ...]:
        """``[item, item, …]``."""
        self.expect("[")
        found: list[T] = []
        while not self.accept("]"):
            found.append(item())
            if not self.is_next("]"):
                self.expect(",")
        return tuple(found)

    def axis(self) -> int:
        self.expect("axis")
        return self.integer()

    # --- blocks
    def block(self, title: str) -> Block:
        """``title (params) { … }``."""
        self.expect(title)
        params: list[Value] = []
        if self.accept("("):
            while not self.accept(")"):
                params.append(self.define())
                self.accept(",")
        self.expect("{")
        return self.block_body(tuple(params))

    def block_body(self, params: tuple[Value, ...]) -> Block:
        """Operations up to the closing brace."""
        body: list[Op] = []
        yields: tuple[Value, ...] = ()
        while not self.accept("}"):
            if self.accept("yield"):
                found = [self.use()]
                while self.accept(","):
                    found.append(self.use())
                yields = tuple(found)
            else:
                body.append(self.op())
        return Block(params, body, yields)

    def op(self) -> Op:
        """One operation. The types of its results precede it, but they are visible only after it."""
        start = self.at
        defined: list[Value] = []
        if self.next.kind == "value":
            known = dict(self.values)
            defined.append(self.define())
            while self.accept(","):
                defined.append(self.define())
            self.expect("=")
            written = {v: k for k, v in self.values.items() if v in defined}
            self.values = known
            op = self.named(defined, start)
            self.values.update((name, value) for value, name in written.items())
            return op
        return self.named(defined, start)

    def named(self, defined: list[Value], start: int) -> Op:
        """An operation by its first word."""
        word = self.name()
        rule = _RULES.get(word)
        if rule is None:
            self.at = start
            raise self.fail("an operation")
        return rule(self, defined)

    def access(self) -> dict[str, Any]:
        """``array[indices] if masks`` as fields."""
        array = self.name()
        index = self.listed(self.use)
        masks: list[Value] = []
        if self.accept("if"):
            masks.append(self.use())
            while self.accept(","):
                masks.append(self.use())
        return {"array": array, "index": index, "masks": tuple(masks)}

    def finish(self, kind: type[Op], defined: list[Value], **fields: Any) -> Op:
        """The operation, with its one result and its span."""
        if len(defined) == 1:
            fields["result"] = defined[0]
        return kind(span=self.span(), **fields)

    # --- control
    def loop(self, _: list[Value]) -> Op:
        lower = self.use()
        self.expect("to")
        upper = self.use()
        self.expect("step")
        step = self.integer()
        self.expect("carry")
        init = self.listed(self.use)
        span = self.span()
        body = self.block("do")
        self.expect("end")
        results = self.listed(self.define)
        return ops.For(lower=lower, upper=upper, step=step, init=init, body=body, results=results, span=span)

    def bounded_loop(self, _: list[Value]) -> Op:
        self.expect("at")
        self.expect("most")
        limit = self.use()
        self.expect("carry")
        init = self.listed(self.use)
        span = self.span()
        condition, body = self.block("check"), self.block("do")
        self.expect("end")
        results = self.listed(self.define)
        return ops.While(limit=limit, init=init, condition=condition, body=body, results=results, span=span)

    def branch(self, _: list[Value]) -> Op:
        condition = self.use()
        span = self.span()
        then, orelse = self.block("then"), self.block("else")
        self.expect("end")
        results = self.listed(self.define)
        return ops.If(condition=condition, then=then, orelse=orelse, results=results, span=span)

    # --- operations whose fields come in an order of their own
    def unary(self, d: list[Value]) -> Op:
        return self.finish(ops.Unary, d, op=UnaryOp(self.name()), x=self.use())

    def binary(self, d: list[Value]) -> Op:
        op = BinaryOp(self.name())
        x, y = self.uses(2)
        return self.finish(ops.Binary, d, op=op, x=x, y=y)

    def fma(self, d: list[Value]) -> Op:
        x, y, z = self.uses(3)
        return self.finish(ops.Fma, d, x=x, y=y, z=z)

    def select(self, d: list[Value]) -> Op:
        condition, x, y = self.uses(3)
        return self.finish(ops.Select, d, condition=condition, x=x, y=y)

    def random(self, d: list[Value]) -> Op:
        seed, counter = self.uses(2)
        return self.finish(ops.Random, d, seed=seed, counter=counter)

    def transpose(self, d: list[Value]) -> Op:
        return self.finish(ops.Transpose, d, x=self.use(), permutation=self.listed(self.integer))

    def offsets(self, d: list[Value]) -> Op:
        lengths, total = self.uses(2)
        return self.finish(ops.Offsets, d, lengths=lengths, total=total)

    def sort(self, defined: list[Value]) -> Op:
        descending = self.accept("descending")
        if not descending:
            self.expect("ascending")
        x = self.use()
        return ops.Sort(x=x, descending=descending, result=defined[0], order=defined[1], span=self.span())

    def gather(self, d: list[Value]) -> Op:
        x, positions = self.uses(2)
        return self.finish(ops.Gather, d, x=x, positions=positions, axis=self.axis())

    def dot(self, d: list[Value]) -> Op:
        a, b, acc = self.uses(3)
        return self.finish(ops.Dot, d, a=a, b=b, acc=acc)

    def segment(self, d: list[Value]) -> Op:
        array = self.name()
        tile = self.integer() if not self.accept("each") and self.accept("tile") else None
        return self.finish(ops.Segment, d, array=array, tile=tile, position=self.use())

    def load(self, d: list[Value]) -> Op:
        access = self.access()
        self.expect("pad")
        return self.finish(ops.Load, d, **access, pad=self.number())

    def store(self, d: list[Value]) -> Op:
        access = self.access()
        self.expect("=")
        return self.finish(ops.Store, d, **access, value=self.use())

    def update(self, d: list[Value]) -> Op:
        op, access = UpdateOp(self.name()), self.access()
        self.expect("=")
        return self.finish(ops.Update, d, op=op, **access, value=self.use())


_RULES: dict[str, Callable[[_Parser, list[Value]], Op]] = {
    "constant": lambda p, d: p.finish(ops.Constant, d, value=p.number()),
    "extent": lambda p, d: p.finish(ops.ExtentValue, d, extent=p.extent()),
    "scalar": lambda p, d: p.finish(ops.ScalarValue, d, param=p.name()),
    "program_id": lambda p, d: p.finish(ops.ProgramId, d, axis=p.integer()),
    "iota": lambda p, d: p.finish(ops.Iota, d),
    "unary": _Parser.unary,
    "binary": _Parser.binary,
    "fma": _Parser.fma,
    "select": _Parser.select,
    "cast": lambda p, d: p.finish(ops.Cast, d, x=p.use()),
    "bitcast": lambda p, d: p.finish(ops.Bitcast, d, x=p.use()),
    "random": _Parser.random,
    "broadcast": lambda p, d: p.finish(ops.Broadcast, d, x=p.use()),
    "expand_dims": lambda p, d: p.finish(ops.ExpandDims, d, x=p.use(), axis=p.axis()),
    "reshape": lambda p, d: p.finish(ops.Reshape, d, x=p.use()),
    "transpose": _Parser.transpose,
    "reduce": lambda p, d: p.finish(ops.Reduce, d, op=ReduceOp(p.name()), x=p.use(), axis=p.axis()),
    "scan": lambda p, d: p.finish(ops.Scan, d, op=ReduceOp(p.name()), x=p.use(), axis=p.axis()),
    "offsets": _Parser.offsets,
    "sort": _Parser.sort,
    "gather": _Parser.gather,
    "dot": _Parser.dot,
    "segment": _Parser.segment,
    "load": _Parser.load,
    "store": _Parser.store,
    "update": _Parser.update,
    "guard": lambda p, d: p.finish(ops.Guard, d, condition=p.use(), message=p.string()),
    "require": lambda p, d: p.finish(ops.Require, d, condition=p.use(), text=p.string()),
    "for": _Parser.loop,
    "while": _Parser.bounded_loop,
    "if": _Parser.branch,
}
"""How each operation is read, by its first word; the second argument holds the results that precede it."""
