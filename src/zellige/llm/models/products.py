"""Products with weights, by the kernels that suit the number of tokens; weights are bf16.

Up to `FEW` tokens each streams the weights by itself, with the norm and the residual inside the product; more share them in
matrix products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from zellige.ir.dtypes import DType, bf16, f32
from zellige.kernels.batch import linear_parts, linear_rows, linear_rows_add, norm_rows, sum_parts_add, swiglu_rows
from zellige.kernels.decode import linear_residual, norm_linear, norm_swiglu
from zellige.runtime.tensor import Tensor

FEW = 4
"""Tokens up to which each streams the weights by itself."""
MULTIPROCESSORS = 132
"""Of the GPUs that the split of narrow products is chosen for."""


class Memory(Protocol):
    """Where tensors are made."""

    def empty(self, shape: Sequence[int], dtype: DType) -> Tensor: ...

    def zeros(self, shape: Sequence[int], dtype: DType) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Products:
    """Products over ``rows`` tokens. Layers share the buffers of results: they run one by one."""

    rows: int
    eps: float
    memory: Memory
    buffers: dict[str, Tensor] = field(default_factory=dict)

    def buffer(self, name: str, shape: tuple[int, ...], dtype: DType) -> Tensor:
        """The buffer of that name; made the first time."""
        key = f"{name} {shape} {dtype}"
        if key not in self.buffers:
            self.buffers[key] = self.memory.empty(shape, dtype)
        return self.buffers[key]

    def norm(self, h: Tensor, g: Tensor) -> Tensor:
        """rms_norm(h, g) in bf16."""
        x = self.buffer("normed", h.shape, bf16)
        norm_rows(h, g, self.eps, x=x)
        return x

    def normed(self, h: Tensor, g: Tensor, w: Tensor, dtype: DType) -> Tensor:
        """rms_norm(h, g)·wᵀ."""
        y = self.buffer("product", (self.rows, w.shape[0]), dtype)
        if self.rows <= FEW:
            norm_linear(h, g, w, self.eps, y=y)
        else:
            linear_rows(self.norm(h, g), w, y=y)
        return y

    def swiglu(self, h: Tensor, g: Tensor, gate: Tensor, up: Tensor) -> Tensor:
        """silu(x·gateᵀ)·(x·upᵀ) with x = rms_norm(h, g)."""
        y = self.buffer("gated", (self.rows, gate.shape[0]), bf16)
        if self.rows <= FEW:
            norm_swiglu(h, g, gate, up, self.eps, y=y)
        else:
            swiglu_rows(self.norm(h, g), gate, up, y=y)
        return y

    def add(self, x: Tensor, w: Tensor, h: Tensor) -> None:
        """h += x·wᵀ."""
        if self.rows <= FEW:
            linear_residual(x, w, h=h)
            return
        parts, depth = _split(self.rows, *w.shape)
        if parts == 1:
            linear_rows_add(x, w, h=h)
            return
        part = self.buffer("part", (parts, *h.shape), f32)
        linear_parts(x, w, part=part, DEPTH=depth)
        sum_parts_add(part, h=h)


def _split(rows: int, width: int, depth: int) -> tuple[int, int]:
    """Into how many stretches to cut the inner axis of a narrow product so that it fills the GPU, and how long each is."""
    side = 64 if rows <= 64 else 128
    programs = -(-rows // side) * -(-width // side)
    if rows > 256 or programs >= MULTIPROCESSORS:
        return 1, depth
    wanted = min(8 if rows <= 16 else 4, -(-2 * MULTIPROCESSORS // programs))
    length = -(-depth // wanted // 256) * 256
    return -(-depth // length), length
