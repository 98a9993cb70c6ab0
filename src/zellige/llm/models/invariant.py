"""Products and attention whose results for a token do not depend on what else is in the pass, bit for bit.

Every sum has one order, whatever the number of tokens: stretches and tiles of the inner axis are fixed by the weights' shape,
attention goes over the context in tiles of one size without splitting it, and each kernel has one schedule for all sizes
(``schedules/invariant.json``) where that decides the order of a reduction. Decoding and prefill use the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from zellige.ir.dtypes import DType, bf16, f32
from zellige.kernels.batch import linear_few, linear_parts, sum_parts_norm, swiglu_rows
from zellige.kernels.invariant import linear_stretches_add
from zellige.llm.models.products import Matrix, Products, split
from zellige.runtime.tensor import Tensor

SCHEDULES = "batch-invariant"
"""The name of the schedules that an executor of a GPU must use."""
TILE = 16
"""Rows of a tile of queries in attention."""
FEW = 64
"""Tokens up to which stretches of a narrow product are programs of their own."""


@dataclass(slots=True)
class InvariantProducts(Products):
    """``Products`` with one order of sums for all numbers of tokens."""

    @property
    def by_head(self) -> bool:
        """Never."""
        return False

    def splits(self, kv_heads: int) -> int:
        """One: a context is not divided."""
        return 1

    def normed(self, h: Tensor, g: Tensor, w: Matrix, dtype: DType) -> Tensor:
        """rms_norm(h, g)·wᵀ."""
        y = self.buffer("product", (self.rows, w.shape[0]), dtype)
        linear_few(self.norm(h, g, w), w, y=y)
        return y

    def swiglu(self, h: Tensor, g: Tensor, gate: Matrix, up: Matrix, down: Matrix) -> Tensor:
        """silu(x·gateᵀ)·(x·upᵀ) with x = rms_norm(h, g)."""
        y = self.buffer("gated", (self.rows, gate.shape[0]), bf16)
        swiglu_rows(self.norm(h, g, gate), gate, up, y=y)
        return y

    def add(self, x: Tensor, w: Matrix, h: Tensor, then: Tensor, factor: float = 1.0) -> None:
        """h += x·wᵀ, in stretches that the shape of the weights decides."""
        parts, depth = split(TILE, *w.shape)
        if parts == 1 or self.rows > FEW:
            self._ready = None
            linear_stretches_add(x, w, h=h, DEPTH=depth)
            return
        part = self.buffer("part", (parts, *h.shape), f32)
        linear_parts(x, w, part=part, DEPTH=depth)
        normed = self.buffer("normed", h.shape, bf16)
        sum_parts_norm(part, then, self.eps, h=h, x=normed)
        self._ready = then, bf16
