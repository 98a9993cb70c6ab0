"""Element types of weight matrices (plain floats, and block-quantised types, which kernels read as packed) and of what they multiply."""

from __future__ import annotations

import zellige as zl
from zellige import f16
from zellige.ir.dtypes import BLOCKED

W = zl.dtypes("W", zl.f32, zl.f16, zl.bf16, *BLOCKED)

A = zl.dtypes("A", zl.bf16, zl.f16)
"""Of activations: f16 where they meet weights in fp8, which become f16 in one instruction and bf16 in four."""


@zl.inline
def narrow(x, dtype):
    """f32 as activations of ``dtype``; in f16, what is beyond its largest number, 65504, becomes that."""
    return zl.clamp(x, -65504.0, 65504.0).to(f16) if dtype == f16 else x.to(dtype)
