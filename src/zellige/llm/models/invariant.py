"""Products and attention whose results for a token do not depend on what else is in the pass, bit for bit.

Every sum has one order, whatever the number of tokens: stretches and tiles of the inner axis are fixed by the weights' shape,
attention folds tiles of one size together in the order of the context, and each kernel has one schedule for all sizes
(``schedules/invariant.json``) where that decides the order of a reduction. Decoding and prefill use the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zellige.ir.dtypes import DType, f32, i32
from zellige.ir.types import ContractKind
from zellige.kernels.batch import linear_few
from zellige.kernels.gpu_moe import combine_norm
from zellige.kernels.invariant import (
    expert_down_each,
    expert_swiglu_each,
    fold_tiles,
    linear_stretches_add,
    paged_decode_folded,
    paged_decode_tiles,
    paged_prefill_folded,
)
from zellige.llm.models.products import FEW_EXPERTS, Matrix, Pages, Products, Scaled, split
from zellige.runtime.contracts import Fact
from zellige.runtime.tensor import Tensor

SCHEDULES = "batch-invariant"
"""The name of the schedules that an executor of a GPU must use."""
TILE = 16
"""Rows of a tile of queries in attention."""
TILE_OF_CONTEXT = 64
"""Positions that attention takes together."""
FEW = 64
"""Tokens up to which stretches of a narrow product are programs of their own; with fp8 weights they always are."""
MOST_WITH_PARTS = 2048
"""Tokens of a pass with fp8 weights: the stretches of all of them are held at once, in f32."""


@dataclass(slots=True)
class InvariantProducts(Products):
    """``Products`` with one order of sums for all numbers of tokens."""

    @property
    def alone(self) -> bool:
        """Never."""
        return False

    @property
    def experts_alone(self) -> bool:
        """Never, by the kernels for few tokens of the other mode."""
        return False

    @property
    def heads_in_attention(self) -> bool:
        """Never."""
        return False

    def attend(self, q: Tensor, pages: Pages, scale: float, out: Tensor, ways: int) -> None:
        """In tiles, which are folded in their order: by one program, or by another one than found them."""
        if ways == 1:
            paged_decode_folded(q, *pages, scale, out=out)
            return
        rows, kv_heads, groups, head_dim = q.shape
        _, _, table, length = pages
        states = (rows, kv_heads, -(-table.shape[1] * pages[0].shape[1] // TILE_OF_CONTEXT), groups)
        part = self.cleared("part of attention", (*states, head_dim))
        best, total = self.cleared("best", states), self.cleared("total", states)
        paged_decode_tiles(q, *pages, scale, part=part, best_of=best, total_of=total, WAYS=ways)
        fold_tiles(part, best, total, length, out=out)

    def cleared(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The f32 buffer of that name, cleared when it is made."""
        key = f"{name} {shape}"
        if key not in self.buffers:
            self.buffers[key] = self.memory.zeros(shape, f32)
        return self.buffers[key]

    def attend_tiles(
        self, q: Tensor, pages: Pages, tiles: tuple[Tensor, Tensor], scale: float, out: Tensor, tile: int
    ) -> None:
        """As ``attend`` does it."""
        paged_prefill_folded(q, *pages, *tiles, scale, out=out, BM=tile)

    def normed(self, h: Tensor, g: Tensor, w: Matrix, dtype: DType) -> Tensor:
        """rms_norm(h, g)·wᵀ."""
        if isinstance(w, Scaled):
            return Products.normed(self, h, g, w, dtype)
        y = self.buffer("product", (self.rows, w.shape[0]), dtype)
        linear_few(self.norm(h, g, w), w, y=y)
        return y

    def experts(
        self,
        h: Tensor,
        g: Tensor,
        weights: tuple[Matrix, Matrix, Matrix],
        expert: Tensor,
        share: Tensor,
        then: Tensor,
    ) -> None:
        """Pairs sorted by expert, where there are many. Each is a row of a product, wherever among its expert's rows it comes: so
        few pairs in 16 bits go through the same product one by one."""
        gate, up, down = weights
        if self.rows > FEW_EXPERTS or not (
            isinstance(gate, Tensor) and isinstance(up, Tensor) and isinstance(down, Tensor)
        ):
            Products.experts(self, h, g, weights, expert, share, then)
            return
        choices, width, depth = expert.shape[1], gate.shape[1], h.shape[1]
        gated = self.buffer("gated", (self.rows, choices, width), self.dtype)
        expert_swiglu_each(self.norm(h, g), gate, up, expert, y=gated)
        y = self.buffer("chosen", (self.rows, choices, depth), f32)
        expert_down_each(gated, down, expert, y=y)
        x = self.buffer("normed", h.shape, self.dtype)
        combine_norm(y.reshape(-1, depth), self.in_order(self.rows, choices), share, then, self.eps, h=h, x=x)
        self._ready = then, self.dtype

    def in_order(self, rows: int, choices: int) -> Tensor:
        """Index[rows · choices] [rows, choices]: 0, 1, 2, …"""
        key, pairs = f"in order {rows} {choices}", rows * choices
        if key not in self.buffers:
            made = self.memory.tensor(np.arange(pairs, dtype=np.int32).reshape(rows, choices), i32)
            made.learn(Fact(ContractKind.INDEX, pairs))
            self.buffers[key] = made
        return self.buffers[key]

    def add(self, x: Tensor, w: Matrix, h: Tensor, then: Tensor, factor: float = 1.0) -> None:
        """h += factor · x·wᵀ, in stretches that the shape of the weights decides."""
        parts, depth = split(TILE, *w.shape, crowded=True)
        self._ready = None
        if isinstance(w, Scaled) or (parts > 1 and self.rows <= FEW):
            self.add_parts(x, w, h, then, factor, (parts, depth))
        else:
            linear_stretches_add(x, w, h=h, DEPTH=depth)
