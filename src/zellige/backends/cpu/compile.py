"""The backend's interface: a tile function in, a callable kernel out.

kernel = compile(function, {"K": 576, "N": 1536})
pool.launch(kernel.entry_address, kernel.pack(arrays, dims, scalars), kernel.num_programs(dims))
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from zellige.backends.cpu import tiles
from zellige.backends.cpu.cache import cache_folder
from zellige.backends.cpu.context import Array, Context, row_major
from zellige.backends.cpu.convert import register_type
from zellige.backends.cpu.emit import Emitter, Int, Reg
from zellige.backends.cpu.expression import evaluate, extent_int
from zellige.backends.cpu.lower import Lowering
from zellige.backends.cpu.objects import assembly, load, object_code
from zellige.backends.cpu.plan import materialised_values, shares_operands
from zellige.backends.cpu.streaming import fence
from zellige.backends.cpu.target import Target
from zellige.backends.cpu.target import target as named_target
from zellige.diagnostics.errors import ZelligeError
from zellige.ir import dtypes, ops
from zellige.ir.dtypes import DType, Kind
from zellige.ir.extent import Extent
from zellige.ir.ops import Function
from zellige.ir.printer import text
from zellige.ir.types import Role
from zellige.ir.walk import definitions, results, walk
from zellige.passes.bounds import bounds_of_values
from zellige.passes.simplify import simplify

_STACK_LIMIT = 1 << 20  # scratch beyond this is taken from the heap for each call
_ALLOCATED = """define internal noalias ptr @zellige_allocated(i64 %bytes) nounwind {
  %memory = call ptr @aligned_alloc(i64 64, i64 %bytes)
  %none = icmp eq ptr %memory, null
  br i1 %none, label %fail, label %done
fail:
  call void @llvm.trap()
  unreachable
done:
  ret ptr %memory
}"""


@dataclass(frozen=True, slots=True)
class Slot:
    """One 64-bit argument word.

    `pointer`: address of array `name`'s first element. `stride`: of its `axis`, in elements. `dim`: value of dim `name`.
    `scalar`: the bits of scalar `name` (floats: their own width, integers sign-extended). `flag`: address of an i64 that
    a failing guard sets to 1 + its position in `guards`.
    """

    kind: Literal["pointer", "stride", "dim", "scalar", "flag"]
    name: str = ""
    axis: int = 0
    dtype: DType | None = None


@dataclass(frozen=True)
class CompiledKernel:
    """Machine code of one specialised function: `void entry(i64* slots, i64 program_begin, i64 program_end)`."""

    name: str
    entry_address: int
    slots: tuple[Slot, ...]
    grid: tuple[Extent, ...]
    """Programs on each grid axis, over the dims that are left to run time."""
    guards: tuple[str, ...]
    target: Target
    function: Function = field(repr=False)
    strided: frozenset[str] = frozenset()

    @cached_property
    def claims(self) -> int:
        """How many times a thread should come for programs: less often where they share what one of them prepares."""
        return 2 if shares_operands(self.function) else 8

    def num_programs(self, dims: Mapping[str, int] | None = None) -> int:
        """How many programs the grid has. KeyError if a run-time dim is missing; ZelligeError ZL0516 of more than are counted."""
        total = 1
        for programs in self.grid:
            value = programs.substitute(dims or {}).constant
            if value is None:
                raise KeyError(
                    f"{self.name}: dims {sorted(programs.dims() - set(dims or {}))} are needed to count programs"
                )
            total *= value
        if total >= 1 << 62:
            raise ZelligeError(
                "ZL0516", f"'{self.name}' would run {total} programs; a launch counts fewer than 2**62",
                facts=dict(dims or {}), help="give each program more to do",
            )  # fmt: skip
        return total

    def pack(
        self,
        arrays: Mapping[str, int],
        dims: Mapping[str, int] | None = None,
        scalars: Mapping[str, int | float] | None = None,
        strides: Mapping[str, tuple[int, ...]] | None = None,
        flag: int = 0,
    ) -> list[int]:
        """The argument words for a launch: array addresses, run-time dims, scalars, strides (elements) of strided arrays."""
        words = []
        for slot in self.slots:
            match slot.kind:
                case "pointer":
                    words.append(arrays[slot.name])
                case "stride":
                    words.append((strides or {})[slot.name][slot.axis])
                case "dim":
                    words.append((dims or {})[slot.name])
                case "scalar":
                    assert slot.dtype is not None
                    words.append(scalar_word((scalars or {})[slot.name], slot.dtype))
                case "flag":
                    words.append(flag)
        return words

    @property
    def listing(self) -> Listing:
        """Its code as text."""
        return Listing(self.function, self.target, self.strided)


@dataclass(frozen=True, slots=True)
class Listing:
    """The code of a specialised function as text, for any target, whether or not this machine runs it."""

    function: Function
    target: Target
    strided: frozenset[str] = frozenset()

    @property
    def llvm_text(self) -> str:
        """The generated LLVM module, before LLVM's own passes."""
        return _generate(self.function, self.target, self.strided)

    @property
    def asm_text(self) -> str:
        """The machine code as assembly."""
        return assembly(self.llvm_text, self.target)


