"""Cases of the larger tables of matrix products: 8-bit operands, Qwen3 prefill, experts, warp-specialised bf16."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cases import MODELS, Case

from zellige.backends.cuda.options import Options

WAYS: dict[str, dict[str, Any]] = {
    "": {},
    "persistent": {"persistent": 1},
    "flat": {"persistent": 1, "flatten": True},
    "ws": {"warp_specialize": True},
    "persistent-ws": {"persistent": 1, "warp_specialize": True},
}
"""How programs are scheduled. Triton 3.6 specialises warps on sm_90 only if it is asked for four of them."""
PREFILL_TOKENS = (128, 256, 512, 1024, 2048, 4096, 8192)
EXPERTS = {"E": 128, "C": 8, "K": 2048, "F": 768}
"""Qwen3-30B-A3B: experts, choices a token, width, width of an expert."""
WAVE = 132 * 128 * 128
"""Outputs of one 128 × 128 tile on each multiprocessor."""


def product_cases() -> Iterator[Case]:
    """All of them."""
    yield from _specialised()
    yield from _eight_bits()
    yield from _prefill()
    yield from _experts()


def _specialised() -> Iterator[Case]:
    from zellige.kernels import gpu_linear

    for n in (4096, 8192):
        for bm, bn, stages in ((128, 256, 3), (128, 128, 4)):
            for way in ("ws", "persistent-ws"):
                for outs in ("abc", "ab"):
                    options = Options(num_warps=4, num_stages=stages, descriptors=frozenset(outs), **WAYS[way])
                    name, dims = f"{bm}-{bn}-s{stages}-{way}-{outs}", dict(M=n, N=n, K=n)
                    yield Case("gemm_ws", f"{n}", name, gpu_linear.matmul, dict(BM=bm, BN=bn, BK=64), dims, options)


def _eight_bits() -> Iterator[Case]:
    from zellige.kernels import gpu_quantised

    boxes = frozenset("xwy")
    tiles = ((128, 128, 8, 4), (128, 128, 8, 3), (256, 128, 8, 3), (64, 256, 8, 4), (128, 128, 16, 4), (128, 128, 4, 3))
    for n in (4096, 8192):
        dims = dict(M=n, N=n, K=n)
        for kernel, table in ((gpu_quantised.scaled_linear, "fp8"), (gpu_quantised.scaled_linear_int8, "int8")):
            wide = ((128, 256, 8, 3),) if table == "int8" else ()
            for bm, bn, warps, stages in (*tiles, *wide):
                for way, extra in WAYS.items():
                    if way.endswith("ws") == (warps == 4):
                        options = Options(num_warps=warps, num_stages=stages, descriptors=boxes, **extra)
                        name, statics = f"{bm}-{bn}-w{warps}-s{stages}-{way}", dict(BM=bm, BN=bn, BK=128)
                        yield Case(table, f"{n}", name, kernel, statics, dims, options)
        for bm, warps, stages in ((128, 8, 4), (128, 8, 3), (64, 4, 4)):
            for way in ("", "persistent"):
                options = Options(num_warps=warps, num_stages=stages, descriptors=boxes, **WAYS[way])
                kernel, name = gpu_quantised.block_scaled_linear, f"{bm}-128-w{warps}-s{stages}-{way}"
                yield Case("fp8_blocks", f"{n}", name, kernel, dict(BM=bm), dims, options)


def projections(model: str) -> dict[str, tuple[int, int]]:
    """Output and input features of the products of one layer of Qwen3."""
    d, heads, f = MODELS[model]
    return {"qkv": ((heads + 16) * 128, d), "o": (d, heads * 128), "gate-up": (2 * f, d), "down": (d, f)}


def _tiles(outputs: int) -> tuple[tuple[int, int, int, int, int, str], ...]:
    """Schedules worth measuring for so many outputs: rows, columns, depth, warps, stages, way."""
    small = ((64, 64, 128, 4, 4, ""), (64, 128, 64, 4, 5, ""), (128, 64, 128, 4, 4, "tma"))
    middle = ((128, 128, 64, 8, 4, ""), (128, 128, 64, 4, 4, "tma"), (128, 256, 64, 8, 3, "tma"))
    large = ((128, 256, 64, 8, 3, "flat"), (128, 256, 64, 8, 4, "tma"), (128, 128, 64, 8, 4, "flat"))
    if outputs < WAVE:
        return (*small, *middle[:2])
    return (*small[2:], *middle, large[0]) if outputs < 8 * WAVE else (*middle, *large)


def _prefill() -> Iterator[Case]:
    """Where tiles are fewer than multiprocessors, also split along the depth and then summed."""
    from zellige.ir.dtypes import bf16
    from zellige.kernels import batch, gpu_linear

    rows = {(m, *sizes) for model in MODELS for sizes in projections(model).values() for m in PREFILL_TOKENS}
    for m, n, k in sorted(rows):
        row = f"{m}x{n}x{k}"
        for bm, bn, bk, warps, stages, way in _tiles(m * n):
            boxes = frozenset("xwy") if way == "flat" else frozenset("xw") if way == "tma" else frozenset()
            options = Options(num_warps=warps, num_stages=stages, descriptors=boxes, **WAYS.get(way, {}))
            name, statics = f"{bm}-{bn}-{bk}-w{warps}-s{stages}-{way}", dict(BM=bm, BN=bn, BK=bk)
            yield Case("prefill", row, name, gpu_linear.linear, statics, dict(M=m, N=n, K=k), options)
        if m * n >= WAVE:
            continue
        parts = min(8, -(-WAVE // (m * n)), k // 256)
        depth = -(-k // parts // 128) * 128
        sized = dict(T=m, N=n, K=k, PARTS=-(-k // depth))
        for bm, bn, warps in ((64, 128, 4), (128, 128, 8)):
            statics, name = dict(BM=bm, BN=bn, BK=64, DEPTH=depth), f"parts{sized['PARTS']}-{bm}-{bn}-w{warps}"
            yield Case("prefill", row, name, batch.linear_parts, statics, sized, Options(num_warps=warps, num_stages=4))
        whole = dict(T=m, N=n, PARTS=sized["PARTS"])
        yield Case("prefill", row, "sum", batch.sum_parts, dict(BN=512), whole, Options(), {"Y": bf16})


def _experts() -> Iterator[Case]:
    """Grouped products of a mixture of experts, for few and many tokens: gate and up together, and down."""
    from zellige.kernels import gpu_moe

    e, c, k, f = (EXPERTS[name] for name in "ECKF")
    tiles = (
        (16, 128, 64, 4, 5),
        (16, 64, 128, 4, 4),
        (32, 128, 64, 4, 4),
        (64, 128, 64, 4, 4),
        (128, 128, 64, 8, 3),
        (128, 256, 64, 8, 3),
    )
    for tokens in (16, 256, 4096):
        for name, inner, outer in (("gate-up", k, 2 * f), ("down", f, k)):
            for bm, bn, bk, warps, stages in tiles:
                if not tokens * c // e // 4 <= bm <= max(tokens * c // e, 16) * 2:
                    continue
                for way in ("", "tma"):
                    options = Options(num_warps=warps, num_stages=stages, descriptors=frozenset("w" if way else ""))
                    variant, dims = (
                        f"{bm}-{bn}-{bk}-w{warps}-s{stages}-{way}",
                        dict(PAIRS=tokens * c, E=e, K=inner, N=outer),
                    )
                    statics = dict(BM=bm, BN=bn, BK=bk)
                    yield Case("experts", f"{tokens} {name}", variant, gpu_moe.grouped_linear, statics, dims, options)
