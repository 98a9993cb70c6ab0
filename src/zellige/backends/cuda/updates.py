"""Updates of ``Acc`` arrays: an atomic instruction where there is one, else a loop of compare-and-swap.

The smallest word that GPUs swap has 16 bits. A number of 8 bits is swapped with the other byte of the aligned word around it, as it
stands there: if another program changes that byte meanwhile, the swap fails and is tried again. The word is always there, even around
an array's first or last byte: memory is allocated at even addresses and in even sizes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zellige.backends.cuda import operators
from zellige.backends.cuda.operators import TRITON_DTYPE
from zellige.ir import ops
from zellige.ir.dtypes import DType

if TYPE_CHECKING:
    from zellige.backends.cuda.lowering import Lowering

_WORD = "tl.pointer_type(tl.int16)"


def lower_update(lowering: Lowering, op: ops.Update) -> None:
    """Writes an update."""
    dtype = lowering.function.array(op.array).dtype
    change = f"{lowering.x.typed(op.value)}{lowering.storage(op.array)}"
    if dtype.name in operators.ATOMIC[op.op]:
        lowering.source.effect(lowering.memory.store_text(op, operators.UPDATE[op.op], change))
    else:
        _exchange(lowering, op, change)


def _exchange(lowering: Lowering, op: ops.Update, change: str) -> None:
    """Each lane reads the word, combines, and swaps if nobody else did meanwhile; until all active lanes have succeeded."""
    x, source = lowering.x, lowering.source
    array = lowering.function.array(op.array)
    dtype = TRITON_DTYPE[array.dtype]
    pointer, mask = lowering.memory.pointer(array, op.index, op.value), lowering.memory.mask(op.masks, op.value)
    shape = x.shape(op.value) if op.value.type.rank else "[1]"
    pointer = source.load(f"{pointer} + tl.zeros({shape}, tl.int32)", "element")
    value = source.load(
        f"tl.broadcast_to({change}, {shape})" if op.value.type.rank else f"tl.full({shape}, {change}, {dtype})", "value"
    )
    pending, going = source.name("pending"), source.name("going")
    everywhere = f"tl.full({shape}, 1, tl.int1)"
    source.assign(pending, everywhere if mask is None else f"{everywhere} & ({mask})")
    # an inactive lane looks at element 0, which exists where any lane is active, and swaps its word for itself
    first = source.parameter("array", op.array)
    place = source.load(f"tl.where({pending}, {pointer}, {first})", "place")
    if array.dtype.bits == 16:
        shift = ""
        place = source.load(f"{place}.to({_WORD}, bitcast=True)", "place")
    else:
        address = source.load(f"{place}.to(tl.int64)", "address")
        shift = source.load(f"(({address} & 1) * 8).to(tl.int16)", "shift")
        place = source.load(f"({address} & -2).to({_WORD})", "place")
    some = f"tl.max({pending}.to(tl.int32), None) != 0"
    source.assign(going, some)
    zero = source.bind(f"tl.zeros({shape}, tl.int16)", "zero")
    with source.nest(f"while {going}:"):
        # swapping 0 for 0 reads the word; carrying what the other swap saw instead is more than Triton 3.6 compiles
        old = source.load(f'tl.atomic_cas({place}, {zero}, {zero}, sem="relaxed")', "old")
        if shift:
            byte = source.load(f"(({old} >> {shift}) & 255).to(tl.uint8)", "byte")
            number = _of_byte(byte, array.dtype)
            combined = _as_byte(lowering, _combined(lowering, op.op, number, value, array.dtype), array.dtype)
            byte = source.load(f"{combined}.to(tl.int16) << {shift}", "byte")
            kept = source.load(f"{old} & ~(tl.full({shape}, 255, tl.int16) << {shift})", "kept")
            new = source.load(f"{kept} | {byte}", "new")
        else:
            number = source.load(f"{old}.to({dtype}, bitcast=True)", "number")
            combined = _combined(lowering, op.op, number, value, array.dtype)
            new = source.load(f"{combined}.to({dtype}).to(tl.int16, bitcast=True)", "new")
        seen = source.load(f'tl.atomic_cas({place}, {old}, tl.where({pending}, {new}, {old}), sem="relaxed")', "seen")
        source.assign(pending, f"{pending} & ({seen} != {old})")
        source.assign(going, some)
    source.forget([pending, going])


def _combined(lowering: Lowering, op: ops.UpdateOp, number: str, value: str, dtype: DType) -> str:
    """Two numbers of ``dtype`` combined; those of fp8 as f32."""
    if dtype.is_float and dtype.bits == 8:
        number, value = f"{number}.to(tl.float32)", f"{value}.to(tl.float32)"
    return lowering.source.load(operators.COMBINE[op].format(x=number, y=value), "combined")


def _of_byte(byte: str, dtype: DType) -> str:
    """The number that a byte holds."""
    return f"({byte} != 0)" if dtype.is_bool else f"{byte}.to({TRITON_DTYPE[dtype]}, bitcast=True)"


def _as_byte(lowering: Lowering, number: str, dtype: DType) -> str:
    """A number (of fp8: as f32) as the byte that holds it."""
    if dtype.is_float:
        number = lowering.as_fp8(number, dtype)
    return f"{number}.to(tl.uint8)" if dtype.is_bool else f"{number}.to(tl.uint8, bitcast=True)"
