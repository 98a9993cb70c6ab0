"""Updates of ``Acc`` arrays: an atomic instruction where there is one, else a loop of compare-and-swap.

Numbers of 16 bits have a compare-and-swap of their own. Those of 8 bits have none: a word around one may reach past the array's
end, so they are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zellige.backends.cuda import operators
from zellige.backends.cuda.operators import TRITON_DTYPE
from zellige.diagnostics.errors import ZelligeError
from zellige.ir import ops

if TYPE_CHECKING:
    from zellige.backends.cuda.lowering import Lowering


def lower_update(lowering: Lowering, op: ops.Update) -> None:
    """Writes an update. ZelligeError ZL0907 if there is no way to make it one step on a GPU."""
    dtype = lowering.function.array(op.array).dtype
    change = f"{lowering.x.typed(op.value)}{lowering.storage(op.array)}"
    if dtype.name in operators.ATOMIC[op.op]:
        lowering.source.effect(lowering.memory.store_text(op, operators.UPDATE[op.op], change))
    elif dtype.bits == 16:
        _exchange(lowering, op, change)
    else:
        raise ZelligeError(
            "ZL0907", f"GPUs have no atomic '{op.op.value}' of {dtype}",
            facts={"they have": ", ".join((*operators.ATOMIC[op.op], *operators.EXCHANGED[op.op]))},
            help="declare the Acc array with one of these types", span=op.span,
        )  # fmt: skip


def _exchange(lowering: Lowering, op: ops.Update, change: str) -> None:
    """Each lane reads the element, combines, and swaps if nobody else did meanwhile; until all active lanes have succeeded."""
    x, source = lowering.x, lowering.source
    array = lowering.function.array(op.array)
    dtype = TRITON_DTYPE[array.dtype]
    word = "tl.pointer_type(tl.int16)"
    pointer, mask = lowering.memory.pointer(array, op.index, op.value), lowering.memory.mask(op.masks, op.value)
    shape = x.shape(op.value) if op.value.type.rank else "[1]"
    pointer = source.load(f"({pointer} + tl.zeros({shape}, tl.int32)).to({word}, bitcast=True)", "word")
    value = source.load(
        f"tl.broadcast_to({change}, {shape})" if op.value.type.rank else f"tl.full({shape}, {change}, {dtype})", "value"
    )
    pending, going = source.name("pending"), source.name("going")
    everywhere = f"tl.full({shape}, 1, tl.int1)"
    source.assign(pending, everywhere if mask is None else f"{everywhere} & ({mask})")
    # an inactive lane looks at element 0, which exists where any lane is active, and swaps it for itself
    place = source.load(f"tl.where({pending}, {pointer}, {op.array}.to({word}, bitcast=True))", "place")
    some = f"tl.max({pending}.to(tl.int32), None) != 0"
    source.assign(going, some)
    zero = source.bind(f"tl.zeros({shape}, tl.int16)", "zero")
    with source.nest(f"while {going}:"):
        # swapping 0 for 0 reads the element; carrying what the other swap saw instead is more than Triton 3.6 compiles
        old = source.load(f'tl.atomic_cas({place}, {zero}, {zero}, sem="relaxed")', "old")
        combined = operators.COMBINE[op.op].format(x=f"{old}.to({dtype}, bitcast=True)", y=value)
        new = source.load(f"({combined}).to({dtype}).to(tl.int16, bitcast=True)", "new")
        seen = source.load(f'tl.atomic_cas({place}, {old}, tl.where({pending}, {new}, {old}), sem="relaxed")', "seen")
        source.assign(pending, f"{pending} & ({seen} != {old})")
        source.assign(going, some)
    source.forget([pending, going])