def listing(function: Function, dims: Mapping[str, int] | None = None, target: str | Target = "host") -> Listing:
    """A verified `function` with `dims` fixed, as text for `target`.

    Errors: ZL0518 (no such target), ZL0519 (a tile's shape depends on a dim that is not fixed).
    """
    chosen = named_target(target) if isinstance(target, str) else target
    return Listing(_specialised(function, dims), chosen)


def _specialised(function: Function, dims: Mapping[str, int] | None) -> Function:
    """`function` with `dims` fixed. ZelligeError ZL0519 if that leaves a tile without a shape."""
    found = simplify(function, dims)
    open_: set[str] = set()
    for op in walk(found.body):
        for value in results(op):
            open_ |= {dim for extent in value.type.shape for dim in extent.dims()}
    if open_:
        names = ", ".join(sorted(open_))
        raise ZelligeError(
            "ZL0519",
            f"'{function.name}' has tiles whose shape depends on {names}: machine code needs numbers",
            facts={"fixed": ", ".join(f"{name}={value}" for name, value in (dims or {}).items()) or "nothing"},
            help=f"fix {names} when the kernel is compiled, or use spans of a static extent",
        )
    return found


def scalar_word(value: int | float, dtype: DType) -> int:
    """A scalar argument as the i64 that its slot holds."""
    if dtype is dtypes.f64:
        return int(struct.unpack("<q", struct.pack("<d", float(value)))[0])
    if dtype is dtypes.f32:
        return int(struct.unpack("<i", struct.pack("<f", float(value)))[0])
    if dtype.is_float:
        from zellige.backends.cpu.convert import literal

        return int(literal(value, dtype, named_target("generic")).ref)
    wrapped = int(value) & (2**64 - 1)
    return wrapped - (1 << 64) if wrapped >> 63 else wrapped


def compile(
    function: Function,
    dims: Mapping[str, int] | None = None,
    target: str | Target = "host",
    *,
    strided: frozenset[str] = frozenset(),
    cache: Path | Literal["user"] | None = "user",
) -> CompiledKernel:
    """Machine code for a verified `function` with `dims` fixed; all other dims are run-time arguments.

    Arrays are row-major without gaps, except those named in `strided`, whose strides become arguments. `cache` is the
    folder of compiled objects (None: keep nothing). Errors: ZL0518 (no such target, or one that this machine does not
    run), ZL0519 (a tile's shape depends on a dim that is not fixed).
    """
    chosen = named_target(target) if isinstance(target, str) else target
    if not chosen.runs_here:
        raise _foreign(chosen)
    specialised = _specialised(function, dims)
    content = "\n".join([text(specialised), *sorted(strided)])
    code = object_code(
        content, lambda: _generate(specialised, chosen, strided), chosen, cache_folder() if cache == "user" else cache
    )
    symbol = _symbol(function)
    address = load(code, (symbol,))[symbol]
    return CompiledKernel(
        name=function.name,
        entry_address=address,
        slots=_slots(specialised, strided),
        grid=tuple(axis.programs for axis in specialised.grid),
        guards=tuple(op.message for op in walk(specialised.body) if isinstance(op, ops.Guard)),
        target=chosen,
        function=specialised,
        strided=strided,
    )


