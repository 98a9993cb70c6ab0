"""The 16-bit types of weights and activations: `X` in the kernels of the fused passes."""

from __future__ import annotations

import zellige as zl
from zellige import bf16, f16

X = zl.dtypes("X", bf16, f16)
"""Of weights and of what is multiplied with them, one for a whole pass."""


@zl.inline
def rounded(x, dtype):
    """f32 as ``dtype``; what is beyond the largest f16, 65504, becomes that."""
    return zl.clamp(x, -65504.0, 65504.0).to(f16) if dtype == f16 else x.to(dtype)
