"""Weights of the fused passes: from a model's file, or random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zellige.ir.dtypes import bf16
from zellige.kernels.random import fill_uniform
from zellige.llm.weights.model_file import ModelFile, expert_name
from zellige.runtime.execution import Executor
from zellige.runtime.tensor import Tensor

PARTS = ("attn_q", "attn_k", "attn_v")
"""Of ``attn_qkv``, in order."""


class Loader:
    """Reads the weights of a file as bf16 to the device; unpacks those that are packed."""

    def __init__(self, model: ModelFile, executor: Executor, progress: Callable[[int, int | None], None]) -> None:
        self._model, self._executor, self._progress = model, executor, progress
        self._total = sum(t.nbytes for t in model.tensors.values())
        self._done = 0

    def weight(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The weight of a name as `fused.Weights.made` asks for it."""
        if "attn_qkv" in name:
            values = np.concatenate([self._host(name.replace("attn_qkv", part)) for part in PARTS])
        elif "_exps" in name and name not in self._model.tensors:
            values = np.stack([self._host(expert_name(name, e)) for e in range(shape[0])])
        else:
            values = self._host(name)
        return self._executor.tensor(values.reshape(shape), bf16)

    def rope_factors(self) -> NDArray[np.float32] | None:
        """Divisors of the rotary frequencies, f32 [HD / 2], where the file has them."""
        found = self._model.tensors.get("rope_freqs.weight")
        return None if found is None else found.data.view(np.float32).reshape(-1)

    def _host(self, name: str) -> NDArray[Any]:
        """The weight of that name in bf16, its rotary pairs halves apart."""
        weight, config = self._model.tensor(name), self._model.config
        self._done += weight.nbytes
        self._progress(self._done, self._total)
        values = _as_bf16(weight)
        heads = {"attn_q": config.heads, "attn_k": config.kv_heads}.get(name.split(".")[-2])
        if heads is not None and config.rope_pairs == "interleaved":
            pairs = values.reshape(heads, config.head_dim // 2, 2, -1)
            values = np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape)
        return values


def _as_bf16(weight: Any) -> NDArray[Any]:
    import ml_dtypes

    plain = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}
    if weight.kind in plain:
        return weight.data.view(plain[weight.kind]).reshape(weight.shape).astype(ml_dtypes.bfloat16)
    import gguf

    return gguf.quants.dequantize(weight.data, gguf.GGMLQuantizationType[weight.kind]).astype(ml_dtypes.bfloat16)


def random_weight(executor: Executor, name: str, shape: tuple[int, ...]) -> Tensor:
    """A weight of random values, the same for the same name; norms are 1."""
    made = executor.empty(shape, bf16)
    if "norm" in name:
        made.write(np.ones(shape, np.float32))
    else:
        seed = int.from_bytes(name.encode()[-8:], "little")
        fill_uniform(seed, 1.7 / shape[-1] ** 0.5, y=made.reshape(int(np.prod(shape))))
    return made
