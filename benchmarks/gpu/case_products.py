"""Cases of the larger tables of matrix products: 8-bit operands, Qwen3 prefill, experts, warp-specialised bf16."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
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
    tiles = ((128, 128, 8, 4), (128, 128, 8, 3), (256, 128, 8, 3), (64, 256, 8, 4), (128, 256, 8, 3), (128, 128, 4, 3))
    for n in (4096, 8192):
        dims = dict(M=n, N=n, K=n)
        for bm, bn, warps, stages in tiles:
            for way, extra in WAYS.items():
                if way.endswith("ws") == (warps == 4):
                    options = Options(num_warps=warps, num_stages=stages, descriptors=boxes, **extra)
                    name, statics = f"{bm}-{bn}-w{warps}-s{stages}-{way}", dict(BM=bm, BN=bn, BK=128)
                    yield Case("int8", f"{n}", name, gpu_quantised.scaled_linear_int8, statics, dims, options)
        for bm, bh, warps, stages, outs, persistent in (
            (128, 128, 8, 3, "xw", 0), (128, 128, 8, 4, "xw", 0), (128, 128, 8, 4, "xw", 1), (128, 128, 8, 3, "xwy", 0),
            (128, 128, 8, 3, "xwy", 1), (128, 128, 8, 4, "", 0), (256, 64, 8, 4, "xw", 1), (128, 64, 4, 3, "xw", 2),
            (64, 128, 4, 3, "xw", 0), (64, 128, 4, 4, "xw", 1), (128, 64, 8, 3, "xw", 2),
        ):  # fmt: skip
            options = Options(num_warps=warps, num_stages=stages, descriptors=frozenset(outs), persistent=persistent)
            name, statics = f"halves-{bm}-{bh}-w{warps}-s{stages}-{outs}-p{persistent}", dict(BM=bm, BH=bh)
            yield Case("fp8", f"{n}", name, gpu_quantised.scaled_linear, statics, dims, options)
            if persistent:
                flat = replace(options, flatten=True)
                yield Case("fp8", f"{n}", f"{name}-flat", gpu_quantised.scaled_linear, statics, dims, flat)
        for bm, bh, stages in ((64, 128, 4), (64, 64, 6), (128, 64, 4)):
            for group in (8, 16):
                options = Options(
                    num_stages=stages, descriptors=frozenset("xw"), persistent=1, consumers=2, group=group
                )
                name, statics = f"groups2-{bm}-{bh}+{bh}-s{stages}-group{group}", dict(BM=bm, BH=bh)
                yield Case("fp8", f"{n}", name, gpu_quantised.scaled_linear, statics, dims, options)
        wide = Options(num_stages=4, descriptors=frozenset("xw"), persistent=1, consumers=2)
        yield Case(
            "int8", f"{n}", "groups2-64-256-s4", gpu_quantised.scaled_linear_int8, dict(BM=64, BN=256), dims, wide
        )
        for groups, stages in ((2, 6), (2, 5), (3, 5), (3, 4), (3, 3)):
            options = Options(num_stages=stages, descriptors=frozenset("xw"), persistent=1, consumers=groups)
            kernel, name = gpu_quantised.block_scaled_linear, f"groups{groups}-64-128-s{stages}"
            yield Case("fp8_blocks", f"{n}", name, kernel, dict(BM=64), dims, options)
        for bm, warps, stages in ((128, 8, 4), (128, 8, 3), (64, 4, 4), (128, 4, 3), (64, 4, 3)):
            for way in ("", "persistent"):
                options = Options(num_warps=warps, num_stages=stages, descriptors=boxes, **WAYS[way])
                kernel, name = gpu_quantised.block_scaled_linear, f"{bm}-128-w{warps}-s{stages}-{way}"
                yield Case("fp8_blocks", f"{n}", name, kernel, dict(BM=bm), dims, options)


def projections(model: str) -> dict[str, tuple[int, int]]:
    """Output and input features of the products of one layer of Qwen3."""
    d, heads, f = MODELS[model]
    return {"qkv": ((heads + 16) * 128, d), "o": (d, heads * 128), "gate-up": (2 * f, d), "down": (d, f)}


def prefill_shapes() -> list[tuple[int, int, int]]:
    """Tokens, output features, input features."""
    return sorted({(m, *sizes) for model in MODELS for sizes in projections(model).values() for m in PREFILL_TOKENS})


PREFILL_TILES = (
    (64, 64, 64, 4, 6, ""), (64, 64, 128, 4, 6, ""), (64, 128, 64, 4, 8, ""), (64, 128, 128, 4, 4, ""), (128, 64, 64, 4, 8, ""),
    (64, 256, 64, 4, 5, ""), (128, 128, 64, 4, 3, ""), (128, 128, 64, 8, 3, ""), (128, 128, 64, 8, 6, ""), (128, 128, 64, 8, 6, "flat"),
    (128, 256, 64, 8, 4, ""), (128, 256, 64, 8, 4, "flat"), (128, 256, 64, 8, 3, "flat-y"),
)  # fmt: skip
"""Rows, columns and depth of a tile, warps, stages, way. Shared memory decides how many programs a multiprocessor holds; where it is
one, only deep pipelines keep the matrix units fed."""
GROUPED_TILES = ((64, 256, 64, 4, 2), (64, 128, 64, 6, 2), (64, 128, 64, 5, 3))
"""Work divided by warp groups: rows, columns and depth of each group's tile, stages, groups a block."""
SPLIT_TILES = ((64, 64, 64, 4, 6), (64, 128, 64, 4, 8), (128, 128, 64, 8, 6), (128, 256, 64, 8, 4))


