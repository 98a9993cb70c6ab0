"""Which kernels are measured, at which sizes, with which schedules. Runs where the kernels are compiled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from zellige.backends.cuda.options import Options

GEMV_SHAPES = (
    (6144, 2560), (2560, 4096), (19456, 2560), (2560, 9728), (151936, 2560), (4096, 1024), (6144, 1024), (1024, 3072),
)  # fmt: skip
"""Rows × columns of the weights: Qwen3-4B's qkv, o, gate-up, down, output head; then 0.6B's."""
THIN_SHAPES = (*GEMV_SHAPES[:5], (6144, 4096), (24576, 4096), (4096, 12288))
DECODE = ((64, 4096), (8, 4096), (1, 4096))
"""Sequences × context."""
ROWS = (65536, 4096)
VOCABULARY, ARGMAX_ROWS = 151936, (1, 8, 64, 256, 512)


@dataclass(frozen=True, slots=True)
class Case:
    """One compiled kernel of a table."""

    table: str
    row: str
    variant: str
    kernel: Any = field(repr=False)
    statics: dict[str, int]
    dims: dict[str, int]
    options: Options
    dtypes: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """A name for its folder."""
        return f"{self.table}/{self.row}/{self.variant}".replace(" ", "_")


def cases() -> Iterator[Case]:
    """All cases."""
    yield from _gemm()
    yield from _gemv()
    yield from _thin()
    yield from _rows()
    yield from _argmax()
    yield from _attention()
    yield from _decode()
    yield from _step()
    yield from _batch()
    yield from _gated()
    yield from _added()
    from case_models import model_cases
    from case_products import product_cases

    yield from product_cases()
    yield from model_cases()


def _gemm() -> Iterator[Case]:
    from zellige.kernels import gpu_linear

    boxes = frozenset("abc")
    for n in (4096, 8192):
        schedules = {
            "pointers-s3": Options(num_warps=8, num_stages=3),
            "pointers-s4": Options(num_warps=8, num_stages=4),
            "pointers-s3-carried": Options(num_warps=8, num_stages=3, carried=True),
            "pointers-s4-carried": Options(num_warps=8, num_stages=4, carried=True),
            "tma-s3": Options(num_warps=8, num_stages=3, descriptors=boxes),
            "tma-s4": Options(num_warps=8, num_stages=4, descriptors=frozenset("ab")),
            "tma-s3-ab": Options(num_warps=8, num_stages=3, descriptors=frozenset("ab")),
            "tma-s3-group16": Options(num_warps=8, num_stages=3, descriptors=boxes, group=16),
            "tma-s4-ab-group16": Options(num_warps=8, num_stages=4, descriptors=frozenset("ab"), group=16),
            "persistent-s3": Options(num_warps=8, num_stages=3, descriptors=boxes, persistent=1),
            "persistent-s3-flat": Options(num_warps=8, num_stages=3, descriptors=boxes, persistent=1, flatten=True),
            **{
                f"flat-s{s}-{boxes}-group{g}": Options(
                    num_warps=8, num_stages=s, descriptors=frozenset(boxes), persistent=1, flatten=True, group=g
                )
                for g in (12, 16, 20, 24, 32) for s, boxes in ((3, "abc"), (4, "ab"))
            },
            "pointers-s4-group16-b": Options(num_warps=8, num_stages=4, group=16, streamed=frozenset("b")),
            "persistent-s4-flat-ab": Options(num_warps=8, num_stages=4, descriptors=frozenset("ab"), persistent=1, flatten=True),
        }  # fmt: skip
        for name, options in schedules.items():
            yield Case(
                "gemm", f"{n}", name, gpu_linear.matmul, dict(BM=128, BN=256, BK=64), dict(M=n, N=n, K=n), options
            )
        for bm, bn, stages in ((64, 256, 4), (128, 128, 4)):
            for group in (8, 16):
                options = Options(
                    num_stages=stages, descriptors=frozenset("ab"), persistent=1, consumers=2, group=group
                )
                name, statics = f"groups2-{bm}-{bn}-s{stages}-group{group}", dict(BM=bm, BN=bn, BK=64)
                yield Case("gemm", f"{n}", name, gpu_linear.matmul, statics, dict(M=n, N=n, K=n), options)


def _gemv() -> Iterator[Case]:
    from zellige.kernels import gpu_linear

    tiles = ((1, 1024, 4), (1, 2048, 4), (1, 2048, 8), (2, 1024, 8), (2, 2048, 8), (2, 512, 4), (4, 512, 4))
    for n, k in GEMV_SHAPES:
        for bn, bk, warps in tiles:
            if bk > 2 * k:
                continue
            options = Options(num_warps=warps, streamed=frozenset("w"))
            variants = {"": options, "-pdl": replace(options, pdl=True, constant=frozenset("w"))}
            for name, chosen in variants.items():
                statics = dict(BN=bn, BK=bk)
                yield Case(
                    "gemv", f"{n}x{k}", f"{bn}-{bk}-w{warps}{name}", gpu_linear.matvec, statics, dict(N=n, K=k), chosen
                )
    yield Case("launch", "copy", "tiny", _copy(), dict(BN=128), dict(N=128), Options(num_warps=1))


def _copy() -> Any:
    from zellige.kernels import gpu_elementwise

    return gpu_elementwise.copy


def _thin() -> Iterator[Case]:
    from zellige.ir.dtypes import bf16
    from zellige.kernels import batch, gpu_linear

    chained: dict[str, Any] = dict(pdl=True, constant=frozenset("w"))
    tiles = (
        (64, 128, 4, 4), (64, 128, 4, 5), (64, 128, 4, 6), (64, 256, 4, 3), (32, 128, 4, 5), (128, 64, 4, 4), (128, 64, 4, 6),
        (128, 128, 4, 3), (128, 128, 8, 3),
    )  # fmt: skip
    for n, k in THIN_SHAPES:
        for m in (8, 64):
            row, rows = f"{m}x{n}x{k}", max(m, 16)
            for bn, bk, warps, stages in tiles:
                statics, dims, name = dict(BM=rows, BN=bn, BK=bk), dict(T=m, N=n, K=k), f"{bn}-{bk}-w{warps}-s{stages}"
                options = Options(num_warps=warps, num_stages=stages)
                yield Case("thin", row, name, batch.linear_few, statics, dims, options, {"Y": bf16})
                options = Options(num_warps=warps, num_stages=stages, **chained)
                yield Case("thin", row, f"{name}-pdl", batch.linear_few, statics, dims, options, {"Y": bf16})
            if n > 8192 and m == 64:  # 192 columns: 128 tiles of 24576, all at once
                for depth, stages in ((64, 6), (128, 3)):
                    for extra in ({}, chained):
                        options = Options(
                            num_stages=stages, descriptors=frozenset("xw"), persistent=1, consumers=1, **extra
                        )
                        statics, dims = dict(BM=64, BN=128, BX=64, BK=depth), dict(M=m, N=n, K=k)
                        name = f"group-64-128+64-{depth}-s{stages}{'-pdl' if extra else ''}"
                        yield Case("thin", row, name, gpu_linear.linear_two_widths, statics, dims, options)
            if n > 8192:
                continue
            for parts in (2, 4):
                depth = -(-k // parts // 256) * 256
                dims = dict(T=m, N=n, K=k, PARTS=-(-k // depth))
                for bn, bk, stages in ((64, 128, 4), (64, 256, 3)):
                    statics, options = dict(BM=rows, BN=bn, BK=bk, DEPTH=depth), Options(num_stages=stages, **chained)
                    name = f"parts{parts}-{bn}-{bk}-s{stages}-pdl"
                    yield Case("thin", row, name, batch.linear_parts, statics, dims, options)
                whole, options = dict(T=m, N=n, PARTS=dims["PARTS"]), Options(num_warps=2, pdl=True)
                yield Case(
                    "thin", row, f"sum {dims['PARTS']}", batch.sum_parts, dict(BN=512), whole, options, {"Y": bf16}
                )


def _rows() -> Iterator[Case]:
    from zellige.kernels import gpu_elementwise as rows

    t, d = ROWS
    for bn, warps in ((1024, 4), (2048, 4), (2048, 8), (4096, 8), (4096, 16)):
        for name, streamed in (("", frozenset()), ("-first", frozenset("xy")), ("-first-in", frozenset("x"))):
            options = Options(num_warps=warps, streamed=streamed)
            yield Case("rows", "copy", f"{bn}-w{warps}{name}", rows.copy, dict(BN=bn), dict(N=t * d), options)
        for name, streamed in (("", frozenset(("gate", "up"))), ("-last", frozenset())):
            options = Options(num_warps=warps, streamed=streamed)
            yield Case("rows", "swiglu", f"{bn}-w{warps}{name}", rows.swiglu, dict(BN=bn), dict(N=t * d), options)
    for warps in (4, 8, 16):
        for name, streamed in (
            ("", frozenset()),
            ("-first-in", frozenset("x")),
            ("-first", frozenset(("x", "h", "y"))),
        ):
            options = Options(num_warps=warps, streamed=streamed)
            yield Case("rows", "rms_norm", f"w{warps}{name}", rows.rms_norm, {}, dict(D=d), options)
            yield Case("rows", "softmax", f"w{warps}{name}", rows.softmax, {}, dict(D=d), options)
    for warps, programs in ((4, 8), (4, 12), (8, 4), (8, 5), (8, 6), (8, 7)):
        options = Options(num_warps=warps, persistent=programs)
        for row in ("rms_norm", "softmax"):
            yield Case("rows", row, f"w{warps}-p{programs}", getattr(rows, row), {}, dict(D=d), options)
    for warps in (4, 8, 16):
        for name, streamed in (("", frozenset()), ("-first-in", frozenset("x"))):
            options = Options(num_warps=warps, streamed=streamed)
            yield Case("rows", "add_rms_norm", f"w{warps}{name}", rows.add_rms_norm, {}, dict(D=d), options)


def _argmax() -> Iterator[Case]:
    """The most probable of 151936 ids for B rows of logits: blocks and what combines them, or one program a row."""
    from zellige.kernels import decode, sampling

    for b in ARGMAX_ROWS:
        sized = dict(B=b, V=VOCABULARY)
        for block in (1024, 2048, 4096, 8192, 16384):
            dims = dict(**sized, PARTS=-(-VOCABULARY // block))
            for warps in (4, 8, 16):
                if 32 * 4 * warps <= block <= 32 * 64 * warps:
                    options = Options(num_warps=warps, pdl=True)
                    yield Case(
                        "argmax", f"{b}", f"{block}-w{warps}", decode.argmax_parts, dict(BLOCK=block), dims, options
                    )
            yield Case(
                "argmax", f"{b}", f"combine {block}", decode.argmax_combine, {}, dims, Options(num_warps=1, pdl=True)
            )
        for warps in (4, 8, 16, 32):
            yield Case(
                "argmax", f"{b}", f"whole-w{warps}", sampling.argmax, {}, sized, Options(num_warps=warps, pdl=True)
            )


def _attention() -> Iterator[Case]:
    from zellige.kernels import gpu_attention

    boxes = frozenset(("q", "k", "v", "out"))
    for s in (2048, 8192):
        for bm, bs, warps, stages, band in (
            (128, 128, 8, 3, 1), (128, 128, 8, 3, 8), (128, 128, 8, 3, 16), (128, 128, 8, 3, 32), (128, 64, 8, 3, 1),
            (64, 64, 4, 3, 1), (64, 64, 4, 3, 4), (64, 64, 4, 3, 8), (64, 64, 4, 3, 16),
        ):  # fmt: skip
            for name, extra in (("", {}), ("-tma", {"descriptors": boxes})):
                yield Case(
                    "attention", f"{s}", f"{bm}-{bs}-w{warps}-s{stages}-band{band}{name}", gpu_attention.attention_causal,
                    dict(BM=bm, BS=bs, BAND=band), dict(B=1, HK=8, G=4, S=s, HD=128),
                    Options(num_warps=warps, num_stages=stages, last_first=True, **extra),
                )  # fmt: skip
        for bs, stages in ((128, 2), (64, 4)):
            groups = Options(num_stages=stages, descriptors=boxes, persistent=1, consumers=2, last_first=True)
            yield Case(
                "attention", f"{s}", f"groups2-64-{bs}-s{stages}-band16", gpu_attention.attention_causal,
                dict(BM=64, BS=bs, BAND=16), dict(B=1, HK=8, G=4, S=s, HD=128), groups,
            )  # fmt: skip


def _decode() -> Iterator[Case]:
    from zellige.kernels import gpu_attention

    for b, context in DECODE:
        for splits in {64: (1, 2), 8: (4, 8, 16), 1: (32, 64)}[b]:
            dims = dict(HK=8, G=4, HD=128, P=16, B=b, PAGES=context // 16, SPLITS=splits, NB=b * context // 16)
            combined = dict(HK=8, G=4, HD=128, B=b, SPLITS=splits)
            for suffix, pdl in (("", False), ("-pdl", True)):
                for bs, warps, stages in ((64, 2, 4), (64, 4, 3), (32, 2, 4), (64, 2, 3), (128, 4, 3)):
                    yield Case(
                        "decode", f"{b}x{context}", f"{splits}-{bs}-w{warps}-s{stages}{suffix}", gpu_attention.paged_decode_partial,
                        dict(WAYS=splits, BS=bs), dims, Options(num_warps=warps, num_stages=stages, pdl=pdl),
                    )  # fmt: skip
                yield Case(
                    "combine", f"{b}x{context}", f"{splits}{suffix}", gpu_attention.paged_decode_combine, {}, combined,
                    Options(num_warps=2, pdl=pdl),
                )  # fmt: skip


MODELS = {"0.6B": (1024, 16, 3072), "4B": (2560, 32, 9728), "8B": (4096, 32, 12288)}
"""Qwen3: width, query heads, FFN width; 8 key/value heads of 128."""


def _step() -> Iterator[Case]:
    """Kernels of one decode step, by model and schedule, as they run in it: dependent launches, weights prefetched."""
    from zellige.ir.dtypes import bf16, f32
    from zellige.kernels import decode, new_token

    tiles = (
        (1, 1024, 4), (1, 2048, 8), (2, 512, 4), (2, 1024, 4), (2, 1024, 8), (2, 2048, 8),
        (4, 512, 4), (4, 512, 8), (4, 1024, 8), (8, 512, 8),
        (1, 4096, 4), (1, 4096, 8), (2, 4096, 8), (4, 1024, 4), (4, 2048, 8), (8, 1024, 8),
    )  # fmt: skip
    for model, (d, heads, f) in MODELS.items():
        qkv, hd = (heads + 16) * 128, heads * 128
        products = (
            ("qkv", decode.norm_linear, {"Y": bf16}, dict(N=qkv, D=d), ("w",)),
            ("o", decode.linear_residual, {}, dict(N=d, D=hd), ("w",)),
            ("up", decode.norm_swiglu, {}, dict(F=f, D=d), ("gate", "up")),
            ("down", decode.linear_residual, {}, dict(N=d, D=f), ("w",)),
            ("head", decode.norm_linear, {"Y": f32}, dict(N=151936, D=d), ("w",)),
        )
        for name, kernel, dtypes, dims, weights in products:
            depth = dims["D"]
            for bn, bk, warps in tiles:
                if bk > depth or (name == "up" and bn > 4):
                    continue
                for suffix, streamed in (("", frozenset()), ("-first", frozenset(weights))):
                    options = Options(num_warps=warps, pdl=True, constant=frozenset((*weights, "g")), streamed=streamed)
                    statics = dict(BN=bn, BK=bk)
                    yield Case(
                        "step",
                        f"{model} {name}",
                        f"{bn}-{bk}-w{warps}{suffix}",
                        kernel,
                        statics,
                        dict(T=1, **dims),
                        options,
                        dtypes,
                    )
        groups = heads // 8
        cache = dict(B=1, HK=8, HALF=64, HD=128, C=1024, NB=64, P=16, PAGES=64, G=groups)
        held = frozenset(("q_norm", "k_norm", "cosine", "sine", "position", "keys", "values", "table", "length"))
        for splits in (32, 64):
            sized = {**cache, "SPLITS": splits}
            for bs, warps, stages in (
                (16, 1, 2),
                (16, 2, 2),
                (16, 4, 2),
                (32, 1, 2),
                (32, 2, 2),
                (32, 4, 2),
                (32, 8, 2),
                (64, 4, 2),
            ):
                options = Options(num_warps=warps, num_stages=stages, pdl=True, constant=held, early=4)
                statics = dict(WAYS=splits, BS=bs)
                name = f"{splits}-{bs}-w{warps}-s{stages}"
                yield Case("step", f"{model} attend", name, new_token.norm_rope_attend, statics, sized, options)
            for warps in (1, 2, 4):
                options = Options(num_warps=warps, pdl=True, constant=frozenset(("slot",)))
                name = f"{splits}-w{warps}"
                yield Case("step", f"{model} combine", name, new_token.combine_append, {}, sized, options)
    for block, warps in ((1024, 4), (2048, 4), (4096, 8)):
        dims = dict(B=1, V=VOCABULARY, PARTS=-(-VOCABULARY // block))
        yield Case(
            "step",
            "argmax",
            f"{block}-w{warps}",
            decode.argmax_parts,
            dict(BLOCK=block),
            dims,
            Options(num_warps=warps, pdl=True),
        )
        yield Case("step", "argmax2", f"{block}", decode.argmax_combine, {}, dims, Options(num_warps=1, pdl=True))


def _gated() -> Iterator[Case]:
    """Gate and up by bulk copies, work divided by warp groups or not; dependent launches."""
    from zellige.kernels import batch

    weights = frozenset(("gate", "up"))
    boxed = Options(num_warps=8, num_stages=3, descriptors=weights | {"x"}, pdl=True, constant=weights)
    groups = replace(boxed, num_warps=4, num_stages=4, persistent=1, consumers=2)
    schedules = {
        "128-128-64-w8-s3": ((128, 128, 64), replace(boxed, descriptors=frozenset())),
        "128-128-64-w8-s3-boxes": ((128, 128, 64), boxed),
        "groups2-64-128-64-s4": ((64, 128, 64), groups),
        "groups2-64-128-64-s4-y": ((64, 128, 64), replace(groups, descriptors=weights | {"x", "y"})),
        "groups2-64-64-64-s6": ((64, 64, 64), replace(groups, num_stages=6)),
    }
    for model, (d, _, f) in MODELS.items():
        for tokens in (256, 512, 2048, 8192):
            for variant, (tile, options) in schedules.items():
                statics = dict(zip(("BM", "BN", "BK"), tile, strict=True))
                row, sizes = f"{model} T{tokens} up", dict(T=tokens, F=f, K=d)
                yield Case("batch", row, variant, batch.swiglu_rows, statics, sizes, options)


def _added() -> Iterator[Case]:
    """Products added to the residual stream, work divided by warp groups or not; dependent launches."""
    from zellige.kernels import batch

    plain = Options(num_warps=8, pdl=True, constant=frozenset("w"))
    boxed = replace(plain, num_stages=4, descriptors=frozenset("xw"))
    groups = replace(boxed, num_warps=4, descriptors=frozenset("xwh"), persistent=1, consumers=2)
    schedules = {
        "64-128-64-w4-s5": ((64, 128, 64), replace(plain, num_warps=4, num_stages=5)),
        "128-128-64-w8-s4": ((128, 128, 64), replace(plain, num_stages=4)),
        "128-256-64-w8-s3": ((128, 256, 64), replace(plain, num_stages=3)),
        "boxes-128-256-s4": ((128, 256, 64), boxed),
        "groups2-64-256-64-s4": ((64, 256, 64), groups),
        "groups2-64-256-64-s4-16": ((64, 256, 64), replace(groups, group=16)),
        "groups2-64-128-64-s6": ((64, 128, 64), replace(groups, num_stages=6)),
        "groups3-64-128-64-s4": ((64, 128, 64), replace(groups, num_stages=4, consumers=3)),
        "groups2-64-64-64-s8": ((64, 64, 64), replace(groups, num_stages=8)),
    }
    for model, (d, heads, f) in MODELS.items():
        for name, depth in (("o", heads * 128), ("down", f)):
            for tokens in (512, 1024, 2048, 4096, 8192):
                for variant, (tile, options) in schedules.items():
                    statics = dict(zip(("BM", "BN", "BK"), tile, strict=True))
                    small, large = variant == "64-128-64-w4-s5", variant == "boxes-128-256-s4"
                    if (tile[1] == 64 and tokens * d > 2**21) or (small and tokens > 512) or (large and tokens < 4096):
                        continue
                    row, sizes = f"{model} T{tokens} {name}", dict(T=tokens, N=d, K=depth)
                    yield Case("batch", row, variant, batch.linear_rows_add, statics, sizes, options)


def _batch() -> Iterator[Case]:
    """Products of batched decode and prefill, by model, tokens and schedule."""
    from zellige.ir.dtypes import bf16, f32
    from zellige.kernels import batch
    from zellige.kernels.heads import head_norm_rope_rows

    few = (
        (16, 64, 128, 4, 4), (16, 32, 256, 4, 4), (16, 64, 256, 4, 3), (16, 32, 128, 4, 6),
        (16, 16, 512, 4, 3), (16, 64, 128, 2, 4), (16, 32, 512, 4, 2),
    )  # fmt: skip
    some = (
        (64, 64, 128, 4, 4),
        (64, 128, 64, 4, 5),
        (64, 128, 128, 4, 3),
        (64, 32, 256, 4, 3),
        (64, 64, 64, 4, 6),
        (64, 128, 128, 8, 3),
    )
    many = (
        (128, 128, 64, 8, 4), (128, 128, 64, 8, 6), (128, 64, 128, 4, 3), (64, 128, 64, 4, 5), (64, 128, 128, 4, 4),
        (64, 64, 128, 4, 6), (128, 64, 64, 4, 8), (128, 256, 64, 8, 3), (128, 256, 64, 8, 4),
    )  # fmt: skip
    most = (
        (128, 256, 64, 8, 3),
        (128, 256, 64, 8, 4),
        (128, 128, 64, 8, 4),
        (128, 128, 64, 8, 6),
        (128, 128, 64, 4, 4),
    )
    for model, (d, heads, f) in MODELS.items():
        for tokens, tiles in ((8, few), (64, some), (256, many), (8192, most)):
            if tokens == 8192 and model == "4B":
                continue
            products = (
                ("qkv", batch.linear_rows, {"Y": bf16}, dict(N=(heads + 16) * 128, K=d), ("w",)),
                ("o", batch.linear_rows_add, {}, dict(N=d, K=heads * 128), ("w",)),
                ("up", batch.swiglu_rows, {}, dict(F=f, K=d), ("gate", "up")),
                ("down", batch.linear_rows_add, {}, dict(N=d, K=f), ("w",)),
                ("head", batch.linear_rows, {"Y": f32}, dict(N=151936, K=d), ("w",)),
            )
            for name, kernel, dtypes, dims, weights in products:
                if name == "head" and (tokens == 8192 or model == "4B"):
                    continue
                row = f"{model} T{tokens} {name}"
                sized = dict(T=tokens, **dims)
                for bm, bn, bk, warps, stages in tiles:
                    bn = bn // 2 if name == "up" and bn == 256 else bn
                    options = Options(num_warps=warps, num_stages=stages, pdl=True, constant=frozenset(weights))
                    statics = dict(BM=bm, BN=bn, BK=bk)
                    yield Case(
                        "batch", row, f"{bm}-{bn}-{bk}-w{warps}-s{stages}", kernel, statics, sized, options, dtypes
                    )
                if name in ("qkv", "head") and tokens <= 64:
                    for bn, bk, warps, stages in (
                        (64, 256, 4, 3),
                        (64, 128, 4, 4),
                        (64, 512, 4, 2),
                        (128, 128, 4, 3),
                        (128, 128, 8, 3),
                    ):
                        options = Options(num_warps=warps, num_stages=stages, pdl=True, constant=frozenset(weights))
                        statics = dict(BM=max(16, tokens), BN=bn, BK=bk)
                        thin = sized
                        yield Case(
                            "batch",
                            row,
                            f"thin-{bn}-{bk}-w{warps}-s{stages}",
                            batch.linear_few,
                            statics,
                            thin,
                            options,
                            dtypes,
                        )
                if tokens == 256 and name == "up":
                    for bm, bn, bk, warps, stages in (
                        (128, 64, 64, 8, 4),
                        (128, 64, 64, 4, 4),
                        (256, 64, 64, 8, 3),
                        (64, 64, 64, 4, 6),
                    ):
                        options = Options(num_warps=warps, num_stages=stages, pdl=True, constant=frozenset(weights))
                        statics = dict(BM=bm, BN=bn, BK=bk)
                        yield Case(
                            "batch", row, f"{bm}-{bn}-{bk}-w{warps}-s{stages}", kernel, statics, sized, options, dtypes
                        )
                if tokens >= 256:
                    inputs = frozenset(("x", *weights))
                    wide = 128 if name == "up" else 256
                    for bm, bn, stages in ((128, wide, 3), (128, wide, 4), (128, wide // 2, 4)):
                        options = Options(num_warps=8, num_stages=stages, descriptors=inputs, pdl=True)
                        yield Case(
                            "batch",
                            row,
                            f"boxes-{bm}-{bn}-s{stages}",
                            kernel,
                            dict(BM=bm, BN=bn, BK=64),
                            sized,
                            options,
                            dtypes,
                        )
                if tokens == 8192:
                    boxes = frozenset(("x", "y", *weights))
                    options = Options(
                        num_warps=8, num_stages=3, persistent=1, flatten=True, descriptors=boxes, pdl=True
                    )
                    bn = 128 if name == "up" else 256
                    yield Case("batch", row, "persistent", kernel, dict(BM=128, BN=bn, BK=64), sized, options, dtypes)
                if tokens <= 64 and name in ("o", "down"):
                    for parts in (2, 4, 8):
                        depth = -(-dims["K"] // parts // 256) * 256
                        for bn, bk, stages in ((64, 128, 4), (64, 256, 3)):
                            statics = dict(BM=max(16, tokens), BN=bn, BK=bk, DEPTH=depth)
                            options = Options(num_warps=4, num_stages=stages, pdl=True, constant=frozenset(weights))
                            whole = dict(**sized, PARTS=-(-dims["K"] // depth))
                            yield Case(
                                "batch",
                                row,
                                f"parts{parts}-{bn}-{bk}-s{stages}",
                                batch.linear_parts,
                                statics,
                                whole,
                                options,
                            )
        for tokens in (128, 8192):
            for bm, bs, warps, stages in ((64, 64, 4, 3), (128, 64, 8, 3), (64, 128, 4, 2), (32, 64, 4, 3)):
                sized = dict(T=tokens, TILES=tokens // bm, B=1, HK=8, G=heads // 8, HD=128, NB=512, P=16, PAGES=512)
                options = Options(num_warps=warps, num_stages=stages, pdl=True, last_first=True)
                yield Case(
                    "batch",
                    f"{model} T{tokens} attend",
                    f"{bm}-{bs}-w{warps}-s{stages}",
                    batch.paged_prefill,
                    dict(BM=bm, BS=bs),
                    sized,
                    options,
                )
    for d, parts in ((1024, 4), (2560, 4), (4096, 4)):
        for tokens in (8, 64, 256):
            for warps in (2, 4, 8):
                sized, options = (
                    dict(T=tokens, D=d, PARTS=parts),
                    Options(num_warps=warps, pdl=True, constant=frozenset("g")),
                )
                yield Case("batch", f"T{tokens} sum_norm {d}", f"w{warps}", batch.sum_parts_norm, {}, sized, options)
    for d in (1024, 4096):
        for warps in (2, 4, 8):
            yield Case(
                "batch",
                f"T64 norm {d}",
                f"w{warps}",
                batch.norm_rows,
                {},
                dict(T=64, D=d),
                Options(num_warps=warps, pdl=True, constant=frozenset("g")),
            )
    for model, (_, heads, _) in MODELS.items():
        for tokens in (128, 512, 1024, 2048, 4096, 8192):
            boxes = frozenset(("q", "k", "qkv"))
            for bm, bs, warps, stages in ((64, 64, 4, 3), (128, 64, 8, 3), (64, 128, 4, 2), (128, 128, 8, 3)):
                sized = dict(T=tokens, TILES=tokens // bm, HK=8, G=heads // 8, HD=128)
                options = Options(num_warps=warps, num_stages=stages, pdl=True, last_first=True)
                name, statics = f"{bm}-{bs}-w{warps}-s{stages}", dict(BM=bm, BS=bs)
                yield Case("fresh", f"{model} T{tokens} attend", name, batch.prefill_attention, statics, sized, options)
                if bs == 64:
                    options = Options(
                        num_stages=2, descriptors=boxes, persistent=1, consumers=2, last_first=True, pdl=True
                    )
                    name, statics = f"groups2-{bm}-128-s2", dict(BM=bm, SPLIT=bm // 64, BS=128)
                    yield Case(
                        "fresh", f"{model} T{tokens} attend", name, batch.prefill_attention, statics, sized, options
                    )
        for tokens in (64, 256, 8192):
            for bt, warps in ((4, 1), (4, 4), (16, 4), (32, 4)):
                sized = dict(T=tokens, H=heads, HK=8, HALF=64, C=8192, NB=1024, P=16)
                options = Options(num_warps=warps, pdl=True)
                yield Case(
                    "fresh",
                    f"{model} T{tokens} heads",
                    f"{bt}-w{warps}",
                    head_norm_rope_rows,
                    dict(BT=bt),
                    sized,
                    options,
                )
        d, f = MODELS[model][0], MODELS[model][2]
        for name, depth in (("o", heads * 128), ("down", f)):
            for parts in (2, 4):
                for bm, bn, bk, warps, stages in ((128, 128, 64, 8, 4), (64, 128, 64, 4, 4), (128, 64, 64, 4, 4)):
                    length = -(-depth // parts // 256) * 256
                    sized = dict(T=256, N=d, K=depth, PARTS=-(-depth // length))
                    options = Options(num_warps=warps, num_stages=stages, pdl=True, constant=frozenset("w"))
                    statics = dict(BM=bm, BN=bn, BK=bk, DEPTH=length)
                    variant = f"parts{parts}-{bm}-{bn}-{bk}-w{warps}-s{stages}"
                    yield Case("fresh", f"{model} T256 {name}", variant, batch.linear_parts, statics, sized, options)
