"""Writes LLVM assembly: registers, instructions, structured loops and branches; folds constants of index arithmetic.

A `Reg` is an SSA value or literal. Index arithmetic is on `Int`: a Python int where the value is known now, else an
i64 register; so address computations that are constant leave no instruction behind.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reg:
    """An LLVM value: `ref` is a name or literal, `type` the element's type, `lanes` 0 for a scalar."""

    ref: str
    type: str
    lanes: int = 0

    @property
    def llvm_type(self) -> str:
        return vector_type(self.type, self.lanes)

    @property
    def is_literal(self) -> bool:
        return not self.ref.startswith("%")

    def __str__(self) -> str:
        return f"{self.llvm_type} {self.ref}"


Int = int | Reg
TRUE = Reg("true", "i1")
FALSE = Reg("false", "i1")


def vector_type(type_: str, lanes: int) -> str:
    return f"<{lanes} x {type_}>" if lanes else type_


def float_literal(value: float, type_: str) -> Reg:
    """The constant nearest to `value` of `float` or `double`."""
    if type_ == "float":
        if abs(value) <= 3.5e38:
            try:
                value = struct.unpack("f", struct.pack("f", value))[0]
            except OverflowError:
                value = float("inf") if value > 0 else -float("inf")
        elif value == value:
            value = float("inf") if value > 0 else -float("inf")
    return Reg(f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}", type_)


