"""Random weights in each element type, packed and as the floats they stand for."""

from __future__ import annotations

import gguf
import ml_dtypes
import numpy as np

import zellige as zl
from zellige.ir.dtypes import ALL

KINDS = {
    "Q8_0": gguf.GGMLQuantizationType.Q8_0,
    "Q4_1": gguf.GGMLQuantizationType.Q4_1,
    "Q4_0": gguf.GGMLQuantizationType.Q4_0,
}
PLAIN = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}


def random_weights(rng: np.random.Generator, rows: int, columns: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """(packed, values): an array as a kernel takes it, and the f32 [rows, columns] that it stands for."""
    values = rng.standard_normal((rows, columns)).astype(np.float32)
    if kind in PLAIN:
        packed = values.astype(PLAIN[kind])
        return packed, packed.astype(np.float32)
    packed = gguf.quants.quantize(values, KINDS[kind])
    return packed, gguf.quants.dequantize(packed, KINDS[kind])


def as_tensor(packed: np.ndarray, kind: str, shape: tuple[int, ...]) -> zl.Tensor:
    """A packed array as a tensor."""
    return zl.borrow(packed) if kind in PLAIN else zl.borrow(packed, ALL[kind], shape)
