"""What ``correctness.py`` checks: every GPU kernel at awkward sizes, in ragged grids, with 8-bit numbers, updates and warp groups."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

import sorts_and_updates

import zellige as zl
from zellige import bf16, f32
from zellige.backends.cuda.options import Options
from zellige.ir.ops import Function
from zellige.kernels import (
    batch,
    decode,
    gpu_attention,
    gpu_elementwise,
    gpu_linear,
    gpu_moe,
    gpu_quantised,
    new_token,
    sampling,
)
from zellige.kernels.heads import head_bias_rope_rows, head_norm_rope_rows, head_rope_rows

N, M = zl.dims("N M")
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Check:
    """One kernel at one size; ``fixed`` dims are known when it is compiled."""

    kernel: Any
    dims: dict[str, int]
    statics: dict[str, int] = field(default_factory=dict)
    fixed: tuple[str, ...] | None = None
    options: Options = field(default_factory=Options)
    scalars: dict[str, float] = field(default_factory=dict)
    dtypes: dict[str, Any] = field(default_factory=dict)
    bound: float = 1e-2
    zero: frozenset[str] = frozenset()
    """Inputs that are 0 instead of random."""
    positive: frozenset[str] = frozenset()
    """Inputs of which a kernel takes the logarithm."""
    unruly: frozenset[str] = frozenset()
    """Inputs of which some rows are NaN and some infinite: outputs must be NaN where the interpreter's are."""

    @property
    def function(self) -> Function:
        return self.kernel.lower(
            {**self.kernel.signature.statics, **self.statics}, {"KV": bf16, "X": bf16, **self.dtypes}
        )

    @property
    def known(self) -> dict[str, int]:
        """Dims that are known when it is compiled."""
        return self.dims if self.fixed is None else {name: self.dims[name] for name in self.fixed}