class Emitter:
    """One LLVM function under construction. Instructions go to the end of the current block."""

    def __init__(self) -> None:
        self.body: list[str] = []
        self.entry: list[str] = []
        """Instructions of the entry block that must precede all others: allocas."""
        self.declarations: set[str] = set()
        self.globals: list[str] = []
        self.block = "entry"
        self.depth = 0
        """How many loops or branches enclose the current block; memoised values are dropped when it falls."""
        self._count = 0
        self.on_scope: list[Callable[[bool], None]] = []
        """Called with True when a region opens whose values do not reach past it, with False when it closes."""

    # --- plumbing
    def name(self, hint: str = "v") -> str:
        self._count += 1
        return f"{hint}{self._count}"

    def line(self, text: str) -> None:
        self.body.append("  " + text)

    def inst(self, text: str, type_: str, lanes: int = 0) -> Reg:
        """Emits `%new = text` and gives the new register."""
        ref = "%" + self.name()
        self.body.append(f"  {ref} = {text}")
        return Reg(ref, type_, lanes)

    def label(self, name: str) -> None:
        self.body.append(f"{name}:")
        self.block = name

    def branch(self, target: str) -> None:
        self.line(f"br label %{target}")

    def declare(self, signature: str) -> None:
        self.declarations.add("declare " + signature)

    def _enter(self) -> None:
        self.depth += 1
        for callback in self.on_scope:
            callback(True)

    def _leave(self) -> None:
        self.depth -= 1
        for callback in self.on_scope:
            callback(False)

    # --- generic instructions (operands of equal type and lanes)
    def op(self, opcode: str, x: Reg, y: Reg) -> Reg:
        return self.inst(f"{opcode} {x}, {y.ref}", x.type, x.lanes)

    def fop(self, opcode: str, x: Reg, y: Reg) -> Reg:
        """A float operation that may be contracted with its neighbour into a fused multiply-add."""
        return self.inst(f"{opcode} contract {x}, {y.ref}", x.type, x.lanes)

    def compare(self, kind: str, predicate: str, x: Reg, y: Reg) -> Reg:
        return self.inst(f"{kind} {predicate} {x}, {y.ref}", "i1", x.lanes)

    def select(self, condition: Reg, x: Reg, y: Reg) -> Reg:
        """x where `condition` (scalar, or of as many lanes), else y."""
        if condition == TRUE:
            return x
        if condition == FALSE:
            return y
        return self.inst(f"select {condition}, {x}, {y}", x.type, x.lanes)

    def convert(self, opcode: str, x: Reg, type_: str) -> Reg:
        return self.inst(f"{opcode} {x} to {vector_type(type_, x.lanes)}", type_, x.lanes)

    def call(self, function: str, type_: str, lanes: int, *arguments: Reg, flags: str = "") -> Reg:
        """A call of an intrinsic or library function, declared as needed."""
        result = vector_type(type_, lanes)
        self.declare(f"{result} @{function}({', '.join(a.llvm_type for a in arguments)})")
        return self.inst(f"call {flags}{result} @{function}({', '.join(map(str, arguments))})", type_, lanes)

    def intrinsic(self, name: str, *arguments: Reg, flags: str = "") -> Reg:
        """`llvm.NAME` overloaded on the type of its first operand, whose type is also the result's."""
        first = arguments[0]
        suffix = {"float": "f32", "double": "f64", "half": "f16"}.get(first.type, first.type)
        full = f"llvm.{name}.{f'v{first.lanes}' if first.lanes else ''}{suffix}"
        return self.call(full, first.type, first.lanes, *arguments, flags=flags)

    # --- lanes
    def splat(self, x: Reg, lanes: int) -> Reg:
        """`x` in every lane; vectors of that many lanes stay as they are."""
        if x.lanes == lanes:
            return x
        if x.lanes:
            raise AssertionError(f"{x} used with {lanes} lanes")
        if x.is_literal:
            return Reg(f"splat ({x.type} {x.ref})", x.type, lanes)
        vector = vector_type(x.type, lanes)
        first = self.inst(f"insertelement {vector} poison, {x}, i64 0", x.type, lanes)
        return self.inst(f"shufflevector {first}, {vector} poison, <{lanes} x i32> zeroinitializer", x.type, lanes)

    def unify(self, *values: Reg) -> list[Reg]:
        """All operands with the lanes of the widest."""
        lanes = max(v.lanes for v in values)
        return [self.splat(v, lanes) if lanes else v for v in values]

    def shuffle(self, x: Reg, y: Reg | None, order: Iterable[int]) -> Reg:
        """Lanes `order` of x followed by y."""
        positions = list(order)
        other = f"{x.llvm_type} poison" if y is None else str(y)
        mask = ", ".join(f"i32 {p}" for p in positions)
        return self.inst(f"shufflevector {x}, {other}, <{len(positions)} x i32> <{mask}>", x.type, len(positions))

    def part(self, x: Reg, first: int, count: int) -> Reg:
        """`count` lanes of a vector from `first`."""
        return x if count == x.lanes else self.shuffle(x, None, range(first, first + count))

    def concatenate(self, parts: Sequence[Reg]) -> Reg:
        """One vector of the lanes of `parts` (a power of two of equal vectors) in order."""
        while len(parts) > 1:
            lanes = parts[0].lanes
            parts = [self.shuffle(a, b, range(2 * lanes)) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    def extract(self, x: Reg, lane: int) -> Reg:
        return self.inst(f"extractelement {x}, i64 {lane}", x.type) if x.lanes else x

    def from_lanes(self, values: Sequence[Reg]) -> Reg:
        """A vector of scalars."""
        vector = Reg("poison", values[0].type, len(values))
        for lane, value in enumerate(values):
            vector = self.inst(f"insertelement {vector}, {value}, i64 {lane}", value.type, len(values))
        return vector

    def counting(self, lanes: int, type_: str = "i64") -> Reg:
        """The vector 0, 1, 2, …"""
        return Reg("<" + ", ".join(f"{type_} {i}" for i in range(lanes)) + ">", type_, lanes)

    # --- index arithmetic
    def i64(self, x: Int) -> Reg:
        return Reg(str(x), "i64") if isinstance(x, int) else x

    def add(self, x: Int, y: Int) -> Int:
        if isinstance(x, int) and isinstance(y, int):
            return x + y
        if x == 0:
            return y
        if y == 0:
            return x
        return self.inst(f"add nsw {self.i64(x)}, {self.i64(y).ref}", "i64")

    def sub(self, x: Int, y: Int) -> Int:
        if isinstance(x, int) and isinstance(y, int):
            return x - y
        if y == 0:
            return x
        if x == y:
            return 0
        return self.inst(f"sub nsw {self.i64(x)}, {self.i64(y).ref}", "i64")

    def mul(self, x: Int, y: Int) -> Int:
        if isinstance(x, int) and isinstance(y, int):
            return x * y
        if x == 0 or y == 0:
            return 0
        if x == 1:
            return y
        if y == 1:
            return x
        return self.inst(f"mul nsw {self.i64(x)}, {self.i64(y).ref}", "i64")

    def udiv(self, x: Int, y: Int) -> Int:
        """x // y of numbers that are not negative."""
        if isinstance(x, int) and isinstance(y, int):
            return x // y
        if y == 1:
            return x
        return self.inst(f"udiv {self.i64(x)}, {self.i64(y).ref}", "i64")

    def urem(self, x: Int, y: Int) -> Int:
        """x % y of numbers that are not negative."""
        if isinstance(x, int) and isinstance(y, int):
            return x % y
        if y == 1:
            return 0
        return self.inst(f"urem {self.i64(x)}, {self.i64(y).ref}", "i64")

    def floordiv(self, x: Int, y: Int) -> Int:
        """x // y rounded towards minus infinity."""
        if isinstance(x, int) and isinstance(y, int):
            return x // y
        a, b = self.i64(x), self.i64(y)
        quotient, down = self._division(a, b)
        return self.op("sub", quotient, self.convert("zext", down, "i64"))

    def floormod(self, x: Int, y: Int) -> Int:
        """x % y with y's sign."""
        if isinstance(x, int) and isinstance(y, int):
            return x % y
        a, b = self.i64(x), self.i64(y)
        return self.floor_remainder(a, b)

    def _division(self, a: Reg, b: Reg) -> tuple[Reg, Reg]:
        """Quotient rounded towards zero, and whether floor is one less."""
        quotient = self.op("sdiv", a, b)
        remainder = self.op("srem", a, b)
        zero = self.splat(Reg("0", a.type), a.lanes) if a.lanes else Reg("0", a.type)
        inexact = self.compare("icmp", "ne", remainder, zero)
        opposite = self.compare("icmp", "slt", self.op("xor", a, b), zero)
        return quotient, self.op("and", inexact, opposite)

    def floor_quotient(self, a: Reg, b: Reg) -> Reg:
        """Signed a // b rounded towards minus infinity, of any integer type."""
        quotient, down = self._division(a, b)
        return self.op("sub", quotient, self.convert("zext", down, a.type))

    def floor_remainder(self, a: Reg, b: Reg) -> Reg:
        """Signed a % b with b's sign, of any integer type."""
        _, down = self._division(a, b)
        remainder = self.op("srem", a, b)
        return self.op("add", remainder, self.select(down, b, self._zero_like(b)))

    def _zero_like(self, x: Reg) -> Reg:
        return self.splat(Reg("0", x.type), x.lanes) if x.lanes else Reg("0", x.type)

    def extremum(self, which: str, x: Int, y: Int) -> Int:
        """`smin` or `smax` of two indices."""
        if isinstance(x, int) and isinstance(y, int):
            return min(x, y) if which == "smin" else max(x, y)
        return self.intrinsic(which, self.i64(x), self.i64(y))

    def saturated(self, which: str, x: Int, y: Int) -> Int:
        """`sadd` or `ssub` of two indices: the nearest number of 64 bits, for bounds and gaps that no lane has."""
        if isinstance(x, int) and isinstance(y, int):
            return min(max(x + y if which == "sadd" else x - y, -(1 << 63)), (1 << 63) - 1)
        return self.intrinsic(f"{which}.sat", self.i64(x), self.i64(y))

    def icmp(self, predicate: str, x: Int, y: Int) -> Reg:
        """Signed comparison of two indices; a constant if both are."""
        if isinstance(x, int) and isinstance(y, int):
            table = {"slt": x < y, "sle": x <= y, "sgt": x > y, "sge": x >= y, "eq": x == y, "ne": x != y}
            return TRUE if table[predicate] else FALSE
        return self.compare("icmp", predicate, self.i64(x), self.i64(y))

    def both(self, x: Reg, y: Reg) -> Reg:
        """Logical and; constants fold."""
        if x == TRUE:
            return y
        if y == TRUE:
            return x
        if FALSE in (x, y):
            return FALSE
        x, y = self.unify(x, y)
        return self.op("and", x, y)

    # --- memory
    def offset(self, pointer: Reg, bytes_: Int, *, inbounds: bool = True) -> Reg:
        """`pointer` advanced by bytes; `inbounds` promises LLVM that the result lies in the same object."""
        if bytes_ == 0:
            return pointer
        promise = "inbounds " if inbounds else ""
        return self.inst(f"getelementptr {promise}i8, {pointer}, {self.i64(bytes_)}", "ptr")

    def load(self, pointer: Reg, type_: str, lanes: int, align: int, metadata: str = "") -> Reg:
        return self.inst(f"load {vector_type(type_, lanes)}, {pointer}, align {align}{metadata}", type_, lanes)

    def store(self, value: Reg, pointer: Reg, align: int, metadata: str = "") -> None:
        self.line(f"store {value}, {pointer}, align {align}{metadata}")

    def alloca(self, bytes_: int) -> Reg:
        """Stack memory of the function, aligned to 64 bytes."""
        ref = "%" + self.name("buffer")
        self.entry.append(f"  {ref} = alloca [{max(1, bytes_)} x i8], align 64")
        return Reg(ref, "ptr")

    # --- control
    def loop(
        self, lower: Int, upper: Int, step: int, carried: Sequence[Reg], body: Callable[[Int, list[Reg]], Sequence[Reg]]
    ) -> list[Reg]:
        """for i in range(lower, upper, step): carried = body(i, carried). Gives what is carried out of the last one."""
        if isinstance(lower, int) and isinstance(upper, int):
            trips = max(0, -(-(upper - lower) // step))
            if trips == 0:
                return list(carried)
            if trips == 1:
                return list(body(lower, list(carried)))
        head, inner, after = self.name("loop"), self.name("body"), self.name("after")
        before = self.block
        self.branch(head)
        self.label(head)
        index = Reg("%" + self.name("i"), "i64")
        phis = [Reg("%" + self.name("c"), c.type, c.lanes) for c in carried]
        place = len(self.body)
        more = self.compare("icmp", "slt" if step > 0 else "sgt", index, self.i64(upper))
        self.line(f"br {more}, label %{inner}, label %{after}")
        self.label(inner)
        self._enter()
        results = list(body(index, list(phis)))
        self._leave()
        following = self.inst(f"add nsw {index}, {step}", "i64")
        latch = self.block
        self.branch(head)
        lines = [f"  {index.ref} = phi i64 [ {self.i64(lower).ref}, %{before} ], [ {following.ref}, %{latch} ]"]
        for phi, start, result in zip(phis, carried, results, strict=True):
            lines.append(f"  {phi.ref} = phi {phi.llvm_type} [ {start.ref}, %{before} ], [ {result.ref}, %{latch} ]")
        self.body[place:place] = lines
        self.label(after)
        return phis

    def while_loop(
        self,
        carried: Sequence[Reg],
        condition: Callable[[list[Reg]], Reg],
        body: Callable[[list[Reg]], Sequence[Reg]],
    ) -> list[Reg]:
        """while condition(carried): carried = body(carried)."""
        head, inner, after = self.name("while"), self.name("body"), self.name("after")
        before = self.block
        self.branch(head)
        self.label(head)
        phis = [Reg("%" + self.name("c"), c.type, c.lanes) for c in carried]
        place = len(self.body)
        self._enter()
        more = condition(list(phis))
        self._leave()
        self.line(f"br {more}, label %{inner}, label %{after}")
        self.label(inner)
        self._enter()
        results = list(body(list(phis)))
        self._leave()
        latch = self.block
        self.branch(head)
        self.body[place:place] = [
            f"  {phi.ref} = phi {phi.llvm_type} [ {start.ref}, %{before} ], [ {result.ref}, %{latch} ]"
            for phi, start, result in zip(phis, carried, results, strict=True)
        ]
        self.label(after)
        return phis

    def if_else(
        self, condition: Reg, then: Callable[[], Sequence[Reg]], orelse: Callable[[], Sequence[Reg]] | None = None
    ) -> list[Reg]:
        """Branches on a scalar; both sides give as many values."""
        if condition == TRUE:
            return list(then())
        if condition == FALSE:
            return list(orelse()) if orelse else []
        yes, no, join = self.name("then"), self.name("else"), self.name("join")
        self.line(f"br {condition}, label %{yes}, label %{no}")
        sides = []
        for name, side in ((yes, then), (no, orelse)):
            self.label(name)
            self._enter()
            values = list(side()) if side else []
            self._leave()
            sides.append((values, self.block))
            self.branch(join)
        self.label(join)
        (left, left_block), (right, right_block) = sides
        return [
            self.inst(f"phi {a.llvm_type} [ {a.ref}, %{left_block} ], [ {b.ref}, %{right_block} ]", a.type, a.lanes)
            for a, b in zip(left, right, strict=True)
        ]
