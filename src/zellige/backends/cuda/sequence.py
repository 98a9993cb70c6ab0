"""A sequence of launches as one kernel: a fixed number of programs that run at once go through all launches in order.

Each distinct kernel is written once, as a function of the number of the program that it plays. A table in device memory says,
launch by launch, which function runs, on what, and which earlier launches have to be complete before:

    for launch in range(launches):
        for tile in range(turn, tiles, programs):        # the launch's programs, shared out; turn: (program - begin) modulo programs
            work that needs nothing but constants
            wait until the launches that this one depends on are complete      (before the first tile)
            the rest
        report that this program's tiles of this launch are done

A program reports with a release, and waits with an acquire, of one counter for each launch, between barriers of its own threads
(which also keep one call's shared memory from the next one's: Triton places no barriers between calls);
so what a launch wrote is seen by those that wait for it, as it is at the end of a kernel (PTX ISA, memory consistency model:
causality order). Counters only grow: a target is the number of the replay times the programs that report. A program without
tiles of a launch neither waits nor reports. A launch begins with the program after the last one of the launch before, so that those that
have been without work longest, and have their constants loaded, are next. All programs must be on the GPU at once, which the runtime
sees to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from zellige.backends.cuda import operators
from zellige.backends.cuda.lowering import Lowered, Lowering
from zellige.backends.cuda.operators import TRITON_DTYPE
from zellige.backends.cuda.options import Options
from zellige.backends.cuda.parameters import Parameter
from zellige.diagnostics.errors import ZelligeError
from zellige.ir import ops
from zellige.ir.extent import Const, Extent
from zellige.ir.ops import Function, Op
from zellige.ir.walk import specialise, walk
from zellige.passes.hoist import constants_first, unroll_short_loops

BODY, BEGIN, HEADER = 0, 1, 2
"""Words of a table's row: the function's number, and the program that has tile 0; then waits and arguments."""


@dataclass(frozen=True, slots=True)
class Body:
    """One distinct kernel of a sequence."""

    name: str
    text: str
    parameters: tuple[Parameter, ...]
    tiles: int
    """Programs of a launch of it."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a row of the table holds what, in words of 8 bytes."""

    waits: int
    """Most launches that one waits for, at least 1: pairs of a counter's number and the programs that report to it, of which 0
    is no wait."""
    arguments: int
    """Most arguments of a function."""

    @property
    def waits_at(self) -> int:
        return HEADER

    @property
    def arguments_at(self) -> int:
        return HEADER + 2 * self.waits

    @property
    def words(self) -> int:
        """Of a row."""
        return self.arguments_at + self.arguments


def lower_body(function: Function, dims: dict[str, int], options: Options, number: int) -> Body:
    """One kernel as a function of a sequence, with all dims fixed. ``options.constant``: what nothing in the sequence writes.

    ZelligeError ZL0908: it has guards, or arrays that this form cannot pass; others as ``lower``."""
    function = constants_first(unroll_short_loops(specialise(function, dims)), options.constant)
    if any(isinstance(op, ops.Guard) for op in walk(function.body)):
        raise ZelligeError(
            "ZL0908", f"'{function.name}' has a guard, whose flag a sequence in one kernel cannot show",
            help="leave the graph's form at 'launches'",
        )  # fmt: skip
    # Bulk copies go past the order that barriers keep; a grid of its own is what the sequence is already.
    plain = replace(options, persistent=0, pdl=False, warp_specialize=False, consumers=0, descriptors=frozenset())
    return _BodyLowering(function, plain, f"{function.name}_{number}").body()


class _BodyLowering(Lowering):
    """Writes a kernel as a function whose program number is an argument."""

    def __init__(self, function: Function, options: Options, name: str) -> None:
        super().__init__(function, options)
        self.body_name = name
        self.tile, self.first, self.waits, self.replay = map(self.source.name, ("tile", "first", "waits", "replay"))

    def body(self) -> Body:
        """The function's text."""
        programs: Extent = Const(1)
        for axis in self.function.grid:
            programs = programs * axis.programs
        if programs.constant is None or not all(p.kind in ("array", "scalar") for p in self.parameters):
            other = [p.name for p in self.parameters if p.kind not in ("array", "scalar")]
            raise ZelligeError(
                "ZL0908", f"'{self.function.name}' has sizes or strides that are not known when it is compiled",
                facts={"parameters": ", ".join(other)}, help="leave the graph's form at 'launches'",
            )  # fmt: skip
        if programs.constant >= 1 << 30:
            raise ZelligeError(
                "ZL0908", f"'{self.function.name}' would run {programs.constant} programs; a sequence counts fewer than 2**30",
                help="leave the graph's form at 'launches'",
            )  # fmt: skip
        self._place(self.tile, [axis.programs for axis in self.function.grid])
        self.waiting(self.tile)
        names = [self.source.signature, self.tile, self.first, self.waits, self.replay]
        text = f"@triton.jit(noinline=True)\ndef {self.body_name}({', '.join(names)}):\n{self.source.render()}\n"
        return Body(self.body_name, text, self.parameters, programs.constant)

    def wait_for_earlier(self, rest: Sequence[Op], pid: str) -> None:
        with self.source.nest(f"if {self.first}:"):
            self.source.effect(f"_wait({self.waits}, {self.replay})")


