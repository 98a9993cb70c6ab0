"""Weights that hold NaN or infinities: found when they are on the device, or when logits are no numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from zellige.diagnostics import ZelligeError
from zellige.ir.dtypes import f16, i32
from zellige.kernels.finite import count_not_finite
from zellige.llm.weights.model_file import ModelFile
from zellige.runtime.execution import Executor, using
from zellige.runtime.tensor import Tensor

_DEPTH = 65536
LARGEST_F16 = 65504.0


def check_weights(model: ModelFile, weights: Iterable[Tensor], executor: Executor) -> None:
    """ZelligeError ZL0611 if a weight on the device (bf16, f16, fp8 or f32) has values that are not numbers; reads each once."""
    counts, largest = [], np.inf
    with using(executor):
        for weight in weights:
            if weight.dtype is f16:
                largest = LARGEST_F16
            size = int(np.prod(weight.shape))
            made = executor.empty((-(-size // _DEPTH),), i32)
            count_not_finite(weight.reshape(size), count=made, DEPTH=_DEPTH)
            counts.append(made)
    if any(int(count.numpy().sum()) for count in counts):
        raise not_finite(model, largest)


def not_finite(model: ModelFile, largest: float = np.inf) -> ZelligeError:
    """The error that names the first tensor of a file with values that are not numbers (or above ``largest``), and where they are."""
    for name, weight in model.tensors.items():
        values = _values(weight)
        wide = values.astype(np.float32)
        wrong = np.flatnonzero(~(np.isfinite(wide) & (np.abs(wide) <= largest)))
        if len(wrong):
            too_large = bool(np.all(np.isfinite(wide)))
            place = tuple(int(i) for i in np.unravel_index(wrong[0], weight.shape))
            return ZelligeError(
                "ZL0611",
                f"tensor {name} has values " + ("too large for fp16" if too_large else "that are not numbers"),
                facts={
                    "file": str(model.path.name),
                    "how many": len(wrong),
                    "first": f"{values.reshape(-1)[wrong[0]]} at {place}",
                },
                help="load it with dtype='bf16'" if too_large else "fetch or convert the model again",
            )
    return ZelligeError(
        "ZL0611",
        "the model's logits are not numbers, though all its weights are",
        facts={"file": str(model.path.name)},
        help="a product has overflowed: the weights are too large for the precision that they run in",
    )


def _values(weight: Any) -> Any:
    import gguf
    import ml_dtypes

    plain = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}
    plain["F8_E4M3"] = np.dtype(ml_dtypes.float8_e4m3fn)
    if weight.kind in plain:
        return weight.data.view(plain[weight.kind]).reshape(weight.shape)
    return gguf.quants.dequantize(weight.data, gguf.GGMLQuantizationType[weight.kind])