def _foreign(chosen: Target) -> ZelligeError:
    host = named_target()
    lacking = ", ".join(sorted(chosen.needs - host.needs)) if chosen.arm == host.arm else "another architecture"
    return ZelligeError(
        "ZL0518",
        f"this machine does not run code for '{chosen.name}'",
        facts={"lacking": lacking, "this machine": host.triple},
        help="leave the target out to use what the machine has; `zellige show --stage asm --target` only shows code",
    )


def _symbol(function: Function) -> str:
    plain = "".join(c if c.isalnum() and c.isascii() else "_" for c in function.name)
    return f"zellige_{plain}"


def _slots(function: Function, strided: frozenset[str]) -> tuple[Slot, ...]:
    slots = [Slot("pointer", a.name) for a in function.arrays]
    slots += [Slot("stride", a.name, i) for a in function.arrays if a.name in strided for i in range(len(a.shape))]
    slots += [Slot("dim", name) for name in sorted(_run_time_dims(function))]
    slots += [Slot("scalar", s.name, dtype=s.dtype) for s in function.scalars]
    if any(isinstance(op, ops.Guard) for op in walk(function.body)):
        slots.append(Slot("flag"))
    return tuple(slots)


def _run_time_dims(function: Function) -> frozenset[str]:
    found = function.dims()
    for op in walk(function.body):
        if isinstance(op, ops.ExtentValue):
            found |= op.extent.dims()
    return found


def _generate(function: Function, target: Target, strided: frozenset[str]) -> str:
    """LLVM text of a specialised function."""
    e = Emitter()
    ctx = Context(e, target, function, definitions(function.body), bounds_of_values(function))
    ctx.evaluate = lambda value, position: evaluate(ctx, value, position)
    slots = _slots(function, strided)
    words = _load_slots(e, slots)
    _bind(ctx, function, slots, words, strided)
    lowering = Lowering(ctx, materialised_values(function))
    counts = ctx.program_counts = [extent_int(ctx, axis.programs) for axis in function.grid]

    def program(p: Int, _: list[Reg]) -> tuple[()]:
        ctx.program_ids = _program_ids(e, p, counts)
        lowering.block(function.body)
        return ()

    e.loop(Reg("%begin", "i64"), Reg("%end", "i64"), 1, (), program)
    return _module(e, ctx, _symbol(function))


def _load_slots(e: Emitter, slots: tuple[Slot, ...]) -> list[Reg]:
    words = []
    for i, slot in enumerate(slots):
        at = e.offset(Reg("%slots", "ptr"), 8 * i)
        words.append(e.load(at, "ptr" if slot.kind in ("pointer", "flag") else "i64", 0, 8))
    return words


def _bind(ctx: Context, function: Function, slots: tuple[Slot, ...], words: list[Reg], strided: frozenset[str]) -> None:
    """Gives arrays, dims and scalars their registers."""
    e = ctx.emitter
    pointers: dict[str, Reg] = {}
    strides: dict[str, list[Int]] = {}
    for slot, word in zip(slots, words, strict=True):
        match slot.kind:
            case "pointer":
                pointers[slot.name] = word
            case "stride":
                strides.setdefault(slot.name, []).append(word)
            case "dim":
                ctx.extents[slot.name] = word
            case "scalar":
                assert slot.dtype is not None
                ctx.parameters[slot.name] = _scalar_register(e, word, slot.dtype)
            case "flag":
                ctx.flag = word
    count = len(function.arrays)
    scratch_scope = count
    ctx.scratch_metadata = (
        f", !alias.scope !{_scope_list(count, scratch_scope)}, !noalias !{_others_list(count, scratch_scope)}"
    )
    ctx.past_caches = f", !nontemporal !{_past_caches(count)}"
    for i, array in enumerate(function.arrays):
        steps = strides.get(array.name) or _contiguous_strides(ctx, array.shape)
        metadata = f", !alias.scope !{_scope_list(count, i)}, !noalias !{_others_list(count, i)}"
        invariant = ", !invariant.load !0" if array.role is Role.IN else ""
        ctx.arrays[array.name] = Array(
            array.name, pointers[array.name], array.dtype, tuple(steps), metadata + invariant, metadata
        )


def _contiguous_strides(ctx: Context, shape: tuple[Extent, ...]) -> list[Int]:
    if all(extent.constant is not None for extent in shape):
        return list(row_major(tuple(int(extent.constant or 0) for extent in shape)))
    steps: list[Int] = []
    step: Int = 1
    for extent in reversed(shape):
        steps.append(step)
        step = ctx.emitter.mul(step, extent_int(ctx, extent))
    return steps[::-1]


