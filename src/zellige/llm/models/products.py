"""Products with weights, by the kernels that suit the number of tokens and the weights: bf16 or f16, or fp8 with scales.

Up to `FEW` tokens each streams the weights by itself, with the norm and the residual inside the product; more share them in
matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from zellige.diagnostics import ZelligeError
from zellige.ir.dtypes import DType, bf16, f16, f32, i32
from zellige.kernels import fp8
from zellige.kernels.batch import (
    linear_few,
    linear_parts,
    linear_rows,
    linear_rows_add,
    norm_rows,
    paged_decode,
    paged_prefill,
    sum_parts_norm,
    swiglu_rows,
)
from zellige.kernels.decode import linear_residual, norm_linear, norm_swiglu
from zellige.kernels.fp8_experts import (
    expert_down_fp8,
    expert_norm_swiglu_fp8,
    expert_residual_fp8,
    expert_swiglu_fp8,
)
from zellige.kernels.gpu_attention import paged_decode_combine, paged_decode_partial
from zellige.kernels.gpu_moe import (
    BLOCK,
    begin_segments,
    combine_norm,
    count_pairs,
    expert_down,
    expert_swiglu,
    place_pairs,
)
from zellige.kernels.moe import expert_norm_swiglu, expert_residual
from zellige.runtime.kernel import Kernel
from zellige.runtime.tensor import Tensor

FEW = 4
"""Tokens up to which each streams the weights by itself."""
SOME = 16
"""Tokens up to which programs that share a context each rotate the queries that they use."""
SHORT = 512
"""Positions up to which a context is short."""
THIN = 64
"""Tokens up to which the weights are the tall side of a product."""
FEW_EXPERTS = 8
"""Tokens up to which each streams the weights of its experts by itself."""
MOST_WITH_EXPERTS = 4096
"""Tokens of a pass through experts: the results of all pairs of a token and an expert are held at once, in f32."""
MULTIPROCESSORS = 132
"""Of the GPUs that the split of narrow products is chosen for."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """A matrix in fp8: ``values`` f8e4m3 [N, K] times ``scale``, f32 [N, 1] by rows or [⌈N / 128⌉, ⌈K / 128⌉] by blocks.

    Of experts, [E, N, K] by rows, with scales [E, N, 1]."""

    values: Tensor
    scale: Tensor
    by: Literal["rows", "blocks"]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def nbytes(self) -> int:
        """Bytes of device memory."""
        return int(self.values.storage.nbytes + self.scale.storage.nbytes)


Matrix = Tensor | Scaled
Pages = tuple[Tensor, Tensor, Tensor, Tensor]
"""Keys and values, [NB, P, HK, HD], table [B, PAGES] and length [B]."""


@dataclass(frozen=True, slots=True)
class _Fp8Kernels:
    """Kernels for weights with one kind of scales; the first three are for few tokens."""

    norm_linear: Kernel
    norm_swiglu: Kernel
    residual: Kernel
    linear: Kernel
    swiglu: Kernel
    parts: Kernel


_FP8 = {
    "rows": _Fp8Kernels(
        fp8.norm_linear_by_rows, fp8.norm_swiglu_by_rows, fp8.residual_by_rows,
        fp8.linear_by_rows, fp8.swiglu_by_rows, fp8.parts_by_rows,
    ),
    "blocks": _Fp8Kernels(
        fp8.norm_linear_by_blocks, fp8.norm_swiglu_by_blocks, fp8.residual_by_blocks,
        fp8.linear_by_blocks, fp8.swiglu_by_blocks, fp8.parts_by_blocks,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _ExpertKernels:
    """Kernels of a mixture of experts; the first two are for few tokens."""

    norm_swiglu: Kernel
    residual: Kernel
    swiglu: Kernel
    down: Kernel


_EXPERTS = {
    False: _ExpertKernels(expert_norm_swiglu, expert_residual, expert_swiglu, expert_down),
    True: _ExpertKernels(expert_norm_swiglu_fp8, expert_residual_fp8, expert_swiglu_fp8, expert_down_fp8),
}
"""By whether the weights are fp8."""


def _arrays(w: Matrix) -> tuple[Tensor, ...]:
    """What a kernel takes of a matrix."""
    return (w.values, w.scale) if isinstance(w, Scaled) else (w,)


class Memory(Protocol):
    """Where tensors are made."""

    def empty(self, shape: Sequence[int], dtype: DType) -> Tensor: ...

    def zeros(self, shape: Sequence[int], dtype: DType) -> Tensor: ...

    def tensor(self, values: NDArray[Any], dtype: DType) -> Tensor: ...


@dataclass(slots=True)
class Products:
    """Products over ``rows`` tokens. Layers share the buffers of results: they run one by one.

    ``dtype``: of activations, and of weights that are not fp8: bf16 or f16."""

    rows: int
    eps: float
    memory: Memory
    dtype: DType = bf16
    buffers: dict[str, Tensor] = field(default_factory=dict)
    _ready: tuple[Tensor, DType] | None = None
    """The weight and the type of the norm that is in its buffer already."""

    @property
    def alone(self) -> bool:
        """Whether each token streams the weights by itself."""
        return self.rows <= FEW

    @property
    def experts_alone(self) -> bool:
        """Whether each token streams the weights of its experts by itself."""
        return self.rows <= FEW_EXPERTS

    @property
    def heads_in_attention(self) -> bool:
        """Whether attention rotates heads where it uses them, if several programs share a context."""
        return self.rows <= SOME

    def splits(self, kv_heads: int, positions: int) -> int:
        """How many programs share the attention over one context of at most ``positions``: a power of two, so that some 512 programs
        keep a GPU busy, and at most 32, since the parts are read again. A short context keeps no more than 128 busy."""
        most = 512 // (self.rows * kv_heads)
        if positions <= SHORT:
            most = min(most, 128 // kv_heads)
        return 1 << min(5, max(1, most).bit_length() - 1)

    def buffer(self, name: str, shape: tuple[int, ...], dtype: DType) -> Tensor:
        """The buffer of that name; made the first time."""
        key = f"{name} {shape} {dtype}"
        if key not in self.buffers:
            self.buffers[key] = self.memory.empty(shape, dtype)
        return self.buffers[key]

    def attend(self, q: Tensor, pages: Pages, scale: float, out: Tensor, ways: int) -> None:
        """out = the attention of each sequence's query over its context. q, out [B, HK, G, HD]; ``ways``: programs a context."""
        if ways == 1:
            paged_decode(q, *pages, scale, out=out)
            return
        rows, kv_heads, groups, head_dim = q.shape
        states = (rows, kv_heads, ways, groups)
        part = self.buffer("part of attention", (*states, head_dim), f32)
        best, total = self.buffer("best", states, f32), self.buffer("total", states, f32)
        paged_decode_partial(q, *pages, scale, part=part, best_of=best, total_of=total, WAYS=ways)
        paged_decode_combine(part, best, total, out=out)

    def attend_tiles(
        self, q: Tensor, pages: Pages, tiles: tuple[Tensor, Tensor], scale: float, out: Tensor, tile: int
    ) -> None:
        """The same for many queries of each sequence, in tiles of ``tile`` rows; ``tiles``: owner and start, see ``paged_prefill``."""
        paged_prefill(q, *pages, *tiles, scale, out=out, BM=tile)

    def operand(self, w: Matrix) -> DType:
        """The type of what is multiplied with w, where it is made for w."""
        return f16 if isinstance(w, Scaled) and not self.alone and w.shape[1] % fp8.TURN == 0 else self.dtype

    def norm(self, h: Tensor, g: Tensor, w: Matrix | None = None) -> Tensor:
        """rms_norm(h, g), as a product with w reads it; in ``dtype`` where w is None."""
        x = self.buffer("normed", h.shape, self.dtype if w is None else self.operand(w))
        if self._ready is not None and self._ready[0] is g and self._ready[1] is x.dtype:
            return x
        if x.dtype is not self.dtype:
            fp8.norm_turned(*map(_by_turns, (h, g)), self.eps, x=_by_turns(x))
        else:
            norm_rows(h, g, self.eps, x=x)
        return x

    def normed(self, h: Tensor, g: Tensor, w: Matrix, dtype: DType) -> Tensor:
        """rms_norm(h, g)·wᵀ."""
        y, few = self.buffer("product", (self.rows, w.shape[0]), dtype), self.alone
        if isinstance(w, Scaled):
            use = _FP8[w.by]
            if few:
                use.norm_linear(h, g, w.values, w.scale, self.eps, y=y)
            else:
                use.linear(self.norm(h, g, w), w.values, w.scale, y=y)
        elif few:
            norm_linear(h, g, w, self.eps, y=y)
        else:
            (linear_few if self.rows <= THIN else linear_rows)(self.norm(h, g, w), w, y=y)
        return y

    def swiglu(self, h: Tensor, g: Tensor, gate: Matrix, up: Matrix, down: Matrix) -> Tensor:
        """silu(x·gateᵀ)·(x·upᵀ) with x = rms_norm(h, g), for down; in f16 over ``fp8.SHRINK``. Gate and up are of one kind."""
        y, few = self.buffer("gated", (self.rows, gate.shape[0]), self.operand(down)), self.alone
        match gate, up:
            case Scaled(a, a_scale, by), Scaled(b, b_scale, up_by) if by == up_by:
                if few:
                    _FP8[by].norm_swiglu(h, g, a, a_scale, b, b_scale, self.eps, y=y)
                else:
                    _FP8[by].swiglu(self.norm(h, g, gate), a, a_scale, b, b_scale, y=y)
            case Tensor(), Tensor():
                if few:
                    norm_swiglu(h, g, gate, up, self.eps, y=y)
                else:
                    swiglu_rows(self.norm(h, g, gate), gate, up, y=y)
            case _:
                raise ZelligeError(
                    "ZL0605",
                    "the gate and up matrices of a layer are stored in two ways",
                    help="load it with dtype='bf16'",
                )
        return y

    def add(self, x: Tensor, w: Matrix, h: Tensor, then: Tensor, factor: float = 1.0) -> None:
        """h += factor · x·wᵀ; a factor other than 1 is for f16. ``then``: the weight of the norm that reads h next, which may be
        made on the way, for a matrix like w."""
        self._ready = None
        if self.alone:
            if isinstance(w, Scaled):
                _FP8[w.by].residual(x, w.values, w.scale, h=h)
            else:
                linear_residual(x, w, h=h)
            return
        parts, depth = split(self.rows, *w.shape, crowded=isinstance(w, Scaled))
        if parts == 1 and isinstance(w, Tensor):
            linear_rows_add(x, w, h=h)
        else:
            self.add_parts(x, w, h, then, factor, (parts, depth))

    def add_parts(
        self, x: Tensor, w: Matrix, h: Tensor, then: Tensor, factor: float, stretches: tuple[int, int]
    ) -> None:
        """``add`` in so many stretches of the inner axis of such a length, side by side; makes the norm that comes next."""
        parts, depth = stretches
        part = self.buffer("part", (parts, *h.shape), f32)
        if isinstance(w, Scaled):
            _FP8[w.by].parts(x, w.values, w.scale, factor, part=part, DEPTH=-(-depth // fp8.BLOCK) * fp8.BLOCK)
        else:
            linear_parts(x, w, part=part, DEPTH=depth)
        after = f16 if isinstance(w, Scaled) and h.shape[1] % fp8.TURN == 0 else self.dtype
        x = self.buffer("normed", h.shape, after)
        if after is not self.dtype:
            fp8.sum_parts_norm_turned(*map(_by_turns, (part, then)), self.eps, h=_by_turns(h), x=_by_turns(x))
        else:
            sum_parts_norm(part, then, self.eps, h=h, x=x)
        self._ready = then, after

    def experts(
        self,
        h: Tensor,
        g: Tensor,
        weights: tuple[Matrix, Matrix, Matrix],
        expert: Tensor,
        share: Tensor,
        then: Tensor,
    ) -> None:
        """h += Σ share[t, c] · (the feed-forward layer of expert[t, c])(rms_norm(h, g)). ``then``: as in ``add``.

        Weights: gate and up [E, F, D], down [E, D, F], all of one dtype, or all fp8 by rows; expert Index[E] [T, C]; share f32 [T, C]."""
        use = _EXPERTS[all(isinstance(w, Scaled) for w in weights)]
        gate, up, down = map(_arrays, weights)
        (count, width, depth), choices = weights[0].shape, expert.shape[1]
        if self.experts_alone:
            y = self.buffer("gated", (self.rows, choices, width), self.dtype)
            use.norm_swiglu(h, g, *gate, *up, expert, self.eps, y=y)
            use.residual(y, *down, expert, share, h=h)
            self._ready = None
            return
        pairs, blocks = self.rows * choices, -(-self.rows * choices // BLOCK)
        counts = self.buffer("counts", (blocks, count), i32), self.buffer("first", (blocks, count), i32)
        order, place = self.buffer("order", (pairs,), i32), self.buffer("place", (pairs,), i32)
        start = self.buffer("start", (count + 1,), i32)
        chosen = expert.reshape(pairs)
        count_pairs(chosen, count=counts[0])
        begin_segments(counts[0], start=start, first=counts[1], order=order)
        place_pairs(chosen, counts[1], place=place, order=order)
        gated = self.buffer("gated", (pairs, width), self.dtype)
        use.swiglu(self.norm(h, g), *gate, *up, order, start, y=gated, C=choices)
        y = self.buffer("chosen", (pairs, depth), f32)
        use.down(gated, *down, start, y=y)
        x = self.buffer("normed", h.shape, self.dtype)
        combine_norm(y, place.reshape(self.rows, choices), share, then, self.eps, h=h, x=x)
        self._ready = then, self.dtype


def _by_turns(x: Tensor) -> Tensor:
    """The last axis in two."""
    return x.reshape(*x.shape[:-1], x.shape[-1] // fp8.TURN, fp8.TURN)


def split(rows: int, width: int, depth: int, *, crowded: bool = False) -> tuple[int, int]:
    """Into how many stretches to cut the inner axis of a narrow product so that it fills the GPU, and how long each is.

    As many as run at once with one program a multiprocessor, since what is left over would wait for a whole program. ``crowded``
    (fp8): some two a multiprocessor for up to ``SOME`` rows, as a program alone does not ask for bytes fast enough there."""

    def tiles(side: int) -> int:
        return -(-rows // side) * -(-width // side)

    side = 64 if rows <= THIN or (not crowded and 2 * tiles(64) <= MULTIPROCESSORS) else 128
    programs = tiles(side)
    if rows > 256 or programs >= MULTIPROCESSORS:
        return 1, depth
    parts = MULTIPROCESSORS // programs
    if rows <= SOME:
        parts = -(-2 * MULTIPROCESSORS // programs) if crowded else max(parts, 2)
    parts = min(parts, 8 if rows <= THIN else 4)
    length = -(-depth // parts // 256) * 256
    return -(-depth // length), length