def checks() -> Iterator[Check]:
    """All checks."""
    small = dict(BM=32, BN=32, BK=16)
    for m, n, k in ((1, 1, 1), (17, 33, 40), (64, 64, 64), (100, 72, 56), (129, 257, 65)):
        sizes = dict(M=m, N=n, K=k)
        yield Check(gpu_linear.matmul, sizes, small)
        yield Check(gpu_linear.matmul, sizes, small, fixed=())
        yield Check(gpu_linear.matmul, sizes, small, options=Options(carried=True))
        yield Check(batch.linear_rows, dict(T=m, N=n, K=k), small, options=Options(persistent=1), dtypes={"Y": bf16})
        yield Check(gpu_linear.linear_two_widths, sizes, dict(BM=32, BN=32, BX=16, BK=16))
        if k % 8 == 0 and n % 8 == 0:
            for more in ({}, {"persistent": 1}, {"persistent": 1, "flatten": True}, {"last_first": True, "group": 3}):
                yield Check(
                    gpu_linear.matmul,
                    sizes,
                    dict(BM=64, BN=64, BK=32),
                    options=Options(descriptors=frozenset("abc"), **more),
                )
        yield Check(gpu_linear.matvec, dict(N=n, K=k), dict(BN=4, BK=64))
        yield Check(
            gpu_linear.matvec, dict(N=n, K=k), dict(BN=2, BK=16), options=Options(pdl=True, constant=frozenset("w"))
        )
        rows = dict(T=m, N=n, K=k)
        yield Check(batch.linear_rows, rows, small, dtypes={"Y": bf16})
        yield Check(batch.linear_rows_add, rows, small, options=Options(pdl=True, constant=frozenset("w")))
        yield Check(batch.linear_few, rows, dict(BM=16, BN=32, BK=16), dtypes={"Y": f32})
        yield Check(batch.swiglu_rows, dict(T=m, F=n, K=k), small)
        yield Check(batch.linear_parts, dict(**rows, PARTS=-(-k // 32)), dict(BM=16, BN=32, BK=16, DEPTH=32))
        yield Check(
            decode.norm_linear, dict(T=2, N=n, D=k), dict(BN=2, BK=32), dtypes={"Y": f32}, scalars={"eps": 1e-6}
        )
        yield Check(decode.norm_swiglu, dict(T=2, F=n, D=k), dict(BN=2, BK=32), scalars={"eps": 1e-6})
        yield Check(decode.linear_residual, dict(T=2, N=n, D=k), dict(BN=2, BK=32))
    for m, n, depth, parts in ((17, 33, 40, 3), (100, 72, 32, 2), (129, 256, 96, 4)):
        cut, sizes = dict(**small, DEPTH=depth), dict(M=m, N=n, K=depth * parts, PARTS=parts)
        yield Check(gpu_linear.linear_split, sizes, cut)
        yield Check(gpu_linear.linear_split, sizes, cut, options=Options(descriptors=frozenset("xw"), pdl=True))
        two = dict(BM=64, BN=64, BX=16, BK=16, DEPTH=depth)
        yield Check(gpu_linear.linear_split_two_widths, sizes, two)
        if m > 64 and depth % 8 == 0:
            groups = Options(num_stages=3, descriptors=frozenset("xw"), persistent=1, consumers=2, pdl=True)
            yield Check(gpu_linear.linear_split_two_widths, sizes, two, options=groups)
            yield Check(
                gpu_linear.linear_two_widths, dict(M=m, N=n, K=depth * parts), {**two, "BX": 32}, options=groups
            )
        yield Check(batch.sum_parts, dict(T=m, N=n, PARTS=parts), dict(BN=64), dtypes={"Y": bf16})
    for d in (1, 3, 64, 100, 1000, 4096):
        yield Check(gpu_elementwise.rms_norm, dict(T=5, D=d), scalars={"eps": 1e-6})
        yield Check(gpu_elementwise.add_rms_norm, dict(T=5, D=d), scalars={"eps": 1e-6})
        yield Check(gpu_elementwise.softmax, dict(T=5, D=d))
        yield Check(batch.norm_rows, dict(T=5, D=d), scalars={"eps": 1e-6})
        yield Check(batch.sum_parts_norm, dict(T=5, D=d, PARTS=3), scalars={"eps": 1e-6})
        yield Check(gpu_elementwise.copy, dict(N=d), fixed=(), bound=0.0)
        yield Check(gpu_elementwise.swiglu, dict(N=d), fixed=())
    heads = dict(HK=2, G=3, HD=32)
    for s in (1, 31, 64, 130):
        for boxes in (frozenset(), frozenset(("q", "k", "v", "out"))):
            options = Options(descriptors=boxes, last_first=True)
            yield Check(
                gpu_attention.attention_causal,
                dict(B=2, S=s, **heads),
                dict(BM=32, BS=32, BAND=2),
                options=options,
                scalars={"scale": 0.2},
                bound=2e-2,
            )
    for tiles, tile in ((1, 16), (3, 16), (2, 64), (5, 32)):
        rows = dict(T=tiles * tile, TILES=tiles, **heads)
        paged = dict(B=3, NB=40, P=4, PAGES=40, **rows)
        for kernel, dims in ((batch.paged_prefill, paged), (batch.prefill_attention, rows)):
            # a tile begins after its sequence does: here all are of the sequence that begins at row 0
            tiles_of = dict(BM=tile, BS=16)
            yield Check(kernel, dims, tiles_of, scalars={"scale": 0.2}, bound=2e-2, zero=frozenset(("base",)))
    for splits in (1, 4):
        cache = dict(B=3, NB=50, P=4, PAGES=16, SPLITS=splits, **heads)
        yield Check(
            gpu_attention.paged_decode_partial,
            cache,
            dict(WAYS=splits, BS=16),
            scalars={"scale": 0.2},
            bound=2e-2,
        )
        yield Check(gpu_attention.paged_decode_combine, dict(B=3, SPLITS=splits, **heads))
    for ways in (1, 4):
        token = dict(B=3, HK=2, G=3, HALF=16, C=64, NB=50, P=4, PAGES=16, SPLITS=ways)
        divided: dict[str, Any] = dict(statics=dict(WAYS=ways, BS=16), bound=2e-2)
        yield Check(new_token.norm_rope_attend, token, **divided, scalars={"scale": 0.2, "eps": 1e-6})
        yield Check(new_token.bias_rope_attend, token, **divided, scalars={"scale": 0.2})
        yield Check(new_token.rope_attend, token, **divided, scalars={"scale": 0.2})
        yield Check(new_token.combine_append, dict(B=3, HK=2, G=3, HD=32, NB=50, P=4, SPLITS=ways))
    for tokens in (5, 33):
        rows = dict(T=tokens, H=6, HK=2, HALF=16, C=64, NB=20, P=4)
        yield Check(head_norm_rope_rows, rows, dict(BT=16), scalars={"eps": 1e-6})
        yield Check(head_rope_rows, rows, dict(BT=16))
        yield Check(head_bias_rope_rows, rows, dict(BT=16))
        yield Check(head_norm_rope_rows, rows, dict(BT=16, BH=4), scalars={"eps": 1e-6})
    yield from ragged_checks()
    yield from eight_bit_checks()
    yield from group_checks()
    yield from attention_checks()
    yield from update_checks()
    yield Check(decode.argmax_parts, dict(B=3, V=1000, PARTS=4), dict(BLOCK=256), bound=0.0)
    yield Check(decode.argmax_combine, dict(B=3, V=1000, PARTS=5), bound=0.0)
    row = dict(B=3, V=1000, PARTS=4)
    yield Check(sampling.row_parts, row, dict(BLOCK=256))
    yield Check(sampling.altered, row | dict(A=5), dict(BLOCK=256))
    yield Check(sampling.token_logprob, row, positive=frozenset(("total",)))
    yield Check(sampling.count_tokens, dict(B=3, V=100, A=5), bound=0.0)
    yield Check(sampling.keep_tokens, dict(B=3, V=100, A=5), bound=0.0)
    yield Check(sampling.pick_tokens, dict(B=9, V=100, A=5), bound=0.0)


def ragged_checks() -> Iterator[Check]:
    """Segments: few and many, empty and long, in both kinds of search."""
    tiles = dict(BM=16, BN=32, BK=16)
    for pairs, experts in ((1, 1), (40, 5), (200, 128), (300, 1), (700, 1500)):
        sizes = dict(PAIRS=pairs, E=experts, N=40, K=48)
        yield Check(gpu_moe.grouped_linear, sizes, tiles)
        yield Check(gpu_moe.grouped_linear, sizes, tiles, fixed=())
        boxes = Options(descriptors=frozenset("w"), persistent=1)
        yield Check(gpu_moe.grouped_linear, sizes, dict(BM=64, BN=64, BK=32), options=boxes)
    for tokens, experts in ((5, 8), (33, 16)):
        sizes = dict(T=tokens, C=3, E=experts, K=48)
        pdl = Options(pdl=True, constant=frozenset(("gate", "up", "w", "start")))
        yield Check(gpu_moe.expert_swiglu, dict(F=40, **sizes), tiles, options=pdl, bound=2e-2)
        pairs = dict(PAIRS=tokens * 3, E=experts)
        yield Check(gpu_moe.expert_down, dict(N=40, K=48, **pairs), tiles, options=pdl)
        yield Check(gpu_moe.count_pairs, pairs, bound=0.0)
        yield Check(gpu_moe.begin_segments, dict(BLOCKS=1, **pairs), bound=0.0)
        yield Check(gpu_moe.place_pairs, pairs, bound=0.0)
        yield Check(
            gpu_moe.combine_norm, dict(T=tokens, C=3, N=40, PAIRS=tokens * 3), scalars={"eps": 1e-6}, bound=1e-5
        )


def eight_bit_checks() -> Iterator[Check]:
    """fp8 and int8 products; the matrix units' sums of fp8 products are inexact within 128 of them."""
    for m, n, k in ((1, 16, 16), (17, 48, 80), (100, 144, 208), (130, 272, 400)):
        sizes = dict(M=m, N=n, K=k)
        for options in (Options(), Options(num_warps=8, descriptors=frozenset("xw"), persistent=1)):
            yield Check(gpu_quantised.scaled_linear, sizes, dict(BM=64, BH=32, BK=64), options=options)
    yield Check(gpu_quantised.quantise_rows, dict(M=5, K=1000), bound=1e-2)


def update_checks() -> Iterator[Check]:
    """Updates of 8-bit numbers, whose words have two elements; the sums of integers wrap."""
    for count, bins in ((1, 1), (1000, 7), (3001, 301)):
        sizes = dict(M=count, K=bins)
        for dtype in (zl.i8, zl.u8):
            yield Check(sorts_and_updates.scattered, sizes, dtypes={"T": dtype}, bound=0.0)
            yield Check(sorts_and_updates.bits, sizes, dtypes={"T": dtype}, bound=0.0)
            yield Check(sorts_and_updates.beside, dict(M=count), dtypes={"T": dtype}, bound=0.0)


def group_checks() -> Iterator[Check]:
    """Products whose blocks divide their work by warp groups: tiles cut on all sides, groups without a program."""
    for m, n, k in ((100, 72, 56), (130, 128, 64), (200, 264, 208), (450, 136, 400)):
        for groups in (1, 2) if m < 200 else (1, 2, 3):
            options = Options(
                num_stages=3, descriptors=frozenset("abxw"), persistent=1, consumers=groups, pdl=groups == 2
            )
            sizes = dict(M=m, N=n, K=k)
            yield Check(gpu_linear.matmul, sizes, dict(BM=64, BN=64, BK=32), options=options)
            yield Check(
                batch.linear_rows,
                dict(T=m, N=n, K=k),
                dict(BM=64, BN=128, BK=64),
                ("N", "K"),
                options,
                dtypes={"Y": f32},
            )
            boxed = replace(options, descriptors=frozenset(("x", "gate", "up")))
            yield Check(batch.swiglu_rows, dict(T=m, F=n, K=k), dict(BM=64, BN=64, BK=64), options=boxed)
            for rows, columns in ((64, 128), (128, 64)):
                tile, sent = dict(BM=rows, BN=columns, BK=32), replace(options, descriptors=frozenset("xwhy"))
                if rows * (groups - 1) < m:
                    yield Check(batch.linear_rows_add, dict(T=m, N=n, K=k), tile, options=sent)
                    yield Check(batch.linear_rows, dict(T=m, N=n, K=k), tile, options=sent, dtypes={"Y": bf16})
            sent = replace(options, descriptors=frozenset("xwh"))
            yield Check(batch.linear_rows_add, dict(T=m, N=n, K=k), dict(BM=64, BN=32, BK=16), ("N", "K"), sent)
            if k % 16 == 0:
                yield Check(gpu_quantised.scaled_linear, sizes, dict(BM=64, BH=64, BK=128), options=options)
                yield Check(gpu_quantised.scaled_linear_int8, sizes, dict(BM=64, BN=64, BK=128), options=options)
                yield Check(gpu_quantised.block_scaled_linear, sizes, dict(BM=64), options=options)


def attention_checks() -> Iterator[Check]:
    """Attention whose blocks divide their work by warp groups: cut tiles, heads that do not fill a block, rows that are no numbers."""
    scalars = {"scale": 0.1}
    for s in (1, 63, 64, 65, 127, 200, 1000, 4097):
        for heads in range(1, 9) if s == 200 else (2, 5):
            groups = 1 if heads == 1 else 2 + (heads == 3)
            tiles = dict(BM=64, BS=64 if groups == 3 or s == 1000 else 128, BAND=4)
            options = Options(
                num_stages=2, descriptors=frozenset("qkv"), persistent=1, consumers=groups, last_first=s != 127
            )
            sizes = dict(B=2 if s < 1000 else 1, HK=2 if s < 1000 else 1, G=heads, S=s, HD=64 if heads == 4 else 128)
            unruly = frozenset("kv") if heads == 5 else frozenset()
            dtypes = {"X": zl.f16} if heads == 6 else {}
            yield Check(
                gpu_attention.attention_causal,
                sizes,
                tiles,
                options=options,
                scalars=scalars,
                unruly=unruly,
                dtypes=dtypes,
            )
    for tokens, rows, split in ((64, 64, 1), (128, 128, 2), (640, 128, 2), (448, 64, 1), (1024, 256, 4)):
        for heads, stages in ((2, 2), (3, 3)):
            options = Options(
                num_stages=stages, descriptors=frozenset(("q", "k", "qkv")), persistent=1, consumers=2, pdl=stages == 3
            )
            sizes = dict(T=tokens, TILES=tokens // rows, HK=2, G=heads, HD=128)
            tiles = dict(BM=rows, SPLIT=split, BS=128 if stages == 2 else 64)
            yield Check(
                batch.prefill_attention, sizes, tiles, options=options, scalars=scalars,
                unruly=frozenset(("k", "qkv")) if tokens == 448 else frozenset(),
            )  # fmt: skip
