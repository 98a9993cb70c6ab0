"""Random weights in each element type, packed and as the floats they stand for."""

from __future__ import annotations

import gguf
import ml_dtypes
import numpy as np

import zellige as zl
from zellige.ir import dtypes

BLOCKED = tuple(dtype.name for dtype in dtypes.BLOCKED)
PLAIN = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}


def random_weights(rng: np.random.Generator, rows: int, columns: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """(packed, values): an array as a kernel takes it, and the f32 [rows, columns] that it stands for."""
    values = rng.standard_normal((rows, columns)).astype(np.float32)
    if kind in PLAIN:
        packed = values.astype(PLAIN[kind])
        return packed, packed.astype(np.float32)
    packed = random_blocks(rng, rows, columns, kind)
    return packed, gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[kind])


def random_blocks(rng: np.random.Generator, rows: int, columns: int, kind: str, size: float = 1.0) -> np.ndarray:
    """Blocks of arbitrary bits (every pattern is a code, a factor, …) that stand for numbers of about `size` around 0."""
    layout = dtypes.ALL[kind].layout
    assert layout is not None and columns % layout.elements == 0
    blocks = rng.integers(0, 256, (rows, columns // layout.elements, layout.bytes), np.uint8)
    bits = sum(plane.bits for plane in layout.codes.planes)
    factor = 1 if layout.factors is None else 1 << sum(plane.bits for plane in layout.factors.planes) - 1
    scale = size / factor / (1 << bits - 1) * rng.uniform(0.5, 1.5, blocks.shape[:-1])
    middle = 0 if layout.minimum is None else -layout.minimum_sign * scale * ((1 << bits) - 1) / 2
    for place, value in ((layout.scale, scale), (layout.minimum, middle)):
        if place is not None:
            blocks[..., place : place + 2] = np.asarray(value, np.float16)[..., None].view(np.uint8)
    return blocks.reshape(rows, -1)


def granule(kind: str) -> int:
    """The fewest elements that a row has, and divides into."""
    return 1 if kind in PLAIN else dtypes.ALL[kind].block


def as_tensor(packed: np.ndarray, kind: str, shape: tuple[int, ...]) -> zl.Tensor:
    """A packed array as a tensor."""
    return zl.borrow(packed) if kind in PLAIN else zl.borrow(packed, dtypes.ALL[kind], shape)
