"""Running sums that cut a dimension into segments: making one, and finding the segment that a position lies in.

The grid of a ragged kernel has as many programs as its segments can have tiles at most, which shapes alone tell: no launch
waits to learn how long segments are. Each program finds its segment among the offsets in device memory, and those without a
tile end at once (the frontend put the rest of the kernel under that condition).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zellige.backends.cuda.expressions import Term
from zellige.backends.cuda.padding import power_of_two, tile_extent
from zellige.diagnostics.errors import ZelligeError
from zellige.ir import dtypes, ops
from zellige.passes.intervals import Interval, of_extent

if TYPE_CHECKING:
    from zellige.backends.cuda.lowering import Lowering

COUNTED_AT_ONCE = 1024
"""Up to so many segments a scalar search is one load of all starts and a sum; beyond it halves, one load after the other."""


def lower_segment(lowering: Lowering, op: ops.Segment) -> None:
    """Writes a search: how many of the segments 1 … S−1 start at or before the position."""
    x, bind = lowering.x, lowering.source.bind
    array = lowering.function.array(op.array)
    count = array.shape[0] - 1
    segments = x.extent(count)
    assert array.contract is not None
    farthest = of_extent(array.contract.bound) + of_extent(count)
    wide = x.is_wide(op.position) or not farthest.fits_32
    position = x.widened(op.position, wide)
    integer = "tl.int64" if wide else "tl.int32"
    stride = lowering.memory.strides(array)[0].term.text
    pointer = lowering.source.parameter("array", op.array)

    def starts(at: str, mask: str) -> str:
        """The position at which segment ``at`` starts; what is loaded is new each time."""
        place = at if stride == "1" else f"{at}.to(tl.int64) * {stride}"
        text = f"tl.load({pointer} + {place}, mask={mask}, other=0{lowering.memory.past_first_cache(op.array)})"
        loaded = lowering.source.load(f"{text}.to({integer})", "start")
        return loaded if op.tile is None else bind(f"{loaded} // {op.tile} + {at}", "start")

    if not op.result.type.rank and count.constant is not None and count.constant <= COUNTED_AT_ONCE:
        number = bind(f"tl.arange(0, {power_of_two(max(count.constant, 1))})", "number")
        after = bind(f"({number} > 0) & ({number} < {segments.text})", "after")
        before = f"{after} & ({starts(number, after)} <= {position})"
        found = lowering.source.load(f"tl.sum(({before}).to(tl.int32), 0)", "segment")
    else:
        # In every round all segments up to `segment` start at or before the position, by steps of halving powers of two.
        rounds = 31 if count.constant is None else max(count.constant - 1, 0).bit_length()
        found = lowering.source.name("segment")
        shape = x.shape(op.result) if op.result.type.rank else "()"
        lowering.source.assign(found, f"tl.full({shape}, 0, tl.int32)")
        turn = lowering.source.name("round")
        with lowering.source.nest(f"for {turn} in tl.range({rounds}):"):
            probe = lowering.source.load(f"{found} + (1 << ({rounds - 1} - {turn}))", "probe")
            exists = lowering.source.load(f"{probe} < {segments.text}", "exists")
            if count.constant is None:  # a step so long that the sum wraps is one past the end
                exists = lowering.source.load(f"{exists} & ({probe} > 0)", "exists")
            start = starts(probe, exists)
            lowering.source.assign(found, f"tl.where({exists} & ({start} <= {position}), {probe}, {found})")
        lowering.source.forget([found])
    if x.is_wide(op.result):
        found = lowering.source.load(f"{found}.to(tl.int64)", "segment")
    x.define(op.result, Term(found))


def lower_offsets(lowering: Lowering, op: ops.Offsets) -> None:
    """Writes a running sum in 64 bits. ZelligeError ZL0906 if it is not known to fit."""
    x, bind = lowering.x, lowering.source.bind
    dtype, count = op.lengths.type.dtype, tile_extent(op.lengths.type.shape[0], op.lengths)
    total = lowering.bounds.of(op.total)
    if not (Interval(0, max(total.high, 0)) * Interval(0, max(count, 1))).within(Interval(0, (1 << 62) - 1)):
        raise ZelligeError(
            "ZL0906", f"the running sum of {count} lengths might not fit in 64 bits: their total is not known to be small",
            facts={"total": f"at most {total.high}"}, help="give zl.offsets an extent as total", span=op.span,
        )  # fmt: skip
    limit = bind(f"tl.maximum({x.typed(op.total)}, 0).to(tl.int64)", "limit")
    lengths = x.typed(op.lengths)
    if dtype is dtypes.u64:  # the larger ones would be negative as signed numbers
        lengths = bind(f"tl.minimum({lengths}, {limit}.to(tl.uint64)).to(tl.int64)", "length")
    lengths = bind(f"tl.minimum(tl.maximum({lengths}.to(tl.int64), 0), {limit})", "length")
    lengths = x.where_true(op.lengths, lengths, (0,), "0")
    before = bind(f"tl.cumsum({lengths}, 0) - {lengths}", "before")
    last = bind(f"tl.arange(0, {x.padding.extent(op.result, 0)}) >= {count}", "last")
    text = f"tl.where({last}, {limit}, tl.minimum({before}, {limit}))"
    x.bind(op.result, f"{text}.to({x.dtype(op.result)})")
