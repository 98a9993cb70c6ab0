"""A kernel that does nothing but meet at grid-wide barriers, by hand in Triton, for ``table_persistent.py``."""

from __future__ import annotations

import triton
import triton.language as tl

WAYS = {0: "acquire polls", 1: "relaxed polls and a fence", 2: "one counter that turns"}


@triton.jit
def _one_thread(text: tl.constexpr, counter, target):
    return tl.inline_asm_elementwise(
        "{ .reg .pred p; .reg .b32 t, v; mov.u32 $0, 0; mov.u32 t, %tid.x; setp.ne.u32 p, t, 0; @p bra DONE; "
        + text
        + " DONE: }",
        "=&r,l,r", [counter, target], dtype=tl.int32, is_pure=False, pack=1,
    )  # fmt: skip


@triton.jit
def _report(counter):
    _one_thread("red.release.gpu.global.add.u32 [$1], 1;", counter, 0)


@triton.jit
def _meet(counters, i, n, replay, way: tl.constexpr):
    tl.debug_barrier()
    if way == 2:
        counter = counters
        step = tl.where(tl.program_id(0) == 0, -2147483648 - (n - 1), 1)
        old = _one_thread("atom.add.release.gpu.global.u32 $0, [$1], $2;", counter, step)
        _one_thread(
            "POLL: ld.acquire.gpu.global.u32 v, [$1]; xor.b32 v, v, $2; setp.ge.s32 p, v, 0; @p bra POLL;", counter, old
        )
    else:
        _report(counters + 1 + i)
        if way == 0:
            _one_thread(
                "POLL: ld.acquire.gpu.global.s32 v, [$1]; sub.s32 v, v, $2; setp.lt.s32 p, v, 0; @p bra POLL;",
                counters + 1 + i,
                n * replay,
            )
        else:
            _one_thread(
                "POLL: ld.relaxed.gpu.global.s32 v, [$1]; sub.s32 v, v, $2; setp.lt.s32 p, v, 0; @p bra POLL; "
                "fence.acq_rel.gpu;",
                counters + 1 + i,
                n * replay,
            )
    tl.debug_barrier()


@triton.jit
def kernel(counters, data, out, rounds, replay, way: tl.constexpr, check: tl.constexpr):
    """``rounds`` barriers. ``check``: before each a program writes its line, after it it reads its neighbour's."""
    me, n = tl.program_id(0), tl.num_programs(0)
    lanes = tl.arange(0, 32)
    seen = tl.full((), 0, tl.int32)
    for i in tl.range(0, rounds, num_stages=1):
        half = data + (i % 2) * n * 32  # a line is written again only after everybody who read it has met once more
        if check:
            tl.store(half + me * 32 + lanes, tl.full((32,), 1, tl.int32) * (i + replay))
        _meet(counters, i, n, replay, way)
        if check:
            seen += tl.max(tl.load(half + ((me + 1) % n) * 32 + lanes), 0)
    if check:
        tl.store(out + me, seen)