def lower_sequence(name: str, bodies: Sequence[Body], layout: Layout) -> Lowered:
    """The kernel that runs any table over these bodies."""
    parts = [operators.PRELUDE, SYNCHRONISATION, *(f"{body.text}\n\n" for body in bodies)]
    lines = [
        "@triton.jit",
        f"def {name}(table, counters, launches, replay):",
        "    program = tl.program_id(0)",
        "    programs = tl.num_programs(0)",
        "    body = tl.load(table).to(tl.int32)",
        "    for launch in tl.range(0, launches, num_stages=1):",
        f"        row = table + launch * {layout.words}",
        f"        following = tl.load(row + {layout.words}).to(tl.int32)",
        f"        turn = program - tl.load(row + {BEGIN}).to(tl.int32)",
        "        turn = tl.where(turn < 0, turn + programs, turn)",
    ]
    for number, body in enumerate(bodies):
        lines += _branch(number, body, layout)
    lines.append("        body = following")
    parts.append("\n".join(lines) + "\n")
    parameters = (
        Parameter("table", "table", "*i64", multiple=16),
        Parameter("counters", "counters", "*i32", multiple=16),
        Parameter("launches", "launches", "i32"),
        Parameter("replay", "replay", "i32"),
    )
    return Lowered(name, "".join(parts), parameters, Const(1), ())


def _branch(number: int, body: Body, layout: Layout) -> list[str]:
    """The statements that run a launch of one body."""
    lines = [f"        {'if' if number == 0 else 'elif'} body == {number}:"]
    given = []
    for i, parameter in enumerate(body.parameters):
        loaded = f"tl.load(row + {layout.arguments_at + i})"
        name = f"argument_{i}"
        lines.append(f"            {name} = {_from_word(loaded, parameter)}")
        given.append(name)
    waits = []
    for i in range(layout.waits):
        at = layout.waits_at + 2 * i
        waits += [f"counters + tl.load(row + {at})", f"tl.load(row + {at + 1}).to(tl.int32)"]
    lines += [
        f"            waits = ({', '.join(waits)},)",
        f"            for tile in tl.range(turn, {body.tiles}, programs, num_stages=1):",
        f"                {body.name}({', '.join([*given, 'tile', 'tile == turn', 'waits', 'replay'])})",
        "                tl.debug_barrier()",
        f"            if turn < {body.tiles}:",
        "                _report(counters + launch)",
    ]
    return lines


_FROM_SIGNATURE = {text: TRITON_DTYPE[dtype] for dtype, text in operators.SIGNATURE.items() if dtype in TRITON_DTYPE}


def _from_word(word: str, parameter: Parameter) -> str:
    """An argument from 64 bits of the table: an address, an integer, or a float's bits."""
    if parameter.kind == "array":
        pointer = f"{word}.to(tl.pointer_type({_FROM_SIGNATURE[parameter.type.removeprefix('*')]}))"
        return f"tl.multiple_of({pointer}, {parameter.multiple})" if parameter.multiple > 1 else pointer
    kind = _FROM_SIGNATURE[parameter.type]
    if parameter.type in ("fp32", "fp64"):
        return f"{word}.to(tl.int{parameter.type[2:]}).to({kind}, bitcast=True)"
    return f"{word} != 0" if parameter.type == "i1" else f"{word}.to({kind})"


SYNCHRONISATION = '''@triton.jit
def _report(counter):
    """This program is done with its part of a launch: all its threads, since they have met."""
    tl.inline_asm_elementwise(
        "{ .reg .pred p; .reg .b32 t; mov.u32 t, %tid.x; setp.eq.u32 p, t, 0;"
        " @p red.release.gpu.global.add.u32 [$1], 1; mov.u32 $0, 0; }",
        "=r,l", [counter], dtype=tl.int32, is_pure=False, pack=1,
    )


@triton.jit
def _await(counter, programs, replay):
    """One thread waits until ``programs`` programs have reported in each of ``replay`` replays."""
    tl.inline_asm_elementwise(
        "{ .reg .pred p; .reg .b32 t, v; mov.u32 t, %tid.x; setp.ne.u32 p, t, 0; @p bra DONE;"
        " setp.eq.s32 p, $2, 0; @p bra DONE; mul.lo.s32 t, $2, $3;"
        " POLL: ld.acquire.gpu.global.s32 v, [$1]; sub.s32 v, v, t; setp.lt.s32 p, v, 0; @p bra POLL;"
        " DONE: mov.u32 $0, 0; }",
        "=r,l,r,r", [counter, programs, replay], dtype=tl.int32, is_pure=False, pack=1,
    )


@triton.jit
def _wait(waits, replay):
    """Waits for launches; all threads go on together once one has seen the last report."""
    for i in tl.static_range(len(waits) // 2):
        _await(waits[2 * i], waits[2 * i + 1], replay)
    tl.debug_barrier()


'''