def _prefill() -> Iterator[Case]:
    """For each layer's features; tokens are given at the launch, as multiples of 128. Dependent launches, as in the engine."""
    from zellige.ir.dtypes import bf16
    from zellige.kernels import batch, gpu_linear

    chained: dict[str, Any] = dict(pdl=True, constant=frozenset("w"))

    def options(warps: int, stages: int, way: str, rows: str) -> Options:
        boxes = {"": "", "flat-y": "xwy"}.get(way, "xw")
        more = WAYS["flat"] if way.startswith("flat") else {}
        return Options(
            num_warps=warps, num_stages=stages, descriptors=frozenset(boxes), multiples={rows: 128}, **chained, **more
        )

    for n, k in sorted({(n, k) for _, n, k in prefill_shapes()}):
        row = f"{n}x{k}"
        for bm, bn, bk, warps, stages, way in PREFILL_TILES:
            name, statics = f"{bm}-{bn}-{bk}-w{warps}-s{stages}-{way}", dict(BM=bm, BN=bn, BK=bk)
            made = options(warps, stages, way, "T")
            yield Case("prefill", row, name, batch.linear_rows, statics, dict(N=n, K=k), made, {"Y": bf16})
        for bm, bn, bk, stages, groups in GROUPED_TILES:
            name, statics = f"groups{groups}-{bm}-{bn}-{bk}-s{stages}", dict(BM=bm, BN=bn, BK=bk)
            made = replace(options(4, stages, "tma", "T"), persistent=1, consumers=groups)
            yield Case("prefill", row, name, batch.linear_rows, statics, dict(N=n, K=k), made, {"Y": bf16})
        for bm, bn, bx, warps, stages in (
            (128, 128, 32, 8, 6), (128, 128, 64, 8, 5), (128, 64, 32, 4, 4),
        ):  # fmt: skip
            statics, name = dict(BM=bm, BN=bn, BX=bx, BK=64), f"{bm}-{bn}+{bx}-w{warps}"
            made = options(warps, stages, "tma", "M")
            yield Case("prefill", row, name, gpu_linear.linear_two_widths, statics, dict(N=n, K=k), made)
        for bm, bn, bx, stages in (
            (64, 128, 32, 5),
            (64, 128, 64, 5),
            (128, 128, 32, 3),
            (64, 64, 16, 8),
            (64, 64, 32, 7),
        ):
            statics, name = dict(BM=bm, BN=bn, BX=bx, BK=64), f"groups2-{bm}-{bn}+{bx}"
            made = replace(options(4, stages, "tma", "M"), persistent=1, consumers=2)
            yield Case("prefill", row, name, gpu_linear.linear_two_widths, statics, dict(N=n, K=k), made)
            for parts in (2, 4):
                if n == 2560 and k % (parts * 64) == 0 and (bm, bn) == (64, 128):
                    cut, dims = {**statics, "DEPTH": k // parts}, dict(N=n, K=k, PARTS=parts)
                    yield Case(
                        "prefill", row, f"parts{parts}-{name}", gpu_linear.linear_split_two_widths, cut, dims, made
                    )
        for parts in (2, 3, 4, 6, 8):
            if k % (parts * 64) or n > 6144:
                continue
            for bm, bn, bk, warps, stages in SPLIT_TILES:
                statics = dict(BM=bm, BN=bn, BK=bk, DEPTH=k // parts)
                name, dims = f"parts{parts}-{bm}-{bn}-{bk}-w{warps}-s{stages}", dict(N=n, K=k, PARTS=parts)
                yield Case(
                    "prefill", row, name, gpu_linear.linear_split, statics, dims, options(warps, stages, "", "M")
                )
            total = Options(num_warps=2, pdl=True, multiples={"T": 128})
            yield Case(
                "prefill",
                row,
                f"sum {parts}",
                batch.sum_parts,
                dict(BN=512),
                dict(N=n, PARTS=parts),
                total,
                {"Y": bf16},
            )


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
