"""Writes a specialised function as a Triton kernel in readable source: one statement per operation.

The grid is one-dimensional and folded out of the function's axes; masks that are always true, and values that nothing
reads, are not written.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from ctypes import c_float
from dataclasses import dataclass
from math import inf, isnan, prod

from zellige.backends.cuda import operators, quantised
from zellige.backends.cuda.access import Memory
from zellige.backends.cuda.carried import carry
from zellige.backends.cuda.descriptors import Descriptors
from zellige.backends.cuda.expressions import Expressions, Term, literal_number, tuple_text
from zellige.backends.cuda.hazards import barriers
from zellige.backends.cuda.operators import TRITON_DTYPE
from zellige.backends.cuda.options import Options
from zellige.backends.cuda.padding import Padding, reshape_groups
from zellige.backends.cuda.parameters import FLAG, Parameter, parameters
from zellige.backends.cuda.prefetch import prefetch
from zellige.backends.cuda.segments import lower_offsets, lower_segment
from zellige.backends.cuda.sorting import lower_sort
from zellige.backends.cuda.source import Source
from zellige.backends.cuda.updates import lower_update
from zellige.diagnostics.errors import InternalError, ZelligeError
from zellige.ir import dtypes, ops
from zellige.ir.dtypes import DType, Kind
from zellige.ir.extent import Const, Extent
from zellige.ir.ops import BinaryOp, Block, Function, Op, ReduceOp, UnaryOp, Value
from zellige.ir.walk import walk
from zellige.passes.bounds import Bounds, is_index
from zellige.passes.hoist import constants_first, unroll_short_loops
from zellige.passes.intervals import Interval, of_extent, point


@dataclass(frozen=True, slots=True)
class Lowered:
    """A kernel's Triton source and how to call it."""

    name: str
    text: str
    parameters: tuple[Parameter, ...]
    programs: Extent
    """Tiles of the whole grid; a persistent grid has fewer programs."""
    guards: tuple[str, ...]
    """Messages of the guards, by the number that the flag shows (from 1)."""


def lower(function: Function, options: Options) -> Lowered:
    """Triton source of a function whose tile extents are numbers; other dims may stay symbolic."""
    if options.consumers:
        from zellige.backends.cuda.chained_groups import lower_chained
        from zellige.backends.cuda.chained_products import is_chained
        from zellige.backends.cuda.warp_groups import lower_groups

        return lower_chained(function, options) if is_chained(function) else lower_groups(function, options)
    if options.early:
        function = constants_first(unroll_short_loops(function), options.constant, options.early)
    return Lowering(function, options).run()


