"""Cases of kernels that only some models have: fp8 weights (sizes of Qwen3-8B), experts for few tokens (Qwen3-30B-A3B)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cases import Case

from zellige.backends.cuda.options import Options

D, F = 4096, 12288
QKV = 6144
STREAMED = (
    (1, 2048, 4),
    (1, 4096, 8),
    (2, 1024, 4),
    (2, 2048, 4),
    (2, 2048, 8),
    (4, 1024, 4),
    (4, 2048, 8),
    (8, 1024, 8),
    (8, 512, 4),
    (4, 2048, 4),
    (2, 4096, 8),
    (4, 512, 2),
    (4, 256, 1),
    (4, 512, 1),
    (2, 512, 1),
    (2, 1024, 2),
    (8, 256, 2),
    (8, 512, 8),
    (4, 1024, 2),
    (8, 512, 2),
    (8, 1024, 2),
    (8, 1024, 4),
    (8, 2048, 4),
    (8, 2048, 8),
    (16, 512, 2),
    (4, 2048, 2),
    (2, 1024, 1),
    (1, 1024, 1),
    (1, 2048, 2),
    (2, 2048, 2),
    (2, 512, 2),
    (3, 1024, 2),
)
"""Rows, columns and warps of schedules that stream the weights."""
SHARED = {
    8: (
        (16, 32, 256, 4, 4),
        (16, 32, 128, 4, 6),
        (16, 64, 128, 4, 4),
        (16, 64, 256, 4, 3),
        (16, 16, 512, 4, 3),
        (16, 16, 256, 2, 4),
        (16, 64, 256, 4, 4),
        (16, 32, 512, 4, 3),
        (16, 64, 128, 4, 6),
    ),
    64: (
        (64, 64, 128, 4, 4),
        (64, 32, 256, 4, 3),
        (64, 32, 128, 4, 4),
        (64, 64, 256, 4, 3),
        (64, 128, 128, 8, 3),
        (64, 128, 128, 4, 3),
        (64, 128, 64, 8, 4),
        (64, 128, 128, 8, 4),
        (64, 128, 256, 8, 2),
        (64, 64, 128, 4, 3),
        (64, 64, 128, 4, 6),
        (64, 64, 256, 4, 4),
        (64, 64, 128, 4, 5),
        (64, 64, 64, 4, 8),
        (32, 64, 128, 4, 6),
        (32, 64, 256, 4, 3),
        (32, 64, 128, 4, 4),
        (32, 128, 128, 8, 4),
        (16, 64, 128, 4, 4),
        (64, 128, 64, 8, 6),
    ),
    2048: (
        (128, 64, 64, 4, 4),
        (128, 64, 128, 4, 3),
        (128, 128, 64, 8, 4),
        (128, 128, 128, 8, 3),
        (256, 64, 64, 4, 4),
        (256, 64, 128, 4, 3),
        (256, 128, 64, 8, 3),
    ),
}
"""Rows, columns, depth, warps and stages, by tokens, of those that share them."""


def model_cases() -> Iterator[Case]:
    """All of them."""
    for by in ("rows", "blocks"):
        yield from _streamed(by)
        yield from _shared(by)
    yield from _experts()


def _by(by: str, bk: int) -> dict[str, int]:
    """The static parameter for so many columns at a time: by blocks they are counted in blocks."""
    return {"BK": bk if by == "rows" else bk // 128}


def _streamed(by: str) -> Iterator[Case]:
    from zellige.ir.dtypes import bf16
    from zellige.kernels import fp8

    products: tuple[tuple[str, str, dict[str, Any], dict[str, int], tuple[str, ...]], ...] = (
        ("qkv", "norm_linear", {"Y": bf16}, dict(N=QKV, D=D), ("w", "scale")),
        ("o", "residual", {}, dict(N=D, D=D), ("w", "scale")),
        ("up", "norm_swiglu", {}, dict(F=F, D=D), ("gate", "up", "gate_scale", "up_scale")),
        ("down", "residual", {}, dict(N=D, D=F), ("w", "scale")),
    )
    for name, kernel, dtypes, dims, weights in products:
        for bn, bk, warps in STREAMED:
            if bk > dims["D"] or (name == "up" and bn > (8 if by == "rows" else 4)):
                continue
            for suffix, streamed in (("", frozenset()), ("-first", frozenset(w for w in weights if "scale" not in w))):
                options = Options(num_warps=warps, pdl=True, constant=frozenset((*weights, "g")), streamed=streamed)
                yield Case(
                    "fp8_step", f"{by} T1 {name}", f"{bn}-{bk}-w{warps}{suffix}", getattr(fp8, f"{kernel}_by_{by}"),
                    dict(BN=bn, **_by(by, bk)), dict(T=1, **dims), options, dtypes,
                )  # fmt: skip


def _shared(by: str) -> Iterator[Case]:
    from zellige.ir.dtypes import bf16, f16
    from zellige.kernels import fp8
    from zellige.llm.models.products import split

    for tokens, tiles in SHARED.items():
        (o_parts, o_depth), (down_parts, down_depth) = split(tokens, D, D), split(tokens, D, F)
        products: tuple[tuple[str, str, dict[str, Any], dict[str, int], dict[str, int]], ...] = (
            ("qkv", "linear", {"Y": bf16, "A": f16}, dict(N=QKV, D=D), {}),
            ("o", "parts", {"A": bf16}, dict(N=D, D=D, PARTS=o_parts), dict(DEPTH=o_depth)),
            ("up", "swiglu", {"A": f16, "O": f16}, dict(F=F, D=D), {}),
            ("down", "parts", {"A": f16}, dict(N=D, D=F, PARTS=down_parts), dict(DEPTH=down_depth)),
        )
        more: tuple[tuple[str, str, dict[str, Any], dict[str, int], dict[str, int]], ...] = (
            ("o in more", "parts", {"A": bf16}, dict(N=D, D=D, PARTS=4), dict(DEPTH=1024)),
            ("down in more", "parts", {"A": f16}, dict(N=D, D=F, PARTS=4), dict(DEPTH=3072)),
            ("qkv in parts", "parts", {"A": f16}, dict(N=QKV, D=D, PARTS=2), dict(DEPTH=2048)),
        )
        for name, kernel, dtypes, dims, statics in (*products, *(more if tokens == 64 else ())):
            for bm, bn, bk, warps, stages in tiles:
                if (by == "blocks" and bk != 128) or (bn < fp8.TURN and dtypes["A"] is f16):
                    continue
                weights = ("gate", "up", "gate_scale", "up_scale") if name == "up" else ("w", "scale")
                options = Options(num_warps=warps, num_stages=stages, pdl=True, constant=frozenset(weights))
                depth = {"BK": bk} if by == "rows" else {}
                yield Case(
                    "fp8_step", f"{by} T{tokens} {name}", f"{bm}-{bn}-{bk}-w{warps}-s{stages}", getattr(fp8, f"{kernel}_by_{by}"),
                    dict(BM=bm, BN=bn, **depth, **statics), dict(T=tokens, **dims), options, dtypes,
                )  # fmt: skip
        for warps in (2, 4, 8):
            sized, options = (
                dict(T=tokens, C=D // fp8.TURN),
                Options(num_warps=warps, pdl=True, constant=frozenset("g")),
            )
            yield Case("fp8_step", f"T{tokens} norm", f"w{warps}", fp8.norm_turned, {}, sized, options)
            sized = dict(**sized, PARTS=down_parts)
            yield Case("fp8_step", f"T{tokens} sum_norm", f"w{warps}", fp8.sum_parts_norm_turned, {}, sized, options)


def _experts() -> Iterator[Case]:
    from zellige.ir.dtypes import bf16, f32
    from zellige.kernels import decode, fp8_experts, gpu_moe, moe

    sizes = dict(E=128, C=8)
    for tokens in (1, 8):
        for bn, bk, warps in (
            (1, 2048, 4),
            (1, 2048, 8),
            (2, 1024, 4),
            (2, 1024, 8),
            (2, 2048, 8),
            (4, 512, 4),
            (4, 1024, 8),
            (1, 1024, 2),
            (1, 2048, 2),
            (1, 512, 1),
            (2, 512, 2),
            (2, 1024, 2),
            (4, 512, 2),
            (4, 1024, 4),
        ):
            for suffix, streamed in (("", frozenset()), ("-first", frozenset(("gate", "up")))):
                options = Options(num_warps=warps, pdl=True, constant=frozenset(("gate", "up", "g")), streamed=streamed)
                yield Case(
                    "experts_step", f"T{tokens} up", f"{bn}-{bk}-w{warps}{suffix}", moe.expert_norm_swiglu,
                    dict(BN=bn, BK=bk), dict(T=tokens, F=768, D=2048, **sizes), options,
                )  # fmt: skip
        for bn, bk, warps in (
            (1, 256, 4),
            (1, 256, 8),
            (1, 1024, 8),
            (2, 256, 4),
            (2, 256, 8),
            (2, 128, 4),
            (4, 256, 8),
            (4, 128, 4),
        ):
            for suffix, streamed in (("", frozenset()), ("-first", frozenset(("down",)))):
                options = Options(num_warps=warps, pdl=True, constant=frozenset(("down",)), streamed=streamed)
                yield Case(
                    "experts_step", f"T{tokens} down", f"{bn}-{bk}-w{warps}{suffix}", moe.expert_residual,
                    dict(BN=bn, BK=bk), dict(T=tokens, N=2048, F=768, **sizes), options,
                )  # fmt: skip
        for bn, bk, warps in (
            (4, 512, 2),
            (4, 1024, 4),
            (2, 1024, 4),
            (8, 512, 4),
            (2, 2048, 4),
            (4, 512, 4),
            (4, 2048, 8),
            (8, 512, 2),
            (8, 1024, 4),
            (8, 1024, 2),
            (4, 1024, 2),
            (4, 512, 1),
            (2, 2048, 2),
            (1, 2048, 2),
            (1, 2048, 1),
            (2, 1024, 1),
            (2, 2048, 1),
        ):
            weights = frozenset(("gate", "up"))
            options = Options(
                num_warps=warps, pdl=True, constant=weights | {"gate_scale", "up_scale", "g"}, streamed=weights
            )
            yield Case(
                "experts_step", f"T{tokens} fp8 up", f"{bn}-{bk}-w{warps}", fp8_experts.expert_norm_swiglu_fp8,
                dict(BN=bn, BK=bk), dict(T=tokens, F=768, D=2048, **sizes), options,
            )  # fmt: skip
        for bn, bk, warps in (
            (2, 256, 4),
            (4, 256, 4),
            (2, 256, 2),
            (4, 128, 2),
            (4, 256, 8),
            (4, 128, 4),
            (1, 256, 2),
            (8, 256, 4),
            (8, 256, 8),
            (2, 256, 1),
            (4, 768, 8),
        ):
            options = Options(
                num_warps=warps, pdl=True, constant=frozenset(("down", "scale")), streamed=frozenset(("down",))
            )
            yield Case(
                "experts_step", f"T{tokens} fp8 down", f"{bn}-{bk}-w{warps}", fp8_experts.expert_residual_fp8,
                dict(BN=bn, BK=bk), dict(T=tokens, N=2048, F=768, **sizes), options,
            )  # fmt: skip
        for bn, bk, warps in (
            (1, 2048, 4),
            (1, 2048, 8),
            (1, 1024, 4),
            (2, 1024, 4),
            (2, 2048, 8),
            (4, 512, 4),
            (4, 1024, 8),
        ):
            options = Options(num_warps=warps, pdl=True, constant=frozenset(("w", "g")), streamed=frozenset(("w",)))
            if tokens == 1:
                for row, n in (("qkv", 5120), ("head", 151936)):
                    dims = dict(T=1, N=n, D=2048)
                    dtypes = {"Y": bf16 if row == "qkv" else f32}
                    yield Case(
                        "experts_step", f"T1 {row}", f"{bn}-{bk}-w{warps}", decode.norm_linear, dict(BN=bn, BK=bk), dims, options, dtypes
                    )  # fmt: skip
                for wide, narrow in ((2 * bk, bn), (bk, 2 * bn)):
                    yield Case(
                        "experts_step", "T1 o", f"{narrow}-{wide}-w{warps}", decode.linear_residual,
                        dict(BN=narrow, BK=wide), dict(T=1, N=2048, D=4096), options,
                    )  # fmt: skip
                yield Case(
                    "experts_step", "T1 router", f"{bn}-{bk}-w{warps}", decode.norm_linear,
                    dict(BN=bn, BK=bk), dict(T=1, N=128, D=2048), options, {"Y": f32},
                )  # fmt: skip
        for warps in (1, 2, 4, 8):
            yield Case(
                "experts_step", f"T{tokens} route", f"w{warps}", moe.route, {}, dict(T=tokens, **sizes), Options(num_warps=warps, pdl=True)
            )  # fmt: skip
    for bm, bn, bk, warps, stages in (
        (16, 64, 128, 4, 3),
        (16, 32, 128, 4, 4),
        (16, 64, 256, 4, 3),
        (16, 128, 128, 4, 3),
    ):
        options = Options(num_warps=warps, num_stages=stages, pdl=True, constant=frozenset(("gate", "up")))
        yield Case(
            "experts_step", "T64 fp8 many up", f"{bm}-{bn}-{bk}-w{warps}-s{stages}", fp8_experts.expert_swiglu_fp8,
            dict(BM=bm, BN=bn, BK=bk), dict(T=64, F=768, K=2048, **sizes), options,
        )  # fmt: skip
        options = Options(num_warps=warps, num_stages=stages, pdl=True, constant=frozenset(("w",)))
        yield Case(
            "experts_step", "T64 fp8 many down", f"{bm}-{bn}-{bk}-w{warps}-s{stages}", fp8_experts.expert_down_fp8,
            dict(BM=bm, BN=bn, BK=bk), dict(PAIRS=512, N=2048, K=768, E=128), options,
        )  # fmt: skip
    for tokens in (64, 512, 4096):
        pairs = 8 * tokens
        for warps in (1, 2, 4, 8, 16, 32):
            sized, options = (
                dict(T=tokens, C=8, N=2048, PAIRS=pairs),
                Options(num_warps=warps, pdl=True, constant=frozenset("g")),
            )
            yield Case("experts_step", f"T{tokens} combine", f"w{warps}", gpu_moe.combine_norm, {}, sized, options)
        for warps in (4, 8):
            sized, options = dict(PAIRS=pairs, E=128), Options(num_warps=warps, pdl=True)
            yield Case("experts_step", f"T{tokens} count", f"w{warps}", gpu_moe.count_pairs, {}, sized, options)
            for bp in (32, 64):
                statics = dict(BP=bp)
                yield Case(
                    "experts_step", f"T{tokens} place", f"{bp}-w{warps}", gpu_moe.place_pairs, statics, sized, options
                )
        for warps in (8, 16, 32):
            sized, options = dict(PAIRS=pairs, E=128, BLOCKS=pairs // gpu_moe.BLOCK), Options(num_warps=warps, pdl=True)
            yield Case("experts_step", f"T{tokens} begin", f"w{warps}", gpu_moe.begin_segments, {}, sized, options)
        tiles = (
            (64, 64, 64, 4, 4),
            (128, 64, 64, 4, 4),
            (128, 128, 64, 8, 3),
            (128, 128, 64, 8, 4),
            (128, 64, 64, 8, 4),
        )
        for bm, bn, bk, warps, stages in tiles if tokens > 64 else ():
            options = Options(num_warps=warps, num_stages=stages, pdl=True, constant=frozenset(("gate", "up")))
            yield Case(
                "experts_step", f"T{tokens} many up", f"{bm}-{bn}-{bk}-w{warps}-s{stages}", gpu_moe.expert_swiglu,
                dict(BM=bm, BN=bn, BK=bk), dict(T=tokens, F=768, K=2048, **sizes), options,
            )  # fmt: skip
        tiles = ((64, 128, 64, 4, 4), (128, 128, 64, 4, 4), (128, 128, 64, 8, 4), (128, 256, 64, 8, 3))
        for bm, bn, bk, warps, stages in tiles if tokens > 64 else ():
            options = Options(num_warps=warps, num_stages=stages, pdl=True, constant=frozenset(("w",)))
            yield Case(
                "experts_step", f"T{tokens} many down", f"{bm}-{bn}-{bk}-w{warps}-s{stages}", gpu_moe.expert_down,
                dict(BM=bm, BN=bn, BK=bk), dict(PAIRS=pairs, N=2048, K=768, E=128), options,
            )  # fmt: skip