def _scalar_register(e: Emitter, word: Reg, dtype: DType) -> Reg:
    if dtype is dtypes.f64:
        return e.convert("bitcast", word, "double")
    if dtype is dtypes.f32:
        return e.convert("bitcast", e.convert("trunc", word, "i32"), "float")
    if dtype.is_bool:
        return e.compare("icmp", "ne", word, Reg("0", "i64"))
    type_ = register_type(dtype)
    return word if type_ == "i64" or dtype.kind is Kind.INDEX else e.convert("trunc", word, type_)


def _program_ids(e: Emitter, p: Int, counts: list[Int]) -> list[Int]:
    """The position of linear program `p` on each grid axis, the last varying fastest."""
    ids: list[Int] = []
    rest = p
    for i, count in reversed(list(enumerate(counts))):
        if count == 1:
            ids.append(0)
        elif i == 0:
            ids.append(rest)
        else:
            ids.append(e.urem(rest, count))
            rest = e.udiv(rest, count)
    return ids[::-1]


# Metadata numbering: 0 empty, 1 domain, then scopes, then for each scope its own list and the list of the others.
def _scope_list(count: int, i: int) -> int:
    return 2 + (count + 1) + 2 * i


def _others_list(count: int, i: int) -> int:
    return _scope_list(count, i) + 1


def _past_caches(count: int) -> int:
    return _scope_list(count, count + 1)


def _metadata(count: int) -> list[str]:
    """Alias scopes: every array's memory, and scratch memory, overlaps no other's that is written."""
    scopes = range(count + 1)
    lines = ["!0 = !{}", "!1 = distinct !{!1}"]
    lines += [f"!{2 + i} = distinct !{{!{2 + i}, !1}}" for i in scopes]
    for i in scopes:
        lines.append(f"!{_scope_list(count, i)} = !{{!{2 + i}}}")
        lines.append(f"!{_others_list(count, i)} = !{{{', '.join(f'!{2 + j}' for j in scopes if j != i)}}}")
    lines.append(f"!{_past_caches(count)} = !{{i32 1}}")
    return lines


def _module(e: Emitter, ctx: Context, symbol: str) -> str:
    entry, leave = _scratch(e, ctx.scratch_bytes)
    tiles_begin, tiles_end = (tiles.begin(e), tiles.end(e)) if ctx.uses_tiles else ([], [])
    fences = fence(ctx) if ctx.fences else []
    width = ctx.target.vector_bits
    lines = [
        *e.globals,
        *sorted(e.declarations),
        "",
        f"define void @{symbol}(ptr noalias readonly %slots, i64 %begin, i64 %end) #0 {{",
        "entry:",
        *entry,
        *tiles_begin,
        *e.entry,
        *e.body,
        *tiles_end,
        *fences,
        *leave,
        "  ret void",
        "}",
        "",
        f'attributes #0 = {{ nounwind "prefer-vector-width"="{width}" "min-legal-vector-width"="{width}" }}',
        *_metadata(len(ctx.function.arrays)),
    ]
    return "\n".join(lines) + "\n"


def _scratch(e: Emitter, bytes_: int) -> tuple[list[str], list[str]]:
    """Instructions that provide and release the function's scratch memory. ZelligeError ZL0506 of more than the machine has.

    Where there is no memory for it the process ends: there is nothing that the function could write to."""
    if bytes_ > (memory := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
        raise ZelligeError(
            "ZL0506", f"a program's tiles need {bytes_} bytes of scratch memory, and this machine has {memory}",
            help="go over long axes in spans: for cols in N.tiles(64)",
        )  # fmt: skip
    if not bytes_:
        return ["  %scratch = inttoptr i64 64 to ptr"], []
    if bytes_ <= _STACK_LIMIT:
        return [f"  %scratch = alloca [{bytes_} x i8], align 64"], []
    e.declare("ptr @aligned_alloc(i64, i64)")
    e.declare("void @free(ptr)")
    e.declare("void @llvm.trap()")
    e.globals.append(_ALLOCATED)
    rounded = -(-bytes_ // 64) * 64
    return [f"  %scratch = call ptr @zellige_allocated(i64 {rounded})"], ["  call void @free(ptr %scratch)"]
