"""Element types that weight matrices may have: plain floats, and block-quantised types, which kernels read as packed."""

from __future__ import annotations

import zellige as zl
from zellige.ir.dtypes import BLOCKED

W = zl.dtypes("W", zl.f32, zl.f16, zl.bf16, *BLOCKED)
