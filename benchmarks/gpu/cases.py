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

    @property
    def folder(self) -> str:
        """A name for its folder."""
        return f"{self.table}/{self.row}/{self.variant}"


def cases() -> Iterator[Case]:
    """All cases."""
    yield from _gemm()
    yield from _gemv()
    yield from _thin()
    yield from _rows()
    yield from _attention()
    yield from _decode()


def _gemm() -> Iterator[Case]:
    from zellige.kernels import gpu_linear

    boxes = frozenset("abc")
    for n in (4096, 8192):
        schedules = {
            "pointers-s3": Options(num_warps=8, num_stages=3),
            "pointers-s4": Options(num_warps=8, num_stages=4),
            "tma-s3": Options(num_warps=8, num_stages=3, descriptors=boxes),
            "tma-s4": Options(num_warps=8, num_stages=4, descriptors=frozenset("ab")),
            "tma-s3-ab": Options(num_warps=8, num_stages=3, descriptors=frozenset("ab")),
            "tma-s3-group16": Options(num_warps=8, num_stages=3, descriptors=boxes, group=16),
            "tma-s4-ab-group16": Options(num_warps=8, num_stages=4, descriptors=frozenset("ab"), group=16),
            "persistent-s3": Options(num_warps=8, num_stages=3, descriptors=boxes, persistent=1),
            "persistent-s3-flat": Options(num_warps=8, num_stages=3, descriptors=boxes, persistent=1, flatten=True),
            "persistent-s4-flat-ab": Options(num_warps=8, num_stages=4, descriptors=frozenset("ab"), persistent=1, flatten=True),
        }  # fmt: skip
        for name, options in schedules.items():
            yield Case(
                "gemm", f"{n}", name, gpu_linear.matmul, dict(BM=128, BN=256, BK=64), dict(M=n, N=n, K=n), options
            )


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
    from zellige.kernels import gpu_linear

    for n, k in THIN_SHAPES:
        for m in (8, 64):
            rows = max(m, 16)
            for bn, bk, warps, stages in ((64, 128, 4, 4), (64, 256, 4, 3), (32, 256, 4, 3), (32, 128, 4, 5), (16, 256, 2, 4), (16, 512, 4, 3)):
                for boxes in (frozenset(), frozenset("xw")):
                    yield Case(
                        "thin", f"{m}x{n}x{k}", f"{bn}-{bk}-w{warps}-s{stages}{'-tma' if boxes else ''}", gpu_linear.thin_linear,
                        dict(BM=rows, BN=bn, BK=bk), dict(M=m, N=n, K=k), Options(num_warps=warps, num_stages=stages, descriptors=boxes),
                    )  # fmt: skip


def _rows() -> Iterator[Case]:
    from zellige.kernels import gpu_elementwise as rows

    t, d = ROWS
    for bn, warps in ((1024, 4), (2048, 4), (2048, 8), (4096, 8)):
        for name, streamed in (("", frozenset()), ("-first", frozenset("xy")), ("-first-in", frozenset("x"))):
            options = Options(num_warps=warps, streamed=streamed)
            yield Case("rows", "copy", f"{bn}-w{warps}{name}", rows.copy, dict(BN=bn), dict(N=t * d), options)
        options = Options(num_warps=warps, streamed=frozenset(("gate", "up")))
        yield Case("rows", "swiglu", f"{bn}-w{warps}", rows.swiglu, dict(BN=bn), dict(N=t * d), options)
    for warps in (4, 8):
        for name, streamed in (("", frozenset()), ("-first", frozenset(("x", "h", "y")))):
            options = Options(num_warps=warps, streamed=streamed)
            yield Case("rows", "rms_norm", f"w{warps}{name}", rows.rms_norm, {}, dict(D=d), options)
            yield Case("rows", "softmax", f"w{warps}{name}", rows.softmax, {}, dict(D=d), options)
    for warps in (4, 8):
        yield Case("rows", "add_rms_norm", f"w{warps}", rows.add_rms_norm, {}, dict(D=d), Options(num_warps=warps))


def _attention() -> Iterator[Case]:
    from zellige.kernels import gpu_attention

    boxes = frozenset(("q", "k", "v", "out"))
    for s in (2048, 8192):
        for bm, bs, warps, stages in (
            (128, 128, 8, 3),
            (128, 128, 8, 2),
            (128, 64, 8, 3),
            (64, 64, 4, 3),
            (64, 128, 4, 2),
        ):
            for name, extra in (("", {}), ("-tma", {"descriptors": boxes})):
                yield Case(
                    "attention", f"{s}", f"{bm}-{bs}-w{warps}-s{stages}{name}", gpu_attention.attention_causal, dict(BM=bm, BS=bs),
                    dict(B=1, HK=8, G=4, S=s, HD=128), Options(num_warps=warps, num_stages=stages, last_first=True, **extra),
                )  # fmt: skip


def _decode() -> Iterator[Case]:
    from zellige.kernels import gpu_attention

    for b, context in DECODE:
        for chunk in {64: (2048, 4096), 8: (512, 1024), 1: (128, 64)}[b]:
            for bs, warps, stages in ((64, 2, 4), (64, 4, 3), (32, 2, 4)):
                splits = context // chunk
                dims = dict(HK=8, G=4, HD=128, P=16, B=b, PAGES=context // 16, SPLITS=splits, NB=b * context // 16)
                yield Case(
                    "decode", f"{b}x{context}", f"{chunk}-{bs}-w{warps}-s{stages}", gpu_attention.paged_decode_partial,
                    dict(CHUNK=chunk, BS=bs), dims, Options(num_warps=warps, num_stages=stages),
                )  # fmt: skip
        for chunk in {64: (2048, 4096), 8: (512, 1024), 1: (128, 64)}[b]:
            dims = dict(HK=8, G=4, HD=128, B=b, SPLITS=context // chunk)
            yield Case(
                "combine",
                f"{b}x{context}",
                f"{chunk}",
                gpu_attention.paged_decode_combine,
                {},
                dims,
                Options(num_warps=2),
            )