class Lowering:
    """Writes one function; ``op`` writes one operation."""

    shares = True
    """Whether equal expressions may be one value."""

    def __init__(self, function: Function, options: Options) -> None:
        self.function = function
        self.options = options
        self.parameters = parameters(function, options)
        self.source = Source(((p.kind, p.name) for p in self.parameters), shares=self.shares)
        self.bounds = Bounds(function, options.multiples)
        self.padding = Padding(function)
        self.x = Expressions(self.source, self.bounds, self.padding)
        self.memory = Memory(function, self.x, options)
        self.descriptors = Descriptors(function, self.memory, options)
        self.barriers = barriers(function)
        self.guards: list[str] = []
        self.pids: list[str] = []

    # --- the whole
    def run(self) -> Lowered:
        programs: Extent = Const(1)
        for axis in self.function.grid:
            programs = programs * axis.programs
        if self.options.persistent:
            total = self._count(programs)
            flags = [f"{flag}=True" for flag in ("flatten", "warp_specialize") if getattr(self.options, flag)]
            for statement in self.options.beginning:
                self.source.effect(statement)
            step = ", ".join(["tl.program_id(0)", total, "tl.num_programs(0)", *flags])
            tile = self.source.name("tile")
            with self.source.nest(f"for {tile} in tl.range({step}):"):
                self._program(tile, waits=False)
        else:
            self._program("tl.program_id(0)", waits=self.options.pdl)
        name = f"{self.function.name}_kernel"
        made = "".join(f"    {name} = {text}\n" for name, text in self.descriptors.made.values())
        text = f"{operators.PRELUDE}@triton.jit\ndef {name}({self.source.signature}):\n{made}{self.source.render()}\n"
        return Lowered(name, text, self.parameters, programs, tuple(self.guards))

    def _program(self, pid: str, *, waits: bool) -> None:
        self._place(pid, [axis.programs for axis in self.function.grid])
        if not waits:
            self.block(self.function.body)
            return
        if not self.options.holds:
            self.source.effect("gdc_launch_dependents()")
        self.waiting(pid)

    def waiting(self, pid: str) -> None:
        """The program, with a wait before its first access to what another kernel in flight may touch."""
        waited = False
        for position, op in enumerate(self.function.body.ops):
            if not waited and self._touches_shared(op):
                self.wait_for_earlier(self.function.body.ops[position:], pid)
                waited = True
            self.op(op)
        if not waited:
            self.wait_for_earlier((), pid)

    def wait_for_earlier(self, rest: Sequence[Op], pid: str) -> None:
        """Waits for the kernels in flight, before the first access to what they may touch; ``rest`` is still to do."""
        prefetch(self, rest, pid)
        self.source.effect("gdc_wait()")
        if self.options.holds:
            self.source.effect("gdc_launch_dependents()")

    def _touches_shared(self, op: Op) -> bool:
        """Whether an operation touches an array that a kernel still in flight may write or read."""
        for inner in walk(Block((), [op])):
            match inner:
                case ops.Load(array=name) | ops.Segment(array=name):
                    if name not in self.options.constant:
                        return True
                case ops.Store() | ops.Update() | ops.Guard():
                    return True
        return False

    def _place(self, pid: str, counts: list[Extent]) -> None:
        """Finds this program's position on every axis of a grid; the last axis runs fastest, unless rows are grouped."""
        rest = self.source.load(pid, "pid")
        if self.options.last_first:
            rest = self.source.bind(f"{self._count(prod(counts, start=Const(1)))} - 1 - {rest}", "pid")
        group = self.options.group or self.function.group
        fast: list[str] = []
        if group > 1 and len(counts) >= 2:
            rows, columns = counts[-2], counts[-1]
            area = rows * columns
            inner, rest = self._divided(rest, area, len(counts) > 2)
            most = (
                min(group, rows.constant) if rows.constant is not None else f"tl.minimum({self._count(rows)}, {group})"
            )
            wide = f"({self._count(columns)} * {most})"  # programs of a band: no more than there are
            band = self.source.bind(f"{inner} // {wide}", "band")
            height = self.source.bind(f"tl.minimum({self._count(rows)} - {band} * {group}, {group})", "height")
            within = self.source.bind(f"{inner} % {wide}", "within")
            fast = [f"{band} * {group} + {within} % {height}", f"{within} // {height}"]
            counts = counts[:-2]
        slow: list[str] = []
        for axis, count in reversed(list(enumerate(counts))):
            position, rest = self._divided(rest, count, axis > 0)
            slow.insert(0, position)
        self.pids = [
            self.source.bind(text, f"pid_{axis}") if not (text.isidentifier() or text.isdigit()) else text
            for axis, text in enumerate(slow + fast)
        ]

    def _count(self, extent: Extent) -> str:
        """A number of programs. A grid that is launched has fewer than 2³¹, so it is one of 32 bits however it comes about."""
        text = self.x.extent(extent).text
        return text if extent.constant is not None or of_extent(extent).fits_32 else f"{text}.to(tl.int32)"

    def _divided(self, number: str, count: Extent, more: bool) -> tuple[str, str]:
        """``number`` modulo and divided by ``count``; if there is nothing ``more``, the number itself."""
        if count == Const(1):
            return "0", number
        if not more:
            return number, "0"
        text = self._count(count)
        return self.source.bind(f"{number} % {text}", "pid_inner"), self.source.bind(f"{number} // {text}", "pid_outer")

    def block(self, block: Block) -> None:
        """All operations of a block."""
        for op in block.ops:
            self.op(op)

    # --- one operation
    def op(self, op: Op) -> None:
        """Writes one operation."""
        x, bind = self.x, self.x.bind
        match op:
            case ops.Constant(value=value, result=result):
                x.define(result, literal_number(value, result))
            case ops.ExtentValue(extent=extent, result=result):
                term = x.extent(extent)
                x.define(result, term) if term.literal or term.text.isidentifier() else bind(result, term.text)
            case ops.ScalarValue(param=name, result=result):
                text, dtype = self.source.parameter("scalar", name), result.type.dtype
                x.define(result, Term(text))
                if dtype.is_float and dtype.bits < 32:  # it arrives as an f64
                    text = f"tl.full((), {text}, {'tl.float32' if dtype.bits == 8 else x.dtype(result)})"
                    bind(result, self.as_fp8(self.source.bind(text, "number"), dtype) if dtype.bits == 8 else text)
            case ops.ProgramId(axis=axis, result=result):
                pid = Term(self.pids[axis], literal=self.pids[axis].isdigit())
                x.define(result, pid)
                if x.is_wide(result) and not pid.literal:  # by its bounds, which know of no launch
                    bind(result, f"{pid.text}.to(tl.int64)")
            case ops.Iota(result=result):
                # Each iota is its own lanes to the verifier; here equal ones may be one value.
                bind(result, f"tl.arange(0, {self.padding.extent(result, 0)})")
            case ops.Unary():
                self._unary(op)
            case ops.Binary():
                self._binary(op)
            case ops.Fma(x=a, y=b, z=c, result=result):
                bind(result, f"tl.fma({x.typed(a)}, {x.typed(b)}, {x.typed(c)})")
            case ops.Select(condition=condition, x=a, result=result) if self.bounds.always(condition):
                x.define(result, x.term(a))
            case ops.Select(condition=condition, x=a, y=b, result=result):
                left = self._operand(a, result) if is_index(result) else x.typed(a)
                right = self._operand(b, result) if is_index(result) else x.text(b)
                bind(result, f"tl.where({x.typed(condition)}, {left}, {right})")
                if is_index(result) and x.term(a).literal and x.term(b).literal:
                    bind(result, f"tl.where({x.typed(condition)}, {x.typed(a)}, {x.typed(b)}).to({x.dtype(result)})")
            case ops.Cast():
                self._cast(op)
            case ops.Bitcast(x=a, result=result):
                bind(result, f"{x.typed(a)}.to({x.dtype(result)}, bitcast=True)")
            case ops.Random(seed=seed, counter=counter, result=result):
                low = self.source.bind(f"{x.typed(counter)}.to(tl.uint32)", "low")
                high = self.source.bind(f"({x.typed(counter)} >> 32).to(tl.uint32)", "high")
                zero = self.source.bind(f"tl.zeros_like({low})", "zero")
                bind(result, f"tl.philox({x.typed(seed)}, {low}, {high}, {zero}, {zero})[0]")
            case ops.Broadcast(x=a, result=result):
                if a.type.rank:
                    bind(result, f"tl.broadcast_to({x.typed(a)}, {x.shape(result)})")
                elif is_index(result):
                    bind(result, f"tl.full({x.shape(result)}, {self._operand(a, result)}, {x.dtype(result)})")
                else:
                    bind(result, f"tl.full({x.shape(result)}, {x.text(a)}, {x.dtype(result)})")
            case ops.ExpandDims(x=a, axis=axis, result=result):
                if a.type.rank:
                    bind(result, f"tl.expand_dims({x.typed(a)}, {axis})")
                else:
                    bind(result, f"tl.full((1,), {x.text(a)}, {x.dtype(result)})")
            case ops.Reshape():
                self._reshape(op)
            case ops.Transpose(x=a, permutation=permutation, result=result):
                bind(result, f"tl.permute({x.typed(a)}, {tuple_text(permutation)})")
            case ops.Reduce():
                self._reduce(op)
            case ops.Scan(op=operator, x=a, axis=axis, result=result):
                whole = self._operand(a, result) if is_index(result) else x.typed(a)
                bind(result, f"{operators.SCAN[operator].format(x=whole, axis=axis)}.to({x.dtype(result)})")
            case ops.Sort():
                lower_sort(self, op)
            case ops.Gather(x=a, positions=positions, axis=axis, result=result):
                last = self.padding.extent(a, axis) - 1
                index = x.text(positions)
                if any(self.padding.is_padded(positions, i) for i in range(positions.type.rank)):
                    index = f"{index} & {last}"
                bind(result, f"tl.gather({x.typed(a)}, ({index}).to(tl.int32), {axis})")
            case ops.Dot():
                self._dot(op)
            case ops.Load():
                self._load(op)
            case ops.Store():
                self._store(op)
            case ops.Update():
                lower_update(self, op)
            case ops.Guard(condition=condition, message=message):
                self._guard(condition, message)
            case ops.Require():
                pass  # checked by the launch
            case ops.For():
                self._for(op)
            case ops.While():
                self._while(op)
            case ops.If():
                self._if(op)
            case ops.Offsets():
                lower_offsets(self, op)
            case ops.Segment():
                lower_segment(self, op)
            case _:
                raise InternalError(f"the CUDA backend has no lowering for {type(op).__name__}")

    def _operand(self, value: Value, result: Value) -> str:
        """An operand of index arithmetic, as wide as the result."""
        return self.x.widened(value, self.x.is_wide(result))

    # --- elementwise
    def _unary(self, op: ops.Unary) -> None:
        x, dtype = self.x.typed(op.x), op.x.type.dtype
        if is_index(op.result) and self.x.is_wide(op.result) and not self.x.is_wide(op.x):
            x = f"{x}.to(tl.int64)"
        narrow = dtype.is_float and dtype.bits < 32 and op.op not in operators.EXACT_IN_ANY_FLOAT
        table = operators.UNARY_F64 if dtype is dtypes.f64 and op.op in operators.UNARY_F64 else operators.UNARY
        template = "{x} * -1.0" if op.op is UnaryOp.NEG and dtype.is_float else table[op.op]  # Triton's -x is 0 - x
        text = template.format(x=f"{x}.to(tl.float32)" if narrow else x)
        self.x.bind(op.result, f"({text}).to({TRITON_DTYPE[dtype]})" if narrow else text)

    def _binary(self, op: ops.Binary) -> None:
        x, y, operator = op.x, op.y, op.op
        if is_index(x) and is_index(y):
            wide = self.x.is_wide(x) or self.x.is_wide(y) or (is_index(op.result) and self.x.is_wide(op.result))
            a, b = self.x.widened(x, wide), self.x.widened(y, wide)
            if self.x.term(x).literal and self.x.term(y).literal:
                a = self.source.bind(f"tl.full((), {a}, {'tl.int64' if wide else 'tl.int32'})", x.name or "c")
        else:
            wide = False
            a = (
                self.x.typed(x)
                if self.x.term(y).literal or operator in (BinaryOp.SHL, BinaryOp.SHR)
                else self.x.text(x)
            )
            b = self.x.text(y)
            extremum = operator in (BinaryOp.MIN, BinaryOp.MAX)
            if (extremum or operator.is_comparison) and x.type.dtype.is_float and x.type.dtype is not dtypes.f32:
                a, b = self.x.typed(x), self.x.typed(y)  # a number beside these Triton takes for an f32
        table = operators.BINARY_FLOAT if x.type.dtype.is_float else operators.BINARY
        text = table[operator].format(x=a, y=b)
        if operator in (BinaryOp.SHL, BinaryOp.SHR):
            text = self._shift(operator, x, y, a, b, 64 if wide else 32)
        if operator in (BinaryOp.FLOORDIV, BinaryOp.MOD) and x.type.dtype.kind is not Kind.UNSIGNED:
            text = self._floored(operator, x, y, a, b)
        if wide and is_index(op.result) and not self.x.is_wide(op.result):
            text = f"({text}).to(tl.int32)"
        if x.type.dtype.is_integer and not is_index(x) and x.type.dtype.bits < 32 and not operator.is_comparison:
            text = f"({text}).to({TRITON_DTYPE[x.type.dtype]})"
        if operator in _IN_F32 and x.type.dtype.is_float and x.type.dtype.bits == 16:
            text = f"({text}).to({TRITON_DTYPE[x.type.dtype]})"
        self.x.bind(op.result, text)

    def _shift(self, operator: BinaryOp, x: Value, y: Value, a: str, b: str, width: int) -> str:
        """A shift; by the width (of indices: ``width``) or more, or less than 0, it leaves 0, or the sign, where the hardware's is
        undefined."""
        bits = width if is_index(x) else x.type.dtype.bits
        template = operators.BINARY[operator]
        if self.bounds.of(y).within(Interval(0, bits - 1)):
            return template.format(x=a, y=b)
        if self.x.term(y).literal:
            b = self.x.typed(y)
        fits = self.source.bind(f"({b} >= 0) & ({b} < {bits})", "fits")
        signed = x.type.dtype.kind is not Kind.UNSIGNED
        if operator is BinaryOp.SHR and signed:
            return template.format(x=a, y=f"tl.where({fits}, {b}, {bits - 1})")
        shifted = template.format(x=a, y=f"tl.where({fits}, {b}, 0)")
        return f"tl.where({fits}, {shifted}, 0)"

    def _floored(self, operator: BinaryOp, x: Value, y: Value, a: str, b: str) -> str:
        """Division rounding down, where Triton's rounds towards zero."""
        if self.bounds.of(x).low >= 0 and self.bounds.of(y).low >= 0:
            return operators.BINARY[operator].format(x=a, y=b)
        remainder = self.source.bind(f"{a} % {b}", "remainder")
        off = self.source.bind(f"({remainder} != 0) & (({remainder} < 0) != ({b} < 0))", "off")
        if operator is BinaryOp.MOD:
            return f"tl.where({off}, {remainder} + {b}, {remainder})"
        return f"{a} // {b} - {off}.to({'tl.int32' if x.type.dtype.bits < 64 or not self.x.is_wide(x) else 'tl.int64'})"

    def _cast(self, op: ops.Cast) -> None:
        source, target = op.x.type.dtype, op.result.type.dtype
        if source.is_block:
            load = self.bounds.definition(op.x)
            if not isinstance(load, ops.Load):
                raise InternalError("a tile of block type that no load gives")
            narrow = target.is_float and target.bits == 8
            text = quantised.unpacked(self.memory, load, dtypes.f32 if narrow else target)
            self.x.bind(op.result, self.as_fp8(text, target) if narrow else text)
            return
        term = self.x.term(op.x)
        if term.literal and is_index(op.result):
            self.x.define(op.result, term)
            return
        text = self.x.typed(op.x)
        if source.is_float and target.is_integer:
            text = self._saturated(text, source, target)
        elif target.is_bool:
            self.x.bind(op.result, f"{text} != 0")
            return
        if target.is_float and target.bits == 8:
            text = self.as_fp8(self.source.bind(f"{text}.to(tl.float32)", "number"), target)
        self.x.bind(op.result, f"{text}.to({self.x.dtype(op.result)})")

    def _saturated(self, text: str, source: DType, target: DType) -> str:
        """A float ready to be cut to an integer: NaN is 0, and what is out of range is the nearest integer in it."""
        low, high = (-(1 << 31), (1 << 31) - 1) if target.kind is Kind.INDEX else target.integer_range()
        exact = "tl.float64" if source is dtypes.f64 else "tl.float32"
        text = self.source.bind(f"tl.where({text} == {text}, {text}, 0.0).to({exact})", "number")
        if target.bits >= 32:
            return text  # the hardware's conversion saturates
        return f"tl.minimum(tl.maximum({text}, {float(low)}), {float(high)})"

    def as_fp8(self, number: str, target: DType) -> str:
        """An f32 as fp8. Numbers that round to more than the largest one are NaN (e4m3 has no infinities) or infinite, where the
        hardware's conversion gives the largest."""
        bits = self.source.bind(f"{number}.to({TRITON_DTYPE[target]}).to(tl.uint8, bitcast=True)", "bits")
        if target is dtypes.f8e4m3:
            beyond, instead = f"tl.abs({number}) > 464.0", f"({bits} | 127).to(tl.uint8)"
        else:
            beyond, instead = f"tl.abs({number}) >= 61440.0", f"(({bits} & 128) | 124).to(tl.uint8)"
        whole = self.source.bind(f"tl.where({beyond}, {instead}, {bits})", "bits")
        return f"{whole}.to({TRITON_DTYPE[target]}, bitcast=True)"

    def _reshape(self, op: ops.Reshape) -> None:
        for left, right in reshape_groups(op.x, op.result):
            padded = any(self.padding.is_padded(op.x, a) for a in left[1:]) or any(
                self.padding.is_padded(op.result, a) for a in right[1:]
            )
            before, after = (
                prod(self.padding.extent(op.x, a) for a in left), prod(self.padding.extent(op.result, a) for a in right)
            )  # fmt: skip
            if (len(left), len(right)) != (1, 1) and (padded or before != after):
                raise ZelligeError(
                    "ZL0902",
                    "a reshape splits or merges an axis whose extent is not a power of two, which a GPU tile cannot do",
                    facts={"from": str(op.x.type), "to": str(op.result.type)},
                    help="load the tile with the wanted axes, or give the inner axes extents that are powers of two",
                    span=op.span,
                )
        if not op.result.type.rank:
            one = self.x.typed(op.x)
            for axis in reversed(range(op.x.type.rank)):
                one = f"tl.sum({one}, {axis})"
            self.x.bind(op.result, f"{one}.to({self.x.dtype(op.result)})")
        elif not op.x.type.rank:
            self.x.bind(
                op.result, f"tl.full({self.x.shape(op.result)}, {self.x.text(op.x)}, {self.x.dtype(op.result)})"
            )
        else:
            self.x.bind(op.result, f"tl.reshape({self.x.typed(op.x)}, {self.x.shape(op.result)})")

    # --- across lanes
    def _reduce(self, op: ops.Reduce) -> None:
        first = self.bounds.first_lane(op.x) if op.op is ReduceOp.MIN and op.x.type.rank == 1 else None
        if first is not None:
            self.x.define(op.result, self.x.term(first))
            return
        fill, whole = operators.neutral(op.op, op.x.type.dtype), self.x.typed(op.x)
        wide = is_index(op.x) and self.x.is_wide(op.x)
        if is_index(op.x) and op.op not in (ReduceOp.ARGMAX, ReduceOp.ARGMIN):
            whole, wide = self._operand(op.x, op.result), self.x.is_wide(op.result)
        if wide and fill != "0":
            fill = fill.replace(str((1 << 31) - 1), str((1 << 63) - 1)).replace(str(1 << 31), str(1 << 63))
        x = self.x.where_true(op.x, whole, (op.axis,), fill)
        table = operators.REDUCE_FLOAT if op.x.type.dtype.is_float else operators.REDUCE
        text = table[op.op].format(x=x, axis=op.axis)
        if op.op in (ReduceOp.ARGMAX, ReduceOp.ARGMIN, ReduceOp.ANY, ReduceOp.ALL):
            # (lanes past the end hold the neutral number and come last: they are no position)
            self.x.bind(op.result, text)
        else:
            self.x.bind(op.result, f"{text}.to({self.x.dtype(op.result)})")

    def _dot(self, op: ops.Dot) -> None:
        rank = op.acc.type.rank
        a = self.x.where_true(op.a, self.x.typed(op.a), (rank - 1,), _zero(op.a))
        b = self.x.where_true(op.b, self.x.typed(op.b), (rank - 2,), _zero(op.b))
        acc = self.x.typed(op.acc)
        dtype = op.a.type.dtype
        unitless = dtype.is_integer and dtype is not dtypes.i8  # the matrix units take no other integers
        if op in self.padding.narrow_dots or unitless or op.acc.type.dtype is dtypes.f64:
            wide = self.x.dtype(op.acc)
            left = f"tl.expand_dims({a}.to({wide}), {rank})"
            right = f"tl.expand_dims({b}.to({wide}), {rank - 2})"
            self.x.bind(op.result, f"{acc} + tl.sum({left} * {right}, {rank - 1})")
            return
        arguments = [a, b, acc]
        if op.a.type.dtype is dtypes.f32:
            arguments.append('input_precision="ieee"')
        if op.a.type.dtype.is_float and op.a.type.dtype.bits == 8:
            depth = self.padding.extent(op.a, rank - 1)
            if not (
                self._is_zero(op.acc) and depth <= operators.SUMMED_BY_THE_UNITS
            ):  # else the whole sum is that short
                arguments.append(f"max_num_imprecise_acc={min(depth, operators.SUMMED_BY_THE_UNITS)}")
        if op.acc.type.dtype is not dtypes.f32:
            arguments.append(f"out_dtype={self.x.dtype(op.acc)}")
        self.x.bind(op.result, f"tl.dot({', '.join(arguments)})")

    def _is_zero(self, value: Value) -> bool:
        """Whether every lane is the constant 0."""
        op = self.bounds.definition(value)
        while isinstance(op, ops.Broadcast | ops.ExpandDims | ops.Reshape):
            op = self.bounds.definition(op.x)
        return isinstance(op, ops.Constant) and op.value == 0

    # --- memory
    def _load(self, op: ops.Load) -> None:
        if op.result.type.dtype.is_block:
            return  # read where it is cast
        if op in self.barriers:
            self.source.effect("tl.debug_barrier()")
        array = self.function.array(op.array)
        text = self.descriptors.load(op) or self.memory.load_text(op, self._pad(op))
        if is_index(op.result) and self.x.dtype(op.result) != TRITON_DTYPE[array.dtype]:
            text = f"{text}.to({self.x.dtype(op.result)})"
        self.x.define(op.result, Term(self.source.load(text, op.result.name or op.array)))

    def _pad(self, op: ops.Load) -> str:
        """What masked lanes give. A number that f32 does not hold needs a type, or Triton takes it for an f32."""
        dtype = op.result.type.dtype
        text = operators.number(op.pad, dtype)
        exact = isnan(op.pad) or abs(op.pad) == inf or not dtype.is_float or c_float(op.pad).value == op.pad
        return text if exact or dtype.bits == 8 else f"tl.full((), {text}, {self.x.dtype(op.result)})"

    def storage(self, array: str) -> str:
        """The conversion from an index to the integers that a contract array holds."""
        param = self.function.array(array)
        return f".to({TRITON_DTYPE[param.dtype]})" if param.contract else ""

    def _store(self, op: ops.Store) -> None:
        if op in self.barriers:
            self.source.effect("tl.debug_barrier()")
        value = f"{self.x.typed(op.value)}{self.storage(op.array)}"
        self.source.effect(self.descriptors.store(op, value) or self.memory.store_text(op, "tl.store", value))

    def _guard(self, condition: Value, message: str) -> None:
        self.guards.append(message)
        bad = self.source.bind(f"{self.x.typed(condition)} == 0", "bad")
        for axis in range(condition.type.rank):
            within = self.x.true_lanes(condition, axis)
            if within is not None:
                bad = self.source.bind(f"{bad} & {within}", "bad")
        bad = self.source.bind(f"{bad}.to(tl.int32)", "bad")
        for axis in reversed(range(condition.type.rank)):
            bad = self.source.bind(f"tl.max({bad}, {axis})", "bad")
        flag = self.source.parameter("flag", FLAG)
        self.source.effect(f"tl.store({flag}, {len(self.guards)}, mask={bad} != 0)")

    # --- control
    def _enter(self, init: tuple[Value, ...], groups: tuple[tuple[Value, ...], ...]) -> list[str]:
        """Variables that carry values around a loop, holding the first ones."""
        names = []
        for first, *same in zip(init, *groups, strict=True):
            self.x.widen_together(*same)
            name = self.source.name(same[0].name or first.name or "carried")
            self.source.assign(name, self._as_carried(first, same[0]))
            names.append(name)
            for value in same:
                self.x.define(value, Term(name))
        return names

    def _as_carried(self, value: Value, into: Value) -> str:
        """A value with the dtype of the variable that takes it."""
        if is_index(into) and not self.x.term(value).literal:
            return f"{self.x.text(value)}.to({self.x.dtype(into)})"
        if self.x.term(value).literal:
            return f"tl.full((), {self.x.text(value)}, {self.x.dtype(into)})"
        return self.x.text(value)

    def _next(self, names: list[str], yields: tuple[Value, ...], params: tuple[Value, ...]) -> None:
        self.source.assign_all(names, [self._as_carried(y, p) for y, p in zip(yields, params, strict=True)])

    def _for(self, op: ops.For) -> None:
        params = op.body.params
        names = self._enter(op.init, (params[1:], op.results))
        wide = self.x.is_wide(op.lower) or self.x.is_wide(op.upper)
        last = self.bounds.of(op.upper if op.step > 0 else op.lower) + point(abs(op.step) - 1)
        wide = wide or not last.fits_32  # of the index after the last turn
        if wide:
            self.x.widen(params[0])
        index = self.source.name(params[0].name or "i")
        self.x.define(params[0], Term(index))
        steps = [self.x.widened(op.lower, wide), self.x.widened(op.upper, wide)]
        if wide and self.x.term(op.lower).literal and self.x.term(op.upper).literal:
            steps[0] = f"tl.full((), {steps[0]}, tl.int64)"
        if op.step != 1:
            steps.append(str(op.step))
        pointers = carry(self, op) if self.options.carried else []
        flags = []
        if self.options.loop_stages is not None:
            flags.append(f"num_stages={self.options.loop_stages}")
        if self.options.warp_specialize and not self.options.persistent:
            flags.append("warp_specialize=True")
        with self.source.nest(f"for {index} in tl.range({', '.join(steps + flags)}):"):
            self.block(op.body)
            self._next(names, op.body.yields, params[1:])
            for pointer, step in pointers:
                self.source.assign(pointer, f"{pointer} + {step}")

    def _while(self, op: ops.While) -> None:
        params = op.body.params
        names = self._enter(op.init, (params, op.condition.params, op.results))
        count, going = self.source.name("count"), self.source.name("going")
        self.source.assign(count, f"tl.full((), 0, {'tl.int64' if self.x.is_wide(op.limit) else 'tl.int32'})")

        def test() -> None:
            self.block(op.condition)
            self.source.assign(going, f"{self.x.typed(op.condition.yields[0])} & ({count} < {self.x.text(op.limit)})")

        test()
        self.source.forget([*names, count])
        with self.source.nest(f"while {going}:"):
            self.block(op.body)
            self._next(names, op.body.yields, params)
            self.source.assign(count, f"{count} + 1")
            self.source.forget([*names, count])
            test()
        self.source.forget([*names, count])

    def _if(self, op: ops.If) -> None:
        names = []
        for result, a, b in zip(op.results, op.then.yields, op.orelse.yields, strict=True):
            self.x.widen_together(result, a, b)
            names.append(self.source.name(result.name or a.name or "chosen"))
        condition = self.x.typed(op.condition)
        for keyword, block in ((f"if {condition}:", op.then), ("else:", op.orelse)):
            if block is op.orelse and not block.ops and not names:
                continue
            known = self.bounds.assuming(op.condition) if block is op.then else nullcontext()
            with self.source.nest(keyword), known:
                self.block(block)
                for name, value, result in zip(names, block.yields, op.results, strict=True):
                    self.source.assign(name, self._as_carried(value, result))
        for name, result in zip(names, op.results, strict=True):
            self.x.define(result, Term(name))


_IN_F32 = (BinaryOp.DIV, BinaryOp.MIN, BinaryOp.MAX)
"""What Triton gives as f32 of (some) floats of 16 bits."""


def _zero(value: Value) -> str:
    return "0.0" if value.type.dtype.is_float else "0"
